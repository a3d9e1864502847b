"""One rollout step of a model that predicts noise: the reverse of a diffusion, from the state now."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tito_fast.flows import NoiseSchedule
from tito_fast.models.tito.model import Prepared, TitoModel
from tito_fast.noise import NoiseSource
from tito_fast.ops import center
from tito_fast.solvers import DIFFUSION_SOLVERS, DiffusionSolverName, ddpm_sample, dpm_solver_sample
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
        Evaluations of the network; None: every diffusion step, with ``ddpm`` only.
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
        if self.n_steps is not None:
            check_at_least("n_steps", self.n_steps, 1)
        elif self.solver != "ddpm":
            raise ValueError(f"n_steps: expected a number of steps for {self.solver}, got None")


def noise_transition(
    model: TitoModel,
    prepared: Prepared,
    scaled_positions: Tensor,
    *,
    lag_time_ps: Tensor,
    noise: NoiseSource,
    rollout_step: int,
    settings: DiffusionSettings,
    vectors: Callable[[int], Tensor | None],
    temperature_k: Tensor | None = None,
) -> Tensor:
    """Return a sample of the positions one lag later, as ``tito_fast.rollout.engine.transition`` does.

    ``vectors`` are those that an evaluation of the network starts from, by its number.
    """
    batch = prepared.batch
    batch_ptr = batch.batch_ptr
    conditioning = model.condition(prepared, scaled_positions, lag_time_ps)
    shape = (batch.n_molecules,)

    def field(x_d: Tensor, diffusion_step: float, evaluation: int) -> Tensor:
        predicted = model.noise(
            prepared,
            conditioning,
            x_d,
            torch.full(shape, diffusion_step, dtype=x_d.dtype, device=x_d.device),
            lag_time_ps,
            vectors=vectors(evaluation),
            temperature_k=temperature_k,
        )
        # Under autocast to bfloat16 the steps themselves stay in the state's type.
        return predicted.to(x_d.dtype)

    def as_trained(values: Tensor) -> Tensor:
        return center(values, batch_ptr=batch_ptr) if model.config.is_centered else values

    x_T = as_trained(noise.base(rollout_step))
    if settings.solver == "ddpm":
        x = ddpm_sample(
            field,
            x_T,
            schedule=settings.schedule,
            normals=lambda evaluation: as_trained(noise.diffusion(rollout_step, evaluation)),
            n_steps=settings.n_steps,
        )
    elif settings.n_steps is not None:
        x = dpm_solver_sample(field, x_T, schedule=settings.schedule, n_steps=settings.n_steps)
    else:
        raise ValueError(f"n_steps: expected a number of steps for {settings.solver}, got None")
    return center(x, batch_ptr=batch_ptr) if settings.center else x
