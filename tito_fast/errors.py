"""Errors that are not plain ``ValueError`` or ``TypeError``."""


class BackendUnavailableError(RuntimeError):
    """A backend that was asked for by name cannot run here; the message says why."""


class CapacityError(RuntimeError):
    """A buffer of a fixed size is too small; the message says how much was needed."""


class NonFiniteError(RuntimeError):
    """A computation produced NaN or infinity; the message says where and what was kept."""


class ProcessLostError(RuntimeError):
    """Another process of the run ended before its work was done; the message says which, and what was kept."""
