"""Noise schedules of denoising diffusion: how much of the data is left after each step.

======================  =======================================
symbol in the papers    name here
======================  =======================================
d, t_diff               ``diffusion_step``, 0 (data) … T (noise)
T                       ``n_diffusion_steps``
β_d                     ``1 − alpha_bar[d] / alpha_bar[d − 1]``
ᾱ_d                     ``alpha_bar[d]``
======================  =======================================

References
----------
.. [1] Ho, Jain, Abbeel, Denoising diffusion probabilistic models, arXiv:2006.11239, eq. 4.
.. [2] ITO, arXiv:2305.18046: sigmoid schedule. BoPITO, arXiv:2410.10605: polynomial schedule.
.. [3] Hoogeboom et al., Equivariant diffusion for molecule generation in 3D, arXiv:2203.17003, appendix B: the
   polynomial schedule and its clipping.
.. [4] Nichol, Dhariwal, Improved denoising diffusion probabilistic models, arXiv:2102.09672, eq. 17: cosine.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import mul
from typing import Literal, get_args

import torch
from torch import Tensor

from tito_fast.validation import check_at_least, check_choice

NoiseScheduleName = Literal["sigmoid", "polynomial", "cosine"]
NOISE_SCHEDULES: tuple[NoiseScheduleName, ...] = get_args(NoiseScheduleName)

_SIGMOID_ENDS = (-8.0, -4.0)
_POLYNOMIAL_OFFSET = 1e-4
_SMALLEST_RATIO = 1e-3
_COSINE_OFFSET = 0.008
# The number of steps that the released solver has in its label of time, whatever the model was trained with.
_RELEASED_LABELS = 1000.0


@dataclass(frozen=True)
class NoiseSchedule:
    """Share of the data's variance after each diffusion step.

    ``x_d = sqrt(alpha_bar[d]) x + sqrt(1 − alpha_bar[d]) noise`` for d = 0 … T, in training and in every solver.

    Parameters
    ----------
    name : "sigmoid" | "polynomial" | "cosine"
        ``sigmoid``: ``beta_d = sigmoid(ℓ_d)`` with ℓ uniform from −8 to −4, d = 1 … T; ``polynomial``:
        ``(1 − 2s) clip((1 − u²)²) + s`` with u = d/T, s = 1e-4 and ratios of neighbors clipped to at least 1e-3;
        ``cosine``: ``cos²(π/2 (u + 0.008)/1.008)`` over its value at 0, with the same clipping.
    n_diffusion_steps : int
        T.
    released : bool
        Indices as in the released code of ITO and BoPITO, for weights trained with it: training draws d from
        1 … T − 1, the solvers are one step off (see Notes), and the cosine has a factor π too few in its
        argument, so that it ends at cos²(1/2) = 0.77.

    Raises
    ------
    ValueError
        If the name is not known or T below 2.

    Notes
    -----
    With ``released`` the ancestral sampler takes the T − 1 steps d = T − 1 … 1 with the ratio
    ``alpha_bar[d + 1] / alpha_bar[d]`` of the step above; DPM-Solver sees the level
    ``alpha_bar[d] / alpha_bar[0]`` and tells the network that it is at ``1000 (d − 1) / T``.
    """

    name: NoiseScheduleName = "sigmoid"
    n_diffusion_steps: int = 1000
    released: bool = False

    def __post_init__(self) -> None:
        """Check ranges."""
        check_choice("noise_schedule", self.name, NOISE_SCHEDULES)
        check_at_least("n_diffusion_steps", self.n_diffusion_steps, 2)

    @property
    def levels(self) -> tuple[float, ...]:
        """``alpha_bar`` as T + 1 host numbers."""
        return _levels(self.name, self.n_diffusion_steps, self.released)

    @property
    def alpha_bar(self) -> Tensor:
        """Share of the data after each step, (n_diffusion_steps + 1,) float64; a new tensor.

        The first is 1; with ``released`` it is the authors', 1 − 1e-4 for the polynomial and 0.99998 for the cosine.
        """
        return torch.tensor(self.levels, dtype=torch.float64)

    @property
    def last_training_step(self) -> int:
        """Largest d that training draws; the smallest is 1."""
        return self.n_diffusion_steps - 1 if self.released else self.n_diffusion_steps

    def alpha_bar_at(self, diffusion_step: Tensor) -> Tensor:
        """Return ``alpha_bar`` at steps that need not be whole: log-linear between neighbors.

        Parameters
        ----------
        diffusion_step : Tensor, any shape, integer or floating
            In [0, n_diffusion_steps]; not checked.

        Returns
        -------
        Tensor, shape and device of ``diffusion_step``, float64

        Notes
        -----
        Equal to the table where steps are whole. No host synchronization after the first call on a device.
        """
        table = _table(self.name, self.n_diffusion_steps, self.released, diffusion_step.device)
        step = diffusion_step.to(torch.float64)
        below = step.floor().clamp(0, self.n_diffusion_steps - 1)
        index = below.to(torch.int64)
        left, right = table[index], table[index + 1]
        interpolated = left * (right / left) ** (step - below)
        return torch.where(step == below + 1, right, interpolated)

    def solver_level(self, diffusion_step: float) -> float:
        """Return the level that DPM-Solver assumes at a step that need not be whole, in [0, T]."""
        below = min(int(diffusion_step), self.n_diffusion_steps - 1)
        left, right = self.levels[below], self.levels[below + 1]
        level = left * math.pow(right / left, diffusion_step - below)
        return level / self.levels[0]

    def network_step(self, diffusion_step: float) -> float:
        """Return what DPM-Solver tells the network of ``diffusion_step``: the step itself, unless released."""
        if not self.released:
            return diffusion_step
        return _RELEASED_LABELS * (diffusion_step - 1.0) / self.n_diffusion_steps


@lru_cache(maxsize=64)
def _levels(name: NoiseScheduleName, n_steps: int, released: bool) -> tuple[float, ...]:
    if name == "sigmoid":
        return _sigmoid_levels(n_steps)
    if name == "polynomial":
        return _polynomial_levels(n_steps, released=released)
    return _cosine_levels(n_steps, released=released)


@lru_cache(maxsize=64)
def _table(name: NoiseScheduleName, n_steps: int, released: bool, device: torch.device) -> Tensor:
    return torch.tensor(_levels(name, n_steps, released), dtype=torch.float64, device=device)


def _sigmoid_levels(n_steps: int) -> tuple[float, ...]:
    first, last = _SIGMOID_ENDS
    spacing = (last - first) / (n_steps - 1)
    kept = (1.0 / (1.0 + math.exp(first + spacing * index)) for index in range(n_steps))
    return tuple(accumulate(kept, mul, initial=1.0))


def _polynomial_levels(n_steps: int, *, released: bool) -> tuple[float, ...]:
    raw = [(1.0 - (step / n_steps) ** 2) ** 2 for step in range(n_steps + 1)]
    share, offset = 1.0 - 2.0 * _POLYNOMIAL_OFFSET, _POLYNOMIAL_OFFSET
    levels = [share * value + offset for value in _clipped(raw)]
    # Nothing is lost at step 0; the authors' table starts at 1 − s.
    return tuple(levels if released else [1.0, *levels[1:]])


def _cosine_levels(n_steps: int, *, released: bool) -> tuple[float, ...]:
    quarter = 0.5 if released else math.pi / 2
    arguments = [
        quarter * (step / n_steps + _COSINE_OFFSET) / (1.0 + _COSINE_OFFSET)
        for step in range(n_steps + 1)
    ]
    raw = [math.cos(argument) ** 2 for argument in arguments]
    return tuple(raw if released else _clipped([value / raw[0] for value in raw]))


def _clipped(raw: list[float]) -> list[float]:
    """Return levels whose ratio to the one before is at least ``_SMALLEST_RATIO``, so that none is zero."""
    levels = [raw[0]]
    for before, value in pairwise(raw):
        ratio = max(value / before, _SMALLEST_RATIO) if before > 0 else _SMALLEST_RATIO
        levels.append(levels[-1] * ratio)
    return levels
