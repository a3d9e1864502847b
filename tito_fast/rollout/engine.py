"""One rollout step: from the state now to a sample of the state a lag later."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tito_fast.models.tito.model import Prepared, TitoModel
from tito_fast.models.tito.step import StepNoise, StepSettings
from tito_fast.noise import CounterNoise, NoiseSource
from tito_fast.ops import center
from tito_fast.rollout.diffusion import DiffusionSettings, reverse_diffusion
from tito_fast.solvers import integrate, solver_by_name, uniform_grid
from tito_fast.solvers.base import check_time_grid
from tito_fast.types import VECTOR_STARTS, VectorStart
from tito_fast.validation import check_choice, check_positive, check_shape


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """How one transition is integrated.

    Parameters
    ----------
    solver : str
        Name in ``tito_fast.solvers.SOLVERS``.
    time_grid : tuple of float
        From 0 to 1.
    vector_start : "randn" | "randn_fixed" | "zeros" | "condition"
        ``randn``: new vectors at every evaluation; ``randn_fixed``: one draw per rollout step;
        ``condition``: those that the conditioning network hands over.
    base_std : float
        Standard deviation of the base density, model units.
    center : bool
        Center the base sample and every state per molecule. The released code does neither: its velocity
        is centered, so states keep the mean of the base sample.
    """

    solver: str = "euler"
    time_grid: tuple[float, ...] = uniform_grid(20)
    vector_start: VectorStart = "randn"
    base_std: float = 1.0
    center: bool = True

    def __post_init__(self) -> None:
        """Check ranges."""
        solver_by_name(self.solver)
        check_time_grid(self.time_grid)
        check_choice("vector_start", self.vector_start, VECTOR_STARTS)
        check_positive("base_std", self.base_std)


def resolve_vector_start(
    model: TitoModel, *, solver: str, requested: VectorStart | None = None
) -> VectorStart:
    """Return how vectors start: as trained, but a field that is random at every evaluation only for Euler.

    Raises
    ------
    ValueError
        If the model was trained with zeros, or with the condition's vectors, and another start is asked
        for, or the other way round.
    """
    trained = model.config.vector_start
    if requested is None:
        return "randn_fixed" if trained == "randn" and solver != "euler" else trained
    check_choice("vector_start", requested, VECTOR_STARTS)
    noisy = ("randn", "randn_fixed")
    if requested != trained and not (requested in noisy and trained in noisy):
        raise ValueError(
            f"vector_start: this model was trained with {trained}, got {requested}; "
            f"use {'randn or randn_fixed' if trained in noisy else trained}"
        )
    return requested


@torch.no_grad()
def transition(
    model: TitoModel,
    prepared: Prepared,
    scaled_positions: Tensor,
    *,
    lag_time_ps: Tensor,
    noise: NoiseSource,
    rollout_step: int,
    settings: FlowSettings | DiffusionSettings,
    temperature_k: Tensor | None = None,
) -> Tensor:
    """Return a sample of the positions one lag later.

    Parameters
    ----------
    model : TitoModel
    prepared : Prepared
        From ``model.prepare``.
    scaled_positions : Tensor, shape (n_atoms, 3)
        State now, model units.
    lag_time_ps : Tensor, shape (n_molecules,)
        May differ between molecules.
    noise : NoiseSource
    rollout_step : int
        Number of the step in its trajectory; part of the noise's counter.
    settings : FlowSettings or DiffusionSettings
        The latter for a model that predicts noise.
    temperature_k : Tensor, shape (n_molecules,), or None

    Returns
    -------
    Tensor, shape (n_atoms, 3)
        Model units. In an arbitrary orientation where the state enters through scalars only, as in TITO.
    """
    batch = prepared.batch
    check_shape("scaled_positions", scaled_positions, (batch.n_atoms, 3))
    if (
        isinstance(settings, FlowSettings)
        and isinstance(noise, CounterNoise)
        and (step := _program(settings)) is not None
    ):
        in_one_call = model.rollout_step(
            prepared,
            scaled_positions,
            lag_time_ps,
            noise=StepNoise(keys=noise.keys, replicas=noise.replicas, rollout_step=rollout_step),
            settings=step,
            temperature_k=temperature_k,
        )
        if in_one_call is not None:
            return in_one_call
    evaluate = model.velocity if isinstance(settings, FlowSettings) else model.noise
    conditioning = model.condition(prepared, scaled_positions, lag_time_ps)
    vectors = _VectorStarts(model, noise, rollout_step, settings.vector_start, batch.n_atoms)

    def field(x_t: Tensor, flow_time: float, evaluation: int) -> Tensor:
        times = torch.full(
            (batch.n_molecules,),
            flow_time,
            dtype=scaled_positions.dtype,
            device=scaled_positions.device,
        )
        return evaluate(
            prepared,
            conditioning,
            x_t,
            times,
            lag_time_ps,
            vectors=vectors(evaluation),
            temperature_k=temperature_k,
        )

    if isinstance(settings, DiffusionSettings):
        return reverse_diffusion(
            field,
            settings=settings,
            noise=noise,
            rollout_step=rollout_step,
            batch_ptr=batch.batch_ptr,
            is_centered=model.config.is_centered,
        )
    x_0 = noise.base(rollout_step) * settings.base_std
    if settings.center:
        x_0 = center(x_0, batch_ptr=batch.batch_ptr)
    return integrate(
        field,
        x_0,
        solver=solver_by_name(settings.solver),
        time_grid=settings.time_grid,
        batch_ptr=batch.batch_ptr,
        center=settings.center,
    )


def _program(settings: FlowSettings) -> StepSettings | None:
    """Return the settings of a step that a backend may take in one call; None if the solver is no program."""
    solver = solver_by_name(settings.solver)
    if solver.program is None:
        return None
    return StepSettings(
        time_grid=settings.time_grid,
        solver=solver,
        vector_start=settings.vector_start,
        base_std=settings.base_std,
        center=settings.center,
    )


class _VectorStarts:
    """Vectors for each evaluation of one rollout step."""

    def __init__(
        self,
        model: TitoModel,
        noise: NoiseSource,
        rollout_step: int,
        vector_start: VectorStart,
        n_atoms: int,
    ) -> None:
        self._noise, self._rollout_step = noise, rollout_step
        self._fixed: Tensor | None = None
        # The condition's vectors are the model's own.
        self._is_given = vector_start == "condition"
        if vector_start == "zeros":
            shape = (n_atoms, 3, model.config.n_features)
            self._fixed = torch.zeros(shape, dtype=model.dtype, device=model.device)
        elif vector_start == "randn_fixed":
            self._fixed = noise.vector_start(rollout_step, 0)

    def __call__(self, evaluation: int) -> Tensor | None:
        if self._is_given or self._fixed is not None:
            return self._fixed
        return self._noise.vector_start(self._rollout_step, evaluation)


def check_lag_schedule(model: TitoModel, lag_times_ps: Sequence[float]) -> list[str]:
    """Raise if a lag is above the model's maximum; return warnings of lags below its training interval."""
    for lag_time_ps in lag_times_ps:
        model.check_lag(lag_time_ps)
    shortest = model.info.min_lag_ps
    return [
        f"lag {lag_time_ps:g} ps is below the shortest the model was trained on, {shortest:g} ps"
        for lag_time_ps in lag_times_ps
        if shortest is not None and lag_time_ps < shortest
    ]
