"""What the samplers of diffusion models share: the field, the schedule, the grid of steps."""

from typing import Protocol

from torch import Tensor

from tito_fast.validation import check_at_least


class NoiseField(Protocol):
    """A prediction of the noise in ``x_d``."""

    def __call__(self, x_d: Tensor, diffusion_step: float, evaluation: int) -> Tensor:
        """Return the noise, as ``x_d``; ``evaluation`` counts the calls of one sampling."""
        ...


class DiffusionSchedule(Protocol):
    """What a sampler needs of a noise schedule: ``tito_fast.flows.NoiseSchedule`` is one."""

    @property
    def n_diffusion_steps(self) -> int:
        """T."""
        ...

    @property
    def released(self) -> bool:
        """Whether indices are those of the released code."""
        ...

    @property
    def levels(self) -> tuple[float, ...]:
        """``alpha_bar`` of the steps 0 … T."""
        ...

    def solver_level(self, diffusion_step: float) -> float:
        """Return ``alpha_bar`` at a step that need not be whole."""
        ...

    def network_step(self, diffusion_step: float) -> float:
        """Return the step that the network is told."""
        ...


def check_n_steps(n_steps: int, most: int) -> None:
    """Raise ``ValueError`` unless there is a step, and no more than ``most``."""
    check_at_least("n_steps", n_steps, 1)
    if n_steps > most:
        raise ValueError(f"n_steps: expected at most {most} for this schedule, got {n_steps}")
