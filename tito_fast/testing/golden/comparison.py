"""One quantity, computed here and recorded there: the error, what is allowed, and the verdict."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import torch
from torch import Tensor


class Quantity(StrEnum):
    """Kinds of quantities; each has its tolerance."""

    VELOCITY = "velocity"
    TRAJECTORY = "trajectory"
    LOSS = "loss"
    INTERMEDIATE = "intermediate"
    GRADIENT = "gradient"
    LOSS_CURVE = "loss curve"
    TRAINED_PARAMETERS = "trained parameters"
    EXACT = "exact"


TOLERANCES: Final[dict[Quantity, dict[str, float]]] = {
    Quantity.VELOCITY: {"float64": 1e-10, "float32": 2e-5},
    # States, velocities on the way and frames of a trajectory: errors grow over the steps.
    Quantity.TRAJECTORY: {"float64": 1e-10, "float32": 5e-5},
    Quantity.LOSS: {"float64": 1e-10, "float32": 2e-5},
    # Features, encodings, distances, coupled and centred coordinates, the interpolant.
    Quantity.INTERMEDIATE: {"float64": 1e-10, "float32": 2e-5},
    # Gradients and their norms, each relative to its own parameter's.
    Quantity.GRADIENT: {"float64": 1e-8, "float32": 1e-4},
    Quantity.LOSS_CURVE: {"float64": 1e-7, "float32": 1e-3},
    # Recorded in float32. Adam steps by the sign of a gradient, so that one of the size of its
    # rounding error may go either way: in float32 five steps of 1e-3 differ by up to 1e-2.
    Quantity.TRAINED_PARAMETERS: {"float64": 1e-6, "float32": 1e-2},
    # Indices, types, weights that were read from a file.
    Quantity.EXACT: {"float64": 0.0, "float32": 0.0},
}
"""Largest allowed error relative to the largest recorded value, by kind of quantity and dtype."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """The verdict on one quantity.

    Parameters
    ----------
    dtype : str
        ``float32``, ``float64``, or ``-`` where no floating type takes part.
    name : str
        As in the recording.
    error : float or None
        Largest absolute error over the largest recorded value; None: the backend does not compute
        the quantity.
    tolerance : float
    note : str
        What the number alone does not say.
    """

    dtype: str
    name: str
    error: float | None
    tolerance: float = 0.0
    note: str = ""

    @property
    def is_compared(self) -> bool:
        """Whether there was something to compare."""
        return self.error is not None

    @property
    def is_failed(self) -> bool:
        """Whether the error is above the tolerance; an error that is NaN is."""
        return self.error is not None and not self.error <= self.tolerance

    def __str__(self) -> str:
        """Return the line as it is printed."""
        note = f"  ({self.note})" if self.note else ""
        if self.error is None:
            return f"{self.dtype:<7}  {self.name:<50}  {'-':>9}  {'-':>7}  not computed{note}"
        verdict = "FAIL" if self.is_failed else "ok"
        return (
            f"{self.dtype:<7}  {self.name:<50}  {self.error:>9.2e}  {self.tolerance:>7.0e}  "
            f"{verdict}{note}"
        )


def relative_error(computed: Tensor, recorded: Tensor) -> float:
    """Return ``max|computed − recorded| / max|recorded|``, in float64 on the host.

    Infinite where the shapes differ, NaN where a value is; absolute where everything recorded is
    zero; zero for tensors without elements.
    """
    if computed.shape != recorded.shape:
        return float("inf")
    if recorded.numel() == 0:
        return 0.0
    ours = computed.detach().to("cpu", torch.float64)
    theirs = recorded.detach().to("cpu", torch.float64)
    scale = float(theirs.abs().max())
    return float((ours - theirs).abs().max()) / (scale or 1.0)


def compare(
    name: str,
    computed: Tensor | None,
    recorded: Tensor,
    *,
    dtype: str,
    quantity: Quantity,
    note: str = "",
) -> Line:
    """Return the verdict on ``name``; ``computed`` None: not computed."""
    if computed is None:
        return not_computed(name, dtype=dtype)
    if computed.shape != recorded.shape:
        note = f"shape {tuple(recorded.shape)} recorded, {tuple(computed.shape)} computed"
    return Line(
        dtype=dtype,
        name=name,
        error=relative_error(computed, recorded),
        tolerance=TOLERANCES[quantity][dtype],
        note=note,
    )


def compare_exactly(name: str, n_different: int, *, dtype: str = "-", note: str = "") -> Line:
    """Return the verdict on something that must be equal: the error is how much is not."""
    return Line(dtype=dtype, name=name, error=float(n_different), note=note if n_different else "")


def worst(
    name: str, errors: dict[str, float], *, dtype: str, quantity: Quantity, n_skipped: int = 0
) -> Line:
    """Return one verdict on ``errors`` of many tensors: the largest, with the name that has it."""
    if not errors:
        return not_computed(name, dtype=dtype)
    # NaN is the worst of all, and max() alone would miss it.
    culprit = max(
        errors, key=lambda key: float("inf") if errors[key] != errors[key] else errors[key]
    )
    skipped = f", {n_skipped} not parameters here" if n_skipped else ""
    return Line(
        dtype=dtype,
        name=name,
        error=errors[culprit],
        tolerance=TOLERANCES[quantity][dtype],
        note=f"worst of {len(errors)}: {culprit}{skipped}",
    )


def failed(name: str, *, dtype: str, quantity: Quantity, note: str) -> Line:
    """Return the line of a quantity that cannot be compared because something before it is wrong."""
    return Line(
        dtype=dtype,
        name=name,
        error=float("inf"),
        tolerance=TOLERANCES[quantity][dtype],
        note=note,
    )


def not_computed(name: str, *, dtype: str) -> Line:
    """Return the line of a quantity that the backend does not compute."""
    return Line(dtype=dtype, name=name, error=None)
