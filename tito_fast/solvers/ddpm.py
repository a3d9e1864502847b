"""Ancestral sampling of denoising diffusion models."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from tito_fast.solvers.diffusion_base import DiffusionSchedule, NoiseField, check_n_steps


class AncestralStep(NamedTuple):
    """``x ← (x − noise_share · noise) · scale + added_std · normals``."""

    diffusion_step: int
    noise_share: float
    scale: float
    added_std: float


def ddpm_sample(
    field: NoiseField,
    x_T: Tensor,  # noqa: N803  the state at step T
    *,
    schedule: DiffusionSchedule,
    normals: Callable[[int], Tensor],
    n_steps: int | None = None,
) -> Tensor:
    """Return a sample of the data: every diffusion step back, or ``n_steps`` longer ones.

    With ``a = alpha_bar[d] / alpha_bar[e]`` from step d to the step e before it on the grid,
    ``x_e = (x_d − (1 − a) / sqrt(1 − alpha_bar[d]) noise(x_d, d)) / sqrt(a) + sqrt(1 − a) normals``,
    and nothing is added in the last step, which ends at d = 0.

    Parameters
    ----------
    field : NoiseField
    x_T : Tensor, shape (n_rows, …)
        Standard normal values.
    schedule : NoiseSchedule
    normals : callable
        Standard normal values like ``x_T`` for an evaluation's number; not called for the last step.
    n_steps : int or None
        Steps and evaluations, at most T; None: all of them.

    Returns
    -------
    Tensor, as ``x_T``

    Raises
    ------
    ValueError
        If ``n_steps`` is below 1 or above T, or set for a released schedule, which has but one grid.

    Notes
    -----
    With ``schedule.released`` the T − 1 steps of the released code: see ``NoiseSchedule``. No host synchronization:
    coefficients are host numbers.

    References
    ----------
    Ho, Jain, Abbeel, arXiv:2006.11239, algorithm 2 with σ² = β; longer steps as in Nichol, Dhariwal,
    arXiv:2102.09672, section 4.
    """
    x_d = x_T
    for evaluation, step in enumerate(ancestral_steps(schedule, n_steps=n_steps)):
        noise = field(x_d, float(step.diffusion_step), evaluation)
        x_d = (x_d - step.noise_share * noise) * step.scale
        if step.added_std:
            x_d = x_d + step.added_std * normals(evaluation)
    return x_d


def ancestral_steps(
    schedule: DiffusionSchedule, *, n_steps: int | None = None
) -> tuple[AncestralStep, ...]:
    """Return the coefficients of every step; arguments as in ``ddpm_sample``."""
    levels, n_diffusion_steps = schedule.levels, schedule.n_diffusion_steps
    if schedule.released:
        if n_steps not in (None, n_diffusion_steps - 1):
            raise ValueError(
                f"n_steps: expected {n_diffusion_steps - 1} with released indices, got {n_steps}; "
                "use dpm-solver++ for fewer"
            )
        return tuple(_released_steps(levels))
    count = n_diffusion_steps if n_steps is None else n_steps
    check_n_steps(count, n_diffusion_steps)
    # Whole steps as evenly spread as they can be; all of them differ, since there are at most T.
    grid = [n_diffusion_steps * (count - index) // count for index in range(count + 1)]
    return tuple(
        _ancestral_step(
            start,
            level=levels[start],
            ratio=levels[start] / levels[end],
            is_last=end == 0,
        )
        for start, end in pairwise(grid)
    )


def _released_steps(levels: tuple[float, ...]) -> Iterator[AncestralStep]:
    for step in range(len(levels) - 2, 0, -1):
        ratio = levels[step + 1] / levels[step]
        yield _ancestral_step(step, level=levels[step], ratio=ratio, is_last=False)


def _ancestral_step(step: int, *, level: float, ratio: float, is_last: bool) -> AncestralStep:
    return AncestralStep(
        diffusion_step=step,
        noise_share=(1.0 - ratio) / math.sqrt(1.0 - level),
        scale=1.0 / math.sqrt(ratio),
        added_std=0.0 if is_last else math.sqrt(1.0 - ratio),
    )
