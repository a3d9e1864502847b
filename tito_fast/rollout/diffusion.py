"""One rollout step of a model that predicts noise: the reverse of a diffusion, from the state now."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tito_fast.flows import NoiseSchedule
from tito_fast.noise import NoiseSource
from tito_fast.ops import center
from tito_fast.solvers import (
    DIFFUSION_SOLVERS,
    DiffusionSolverName,
    NoiseField,
    ddpm_sample,
    dpm_solver_sample,
)
from tito_fast.types import VECTOR_STARTS, VectorStart
from tito_fast.validation import check_at_least, check_choice


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings:
    """How one transition of a noise-predicting model is sampled.

    Parameters
    ----------
    schedule : NoiseSchedule
        That of training.
    solver : "ddpm" | "dpm-solver++"
    n_steps : int or None
        Evaluations of the network; None: as many as there are diffusion steps.
    vector_start : VectorStart
    center : bool
        Center the result per molecule. The released code does not: its samples drift, which nothing after
        them reads.
    """

    schedule: NoiseSchedule
    solver: DiffusionSolverName = "dpm-solver++"
    n_steps: int | None = 50
    vector_start: VectorStart = "condition"
    center: bool = True

    base_std: ClassVar[float] = 1.0
    """Standard deviation of the noise: the schedule's."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_choice("solver", self.solver, DIFFUSION_SOLVERS)
        check_choice("vector_start", self.vector_start, VECTOR_STARTS)
        if self.n_steps is None:
            return
        check_at_least("ode_steps", self.n_steps, 1)
        most = self.schedule.n_diffusion_steps
        if self.solver == "ddpm" and self.n_steps > most:
            raise ValueError(f"ode_steps: expected at most {most} for ddpm, got {self.n_steps}")


def reverse_diffusion(
    field: NoiseField,
    *,
    settings: DiffusionSettings,
    noise: NoiseSource,
    rollout_step: int,
    batch_ptr: Tensor,
    is_centered: bool,
) -> Tensor:
    """Return what a diffusion made noise of: a sample of the positions, (n_atoms, 3), model units.

    Parameters
    ----------
    field : NoiseField
        The network's prediction, for the state that the positions follow.
    settings : DiffusionSettings
    noise : NoiseSource
    rollout_step : int
        Part of the noise's counter.
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    is_centered : bool
        Whether the model was trained with noise that is mean-free in each molecule.
    """

    def as_trained(values: Tensor) -> Tensor:
        return center(values, batch_ptr=batch_ptr) if is_centered else values

    def normals(evaluation: int) -> Tensor:
        return as_trained(noise.diffusion(rollout_step, evaluation))

    def predict(x_d: Tensor, diffusion_step: float, evaluation: int) -> Tensor:
        # Under autocast to bfloat16 the steps themselves stay in the state's type.
        return field(x_d, diffusion_step, evaluation).to(x_d.dtype)

    start, schedule = as_trained(noise.base(rollout_step)), settings.schedule
    if settings.solver == "ddpm":
        x = ddpm_sample(
            predict, start, schedule=schedule, normals=normals, n_steps=settings.n_steps
        )
    else:
        n_steps = settings.n_steps or schedule.n_diffusion_steps
        x = dpm_solver_sample(predict, start, schedule=schedule, n_steps=n_steps)
    return center(x, batch_ptr=batch_ptr) if settings.center else x
