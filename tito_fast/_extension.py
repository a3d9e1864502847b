"""Load the compiled module ``tito_fast._C``. The only place that does."""

import importlib
from functools import cache
from types import ModuleType

from tito_fast.errors import BackendUnavailableError


@cache
def _load() -> tuple[ModuleType | None, str]:
    try:
        # By name, so that type checkers and import graphs do not follow a module without source.
        return importlib.import_module("tito_fast._C"), ""
    except ImportError as error:
        return None, f"tito_fast._C cannot be loaded: {error}; install with 'pip install .'"


def native_module() -> ModuleType:
    """Return the compiled module.

    Raises
    ------
    BackendUnavailableError
        The module is missing or cannot be loaded; the message gives the loader's reason.
    """
    module, reason = _load()
    if module is None:
        raise BackendUnavailableError(reason)
    return module


def native_cpu_problem() -> str:
    """Return why the CPU kernels cannot run here, or an empty string."""
    return _load()[1]


@cache
def native_cuda_problem() -> str:
    """Return why the CUDA kernels cannot run here, or an empty string."""
    module, reason = _load()
    return reason if module is None else str(module.cuda_unavailable_reason())


def build_info() -> dict[str, object]:
    """Describe the compiled module.

    Returns
    -------
    dict
        ``compiler``, ``baseline`` (what every file is compiled for), ``best_isa`` (the best instruction set
        that was built and runs here), ``isa`` (the one in use: the best, or what the environment variable
        ``TITO_FAST_ISA`` names), ``openmp``, ``cuda`` (were CUDA kernels built), and, where they were,
        ``cuda_version`` of the toolkit, ``cuda_architectures`` and ``cuda_oldest_driver`` that runs
        them (else ``None``).

    Raises
    ------
    BackendUnavailableError
        The module is missing or cannot be loaded.
    """
    return dict(native_module().build_info())
