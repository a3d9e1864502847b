"""All weights of a BoPITO model: two networks and the decay."""

import math

import torch
from torch import Tensor, nn

from tito_fast.models.tito.network import TitoNetwork
from tito_fast.validation import check_positive


class BopitoNetwork(nn.Module):
    """The dynamic network, the frozen equilibrium network, and the decay.

    Parameters
    ----------
    dynamic, equilibrium : TitoNetwork
        Taken over; the parameters of the second lose their gradients.
    relaxation_time_ps : float
        Of the slowest process: the decay is exp(−interval / this).
    equilibrium_base_std : float
        Standard deviation of the equilibrium model's base density, where it is a flow.
    frame_interval_ps : float
        One step of N: what the decay per step refers to.
    is_decay_learned : bool
        Whether the decay has a gradient.

    Notes
    -----
    The decay is kept as ``decay_logit``, its logit: any value of it is a decay between 0 and 1, and a decay next to 1
    keeps its digits in float32.
    """

    def __init__(
        self,
        dynamic: TitoNetwork,
        equilibrium: TitoNetwork,
        *,
        relaxation_time_ps: float,
        frame_interval_ps: float,
        equilibrium_base_std: float = 1.0,
        is_decay_learned: bool = False,
    ) -> None:
        check_positive("relaxation_time_ps", relaxation_time_ps, unit="ps")
        check_positive("frame_interval_ps", frame_interval_ps, unit="ps")
        super().__init__()
        self.dynamic = dynamic
        self.equilibrium = equilibrium.requires_grad_(requires_grad=False)
        self.frame_interval_ps = frame_interval_ps
        self.equilibrium_base_std = equilibrium_base_std
        self.is_decay_learned = is_decay_learned
        weight = next(dynamic.parameters())
        rate = frame_interval_ps / relaxation_time_ps
        logit = -rate - math.log(-math.expm1(-rate))
        self.decay_logit = nn.Parameter(
            torch.tensor(logit, dtype=weight.dtype, device=weight.device),
            requires_grad=is_decay_learned,
        )

    @property
    def decay_per_step(self) -> float:
        """λ̂ of one frame; read from the device."""
        return float(torch.sigmoid(self.decay_logit.detach().double()))

    @property
    def relaxation_time_ps(self) -> float:
        """Time of the slowest process, in ps; read from the device."""
        rate = -nn.functional.logsigmoid(self.decay_logit.detach().double())
        return self.frame_interval_ps / float(rate)

    def weight(self, power_ps: Tensor) -> Tensor:
        """Return λ̂^N in float64, with N the ``power_ps`` over the frame interval, of its shape.

        Nothing is read on the host. Zero for an infinite power, and below 1e-308.
        """
        steps = power_ps.double() / self.frame_interval_ps
        return torch.exp(steps * nn.functional.logsigmoid(self.decay_logit.double()))
