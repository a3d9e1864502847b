"""Boltzmann priors for transfer operators: equilibrium and dynamics are separate terms of one field.

A field is a prediction of noise, a score or a velocity; each is separated alike.

| symbol in the paper | name here |
|---|---|
| s_eq, s_dyn | `equilibrium`, `dynamic` |
| N, N_max | `lag_steps`, `max_lag_steps` |
| λ̂ | `decay` |
| λ̂^N | `dynamic_weight` |
| N_int | `LagStep.interpolation` |

References
----------
.. [1] BoPITO, arXiv:2410.10605: s = s_eq + λ̂^N s_dyn, and the interpolator, which has N_int for N in the power.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tito_fast.validation import check_at_least


def dynamic_weight(lag_steps: Tensor | float, decay: Tensor | float) -> Tensor:
    """Return ``decay ** lag_steps``, the share of the dynamic term, in float64.

    The true lag decides, however long; only what the network is told is capped (`capped_lag`). In float32 the power
    of a decay close to one would lose digits with every step.

    Parameters
    ----------
    lag_steps : Tensor of any shape and number type, or float
        Zero or more, in frames; not whole where it is interpolated.
    decay : Tensor that broadcasts with ``lag_steps``, or float
        Above 0 and below 1. Gradients flow into a tensor.

    Returns
    -------
    Tensor, float64, of the broadcast shape

    Raises
    ------
    ValueError
        If a decay is not between 0 and 1, or a lag is negative.

    Notes
    -----
    Reads both arguments on the host to check them.

    References
    ----------
    BoPITO, arXiv:2410.10605, the factor λ̂^N.

    Examples
    --------
    >>> dynamic_weight(torch.tensor([0, 1, 2]), 0.5).tolist()
    [1.0, 0.5, 0.25]
    """
    powers = torch.as_tensor(lag_steps, dtype=torch.float64)
    bases = torch.as_tensor(decay, dtype=torch.float64, device=powers.device)
    check_decay(bases)
    if powers.numel() and not bool((powers >= 0).all()):
        raise ValueError(f"lag_steps: expected zero or more, got {powers.min().item():g}")
    return bases**powers


def check_decay(decay: Tensor | float) -> None:
    """Raise ``ValueError`` unless every ``decay`` lies between 0 and 1, both excluded."""
    values = torch.as_tensor(decay).detach()
    inside = (values > 0) & (values < 1)
    if not bool(inside.all()):
        value = values[~inside].reshape(-1)[0].item()
        raise ValueError(f"decay: expected a value above 0 and below 1, got {value:g}")


def decay_of_timescale(timescale: float) -> float:
    """Return ``exp(−1 / timescale)``, the decay per frame of a process of that many frames.

    Raises
    ------
    ValueError
        If ``timescale`` is not finite and above zero.

    Examples
    --------
    >>> round(decay_of_timescale(166.2), 4)
    0.994
    """
    if not math.isfinite(timescale) or timescale <= 0:
        raise ValueError(f"timescale: expected a value above zero, got {timescale:g}")
    return math.exp(-1.0 / timescale)


def capped_lag(lag_steps: Tensor, max_lag_steps: int) -> Tensor:
    """Return ``min(lag_steps, max_lag_steps)``: the lag that the dynamic network is told.

    Parameters
    ----------
    lag_steps : Tensor, any shape and number type
    max_lag_steps : int
        The longest lag that the network saw in training; one or more.

    Returns
    -------
    Tensor, as ``lag_steps``

    Raises
    ------
    ValueError
        If ``max_lag_steps`` is below one.
    """
    check_at_least("max_lag_steps", max_lag_steps, 1)
    return lag_steps.clamp(max=max_lag_steps)


def separate(equilibrium: Tensor, dynamic: Tensor, weight: Tensor | float) -> Tensor:
    """Return ``equilibrium + weight dynamic``.

    Parameters
    ----------
    equilibrium, dynamic : Tensor, shape (n, ...)
        The two terms; gradients flow into both.
    weight : Tensor of no or more leading dimensions of the terms, or float
        `dynamic_weight`; rounded to the type of the terms only here.

    Returns
    -------
    Tensor, as ``equilibrium``

    Raises
    ------
    ValueError
        If the terms differ in shape, or the weight's shape is not that of their first dimensions.

    References
    ----------
    BoPITO, arXiv:2410.10605: s_θ = s_eq + λ̂^N s_dyn.
    """
    if equilibrium.shape != dynamic.shape:
        raise ValueError(
            f"dynamic: expected shape {tuple(equilibrium.shape)}, got {tuple(dynamic.shape)}"
        )
    factor = torch.as_tensor(weight, device=equilibrium.device)
    if factor.shape != equilibrium.shape[: factor.ndim]:
        raise ValueError(
            f"weight: expected the first sizes of {tuple(equilibrium.shape)}, got {tuple(factor.shape)}"
        )
    trailing = (1,) * (equilibrium.ndim - factor.ndim)
    return equilibrium + factor.to(equilibrium.dtype).reshape(*factor.shape, *trailing) * dynamic


@dataclass(frozen=True)
class LagStep:
    """One application of the model.

    Parameters
    ----------
    lag_steps : int
        In frames; one or more.
    interpolation : float or None
        N_int: the power of the decay in place of ``lag_steps``, for a model whose own long lags are biased. Zero or
        more, infinite for equilibrium. None: the lag itself.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    lag_steps: int
    interpolation: float | None = None

    def __post_init__(self) -> None:
        check_at_least("lag_steps", self.lag_steps, 1)
        if self.interpolation is not None and not self.interpolation >= 0:
            raise ValueError(f"interpolation: expected zero or more, got {self.interpolation:g}")

    @property
    def power(self) -> float:
        """The power of the decay."""
        return float(self.lag_steps) if self.interpolation is None else self.interpolation


@dataclass(frozen=True)
class LagSchedule:
    """Applications of the model one after the other, each on the sample of the one before.

    Short plain steps after a long interpolated one relax what the interpolation left in between.

    Parameters
    ----------
    steps : tuple of LagStep
        At least one. Pairs ``(lag_steps, interpolation)`` and whole numbers are taken as steps by `of`.

    Examples
    --------
    >>> schedule = LagSchedule.of([(1000, 2500.0), 10, 10])
    >>> [(step.lag_steps, step.power) for step in schedule]
    [(1000, 2500.0), (10, 10.0), (10, 10.0)]
    """

    steps: tuple[LagStep, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps: expected at least one, got none")

    @classmethod
    def of(cls, steps: Iterable[int | tuple[int, float | None] | LagStep]) -> "LagSchedule":
        """Return the schedule of lags, pairs ``(lag_steps, interpolation)`` or steps."""
        return cls(
            tuple(
                step
                if isinstance(step, LagStep)
                else LagStep(*step)
                if isinstance(step, tuple)
                else LagStep(step)
                for step in steps
            )
        )

    def __iter__(self) -> Iterator[LagStep]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def total_power(self) -> float:
        """The frames that the schedule stands for: the sum of the powers."""
        return sum(step.power for step in self.steps)
