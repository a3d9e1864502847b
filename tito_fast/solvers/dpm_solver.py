"""DPM-Solver++(2M): the diffusion's ordinary differential equation in tens of evaluations.

====================  ===============================================
symbol in the paper   name here
====================  ===============================================
α_t, σ_t              ``alpha = sqrt(level)``, ``sigma = sqrt(1 − level)``
λ_t                   ``half_log_snr = ln(alpha / sigma)``
h, r                  differences of ``half_log_snr`` and their ratio
x_θ                   ``data = (x_d − sigma noise) / alpha``
====================  ===============================================
"""

import math
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from tito_fast.solvers.diffusion_base import DiffusionSchedule, NoiseField
from tito_fast.validation import check_at_least

# With fewer steps the last is of first order: the extrapolation of a long step is worse than none.
_FEW_STEPS = 10
# Below this level the data is no more than the network's error over alpha; only the cosine schedule goes there, and
# the grid then starts a little later, at 0.995 T, as DPM-Solver does with it.
_LOWEST_LEVEL = 5e-5


class MultistepStep(NamedTuple):
    """``x ← x_share · x + data_share · ((1 + weight) data − weight · previous data)``."""

    network_step: float
    alpha: float
    sigma: float
    x_share: float
    data_share: float
    previous_weight: float


def dpm_solver_sample(
    field: NoiseField,
    x_T: Tensor,  # noqa: N803  the state at step T
    *,
    schedule: DiffusionSchedule,
    n_steps: int,
) -> Tensor:
    """Return the solution at the lowest noise level, step 1, that starts from ``x_T`` at step T.

    Parameters
    ----------
    field : NoiseField
    x_T : Tensor, shape (n_rows, …)
        Standard normal values.
    schedule : NoiseSchedule
    n_steps : int
        Steps and evaluations, uniform in the diffusion step, which is not rounded, from T to 1 (the cosine
        schedule, where nothing of the data is left at T: from the last step with ``alpha_bar`` above 5e-5).

    Returns
    -------
    Tensor, as ``x_T``
        A sample of the data with the noise of diffusion step 1.

    Raises
    ------
    ValueError
        If ``n_steps`` is below 1.

    Notes
    -----
    The first step is of first order, and the last if there are fewer than 10; the others are of second. No host
    synchronization: coefficients are host numbers.

    References
    ----------
    Lu et al., DPM-Solver++, arXiv:2211.01095, algorithm 2.
    """
    x_d, previous = x_T, None
    for evaluation, step in enumerate(multistep_steps(schedule, n_steps=n_steps)):
        noise = field(x_d, step.network_step, evaluation)
        data = (x_d - step.sigma * noise) / step.alpha
        weight = step.previous_weight
        # A weight of zero takes no part: the first step has no data before it.
        extrapolated = data if previous is None else (1.0 + weight) * data - weight * previous
        x_d = step.x_share * x_d + step.data_share * extrapolated
        previous = data
    return x_d


def multistep_steps(schedule: DiffusionSchedule, *, n_steps: int) -> tuple[MultistepStep, ...]:
    """Return the coefficients of every step; arguments as in ``dpm_solver_sample``."""
    check_at_least("n_steps", n_steps, 1)
    length = _first_step(schedule) - 1
    grid = [1.0 + length * (n_steps - index) / n_steps for index in range(n_steps + 1)]
    points = [_Point.at(schedule, step) for step in grid]
    steps: list[MultistepStep] = []
    size_before = 0.0
    for index, (start, end) in enumerate(pairwise(points)):
        size = end.half_log_snr - start.half_log_snr
        is_first_order = index == 0 or (index == n_steps - 1 and n_steps < _FEW_STEPS)
        steps.append(
            MultistepStep(
                network_step=schedule.network_step(grid[index]),
                alpha=start.alpha,
                sigma=start.sigma,
                x_share=end.sigma / start.sigma,
                data_share=-end.alpha * math.expm1(-size),
                previous_weight=0.0 if is_first_order else 0.5 * size / size_before,
            )
        )
        size_before = size
    return tuple(steps)


def _first_step(schedule: DiffusionSchedule) -> int:
    """Return the largest step where enough of the data is left to start from."""
    steps = range(schedule.n_diffusion_steps, 2, -1)
    return next((step for step in steps if schedule.solver_level(step) >= _LOWEST_LEVEL), 2)


class _Point(NamedTuple):
    alpha: float
    sigma: float
    half_log_snr: float

    @classmethod
    def at(cls, schedule: DiffusionSchedule, diffusion_step: float) -> "_Point":
        level = schedule.solver_level(diffusion_step)
        alpha, sigma = math.sqrt(level), math.sqrt(1.0 - level)
        return cls(alpha, sigma, math.log(alpha / sigma))
