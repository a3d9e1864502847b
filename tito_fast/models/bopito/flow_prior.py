"""A flow as the equilibrium term of a diffusion: its velocity as the noise of a diffusion step.

Both blend data with normal noise. x_d = √ᾱ x_1 + √(1−ᾱ) ε is the interpolant x_t = t x_1 + (1−t) b ε, scaled, at
the flow time at which both have the same share of noise:

| formula | name here |
|---|---|
| t = r b / (1 + r b) with r = √ᾱ / √(1−ᾱ) | `FlowPoint.flow_time` |
| c = √ᾱ / t, x_d = c x_t | `FlowPoint.scale` |
| ε̂ = E[ε ∣ x_t] = (x_t − t v) / b = −√(1−ᾱ) s(x_d) | `noise_of_velocity` |

References
----------
BoPITO, arXiv:2410.10605, s_eq; flow matching gives E[x_1 − x_0 ∣ x_t] = v and x_t = (1−t) x_0 + t x_1.
"""

from typing import NamedTuple

from torch import Tensor

from tito_fast.flows import NoiseSchedule


class FlowPoint(NamedTuple):
    """Where a flow has the share of noise that a step of a diffusion has."""

    flow_time: Tensor  # (n_molecules,) float64
    scale: Tensor  # (n_molecules,) float64


def flow_point(schedule: NoiseSchedule, diffusion_step: Tensor, *, base_std: float) -> FlowPoint:
    """Return the flow time and the scale of each molecule's diffusion step, (n_molecules,).

    Parameters
    ----------
    schedule : NoiseSchedule
    diffusion_step : Tensor, shape (n_molecules,)
        Above zero, need not be whole.
    base_std : float
        b, standard deviation of the flow's base density.
    """
    alpha_bar = schedule.alpha_bar_at(diffusion_step)
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    # t / (1 - t) = b √ᾱ / √(1−ᾱ), and c = √ᾱ / t, written without a division by either.
    total = base_std * signal + noise
    return FlowPoint(base_std * signal / total, total / base_std)


def noise_of_velocity(
    velocity: Tensor, x_t: Tensor, flow_time: Tensor, *, base_std: float
) -> Tensor:
    """Return the noise that a velocity implies, (x_t − t v) / b.

    Parameters
    ----------
    velocity, x_t : Tensor, shape (n, 3)
    flow_time : Tensor, shape (n,)
        Of each row.
    base_std : float

    Returns
    -------
    Tensor, shape (n, 3)

    Examples
    --------
    >>> import torch
    >>> x_0, x_1 = torch.ones(1, 3), 3 * torch.ones(1, 3)
    >>> noise_of_velocity(x_1 - x_0, 0.5 * x_0 + 0.5 * x_1, torch.tensor([0.5]), base_std=1.0)
    tensor([[1., 1., 1.]])
    """
    return (x_t - flow_time.to(x_t.dtype).unsqueeze(-1) * velocity) / base_std
