"""Finding the frames of an unevenly written trajectory that are evenly spaced in time."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tito_fast.data.molecule import FloatArray, IntArray
from tito_fast.validation import check_at_least

# Reporters repeat after some ten frames, so a few thousand frames show the pattern.
_N_SAMPLE: Final = 4096
_N_PAIRED: Final = 256
_N_CANDIDATES: Final = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class RegularGrid:
    """Frames on a regular grid.

    Parameters
    ----------
    spacing_steps : int
        Integration steps from one kept frame to the next.
    runs : tuple of ndarray, int64
        Indices of the kept frames, one array for every stretch without a gap, in order of time.
    """

    spacing_steps: int
    runs: tuple[IntArray, ...]


def regular_grid(steps: IntArray, *, spacing_steps: int | None = None) -> RegularGrid:
    """Return the largest set of frames whose ``steps`` are a regular grid.

    A grid is all frames with equal ``steps % spacing_steps``; it is chosen for its longest stretch
    without a gap, the earliest of several equal ones. Without a spacing, the first frames tell it
    in the same way.

    Parameters
    ----------
    steps : ndarray, shape (n_frames,), int64
        Integration step of every frame.
    spacing_steps : int, optional
        Spacing that is wanted.

    Raises
    ------
    ValueError
        If ``steps`` does not rise, or no two frames are the spacing apart.
    """
    steps = np.asarray(steps, dtype=np.int64)
    rises = np.diff(steps) > 0
    if not rises.all():
        first = int(np.argmin(rises)) + 1
        raise ValueError(
            f"steps: expected rising times, got frame {first} at step {steps[first]} "
            f"after step {steps[first - 1]}"
        )
    if steps.shape[0] < 2:
        raise ValueError(f"steps: expected at least two frames, got {steps.shape[0]}")
    spacing = _spacing(steps[:_N_SAMPLE]) if spacing_steps is None else spacing_steps
    check_at_least("spacing_steps", spacing, 1)
    runs = _runs(steps, spacing)
    longest = min(runs, key=lambda run: (-run.shape[0], int(run[0])))
    if longest.shape[0] < 2:
        raise ValueError(f"steps: expected frames {spacing} steps apart, got none")
    residue = steps[longest[0]] % spacing
    grid = [run for run in runs if steps[run[0]] % spacing == residue]
    return RegularGrid(spacing_steps=spacing, runs=tuple(sorted(grid, key=lambda run: int(run[0]))))


def integer_steps(
    times_ps: FloatArray, steps: IntArray | None, *, quantum_ps: float = 1e-4
) -> tuple[IntArray, float]:
    """Return the step of every frame and the time of one step in ps.

    Parameters
    ----------
    times_ps : ndarray, shape (n_frames,)
    steps : ndarray, shape (n_frames,), or None
        Step numbers where the source has them; otherwise times are counted in ``quantum_ps``.
    quantum_ps : float
        Finest difference between times that counts.

    Raises
    ------
    ValueError
        If the shapes differ, or time and step number are not proportional.
    """
    times_ps = np.asarray(times_ps, dtype=np.float64)
    if steps is None:
        return np.rint(times_ps / quantum_ps).astype(np.int64), quantum_ps
    steps = np.asarray(steps, dtype=np.int64)
    if steps.shape != times_ps.shape or steps.ndim != 1:
        raise ValueError(f"step: expected shape {times_ps.shape} as time, got {steps.shape}")
    if steps.shape[0] < 2 or steps[-1] <= steps[0]:
        raise ValueError(f"step: expected at least two rising steps, got {steps.shape[0]} frames")
    step_ps = float(f"{(times_ps[-1] - times_ps[0]) / (steps[-1] - steps[0]):.6g}")
    off = np.abs(times_ps - times_ps[0] - (steps - steps[0]) * step_ps)
    # Half a step of rounding in `time`, and 1e-6 of its value as accumulated by a simulation.
    if not step_ps > 0 or (off > 0.5 * step_ps + 1e-6 * np.abs(times_ps)).any():
        worst = int(np.argmax(off))
        raise ValueError(
            f"time: expected {step_ps:g} ps for every step, got {times_ps[worst]:g} ps at step "
            f"{steps[worst]} (frame {worst})"
        )
    return steps, step_ps


def _spacing(steps: IntArray) -> int:
    head = steps[:_N_PAIRED]
    differences = (head[None, :] - head[:, None])[np.triu_indices(head.shape[0], k=1)]
    values, counts = np.unique(differences, return_counts=True)
    # Stable, so that of equally frequent differences the smallest comes first.
    candidates = values[np.argsort(-counts, kind="stable")][:_N_CANDIDATES]
    longest = [max(run.shape[0] for run in _runs(steps, int(c))) for c in candidates]
    return int(candidates[int(np.argmax(longest))])


def _runs(steps: IntArray, spacing: int) -> list[IntArray]:
    order = np.lexsort((steps, steps % spacing))
    breaks = np.flatnonzero(np.diff(steps[order]) != spacing) + 1
    return np.split(order, breaks)
