"""Replicas that are advanced together, and how many fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.molecule import Molecule
from tito_fast.flows import NoiseSchedule
from tito_fast.models.tito.model import TitoModel
from tito_fast.noise import CounterNoise
from tito_fast.precision import forward_precision, matmul_precision
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.diffusion import DiffusionSettings
from tito_fast.rollout.engine import FlowSettings, resolve_vector_start, transition
from tito_fast.solvers import DIFFUSION_SOLVERS, SOLVERS, DiffusionSolverName, uniform_grid

# On a CPU more replicas than these bytes hold are no faster; the rest of the memory is the user's.
CPU_CHUNK_BYTES = 2**29
GPU_MEMORY_SHARE = 0.5

DEFAULT_SOLVER = "euler"
DEFAULT_N_ODE_STEPS = 20
"""As TITO was sampled: its field is random, and needs Euler."""

DEFAULT_SMOOTH_SOLVER = "ab2"
DEFAULT_N_SMOOTH_STEPS = 10
"""Of fields without noise, by the study in docs/solvers.md: as good as Euler with twice as many evaluations."""

DEFAULT_DIFFUSION_SOLVER = "dpm-solver++"
DEFAULT_N_DIFFUSION_STEPS = 50
"""As ITO was sampled."""


@dataclass(frozen=True)
class Row:
    """One trajectory: a replica of a molecule."""

    molecule_idx: int
    molecule: Molecule
    replica: int


def flow_settings(model: TitoModel, config: RolloutConfig) -> FlowSettings | DiffusionSettings:
    """Return how each transition is sampled: the config's choices, the model's where it leaves them open.

    Raises
    ------
    ValueError
        If the solver is not one for what the model predicts, or a choice has no meaning for the model.
    """
    solver = solver_of(model, config)
    vector_start = resolve_vector_start(model, solver=solver, requested=config.vector_start)
    if model.config.objective == "noise":
        if config.base_std is not None:
            raise ValueError(
                "base_std: expected none for a model that predicts noise, whose schedule has it, "
                f"got {config.base_std:g}"
            )
        return DiffusionSettings(
            schedule=NoiseSchedule.of_model(model.config),
            solver=cast("DiffusionSolverName", solver),
            n_steps=n_ode_steps_of(model, config),
            vector_start=vector_start,
        )
    return FlowSettings(
        solver=solver,
        time_grid=uniform_grid(n_ode_steps_of(model, config)),
        vector_start=vector_start,
        base_std=model.info.base_std if config.base_std is None else config.base_std,
    )


def solver_of(model: TitoModel, config: RolloutConfig) -> str:
    """Return the solver's name: the config's, else the one that is usual for the model's kind.

    Raises
    ------
    ValueError
        If the config names one of the other kind.
    """
    is_diffusion = model.config.objective == "noise"
    if config.solver is None:
        return _usual_of(model)[0]
    fitting: tuple[str, ...] = DIFFUSION_SOLVERS if is_diffusion else tuple(SOLVERS)
    if config.solver not in fitting:
        raise ValueError(
            f"solver: expected one of {', '.join(fitting)} for a model that predicts "
            f"{'noise' if is_diffusion else 'a velocity'}, got {config.solver!r}"
        )
    return config.solver


def n_ode_steps_of(model: TitoModel, config: RolloutConfig) -> int:
    """Return the solver steps of one transition: the config's, else what is usual for the model's kind."""
    if config.n_ode_steps is not None:
        return config.n_ode_steps
    usual, n_usual_steps = _usual_of(model)
    if solver_of(model, config) == usual or model.config.objective == "noise":
        return n_usual_steps
    return DEFAULT_N_ODE_STEPS


def _usual_of(model: TitoModel) -> tuple[str, int]:
    """Return the solver and the number of its steps that a model of this kind is sampled with."""
    if model.config.objective == "noise":
        return DEFAULT_DIFFUSION_SOLVER, DEFAULT_N_DIFFUSION_STEPS
    if model.config.vector_start in ("zeros", "condition"):
        return DEFAULT_SMOOTH_SOLVER, DEFAULT_N_SMOOTH_STEPS
    return DEFAULT_SOLVER, DEFAULT_N_ODE_STEPS


class Chunk:
    """Trajectories in one batch.

    Parameters
    ----------
    model : TitoModel
        On the device and in the dtype that it is to run in.
    rows : sequence of Row
    config : RolloutConfig
    """

    def __init__(self, model: TitoModel, rows: Sequence[Row], config: RolloutConfig) -> None:
        self._model, self._config = model, config
        self._interpolated = {
            time_ps: model.interpolated(time_ps)
            for time_ps in (None, *config.interpolation_times_ps)
        }
        molecules = [row.molecule for row in rows]
        batch = MoleculeBatch.from_molecules(molecules, device=model.device)
        with (
            matmul_precision(config.precision),
            forward_precision(config.precision, model.device),
            torch.no_grad(),
        ):
            self._prepared = model.prepare(batch, backend=config.backend)
        self._settings = flow_settings(model, config)
        self._noise = CounterNoise(
            config.seed,
            [molecule.noise_hash for molecule in molecules],
            [row.replica for row in rows],
            sizes=batch.sizes,
            n_features=model.config.n_features,
            device=model.device,
            dtype=model.dtype,
        )
        self._temperature = None
        if config.temperature_k is not None:
            self._temperature = self._per_row(len(rows), config.temperature_k)
        self._n_rows = len(rows)

    def run(self, scaled_positions: Tensor, *, first_step: int, last_step: int) -> Iterator[Tensor]:
        """Yield the scaled positions (n_atoms, 3) after each of the steps ``first_step`` … ``last_step − 1``."""
        x = scaled_positions
        for step in range(first_step, last_step):
            with (
                matmul_precision(self._config.precision),
                forward_precision(self._config.precision, self._model.device),
            ):
                x = transition(
                    self._interpolated[self._config.interpolation_ps(step)],
                    self._prepared,
                    x,
                    lag_time_ps=self._per_row(self._n_rows, self._config.lag_time_ps(step)),
                    noise=self._noise,
                    rollout_step=step,
                    settings=self._settings,
                    temperature_k=self._temperature,
                )
            yield x

    def _per_row(self, n_rows: int, value: float) -> Tensor:
        return torch.full((n_rows,), value, dtype=self._model.dtype, device=self._model.device)


def rows_per_chunk(model: TitoModel, config: RolloutConfig, n_atoms: int) -> int:
    """Return how many molecules of ``n_atoms`` atoms are advanced together."""
    if config.batch_size is not None:
        return config.batch_size
    element = torch.finfo(model.dtype).bits // 8
    # The condition's edges, their share of the first layer, the running edges and two temporaries.
    bytes_per_row = 5 * n_atoms**2 * model.config.n_features * element + 1
    budget = CPU_CHUNK_BYTES
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        budget = int(GPU_MEMORY_SHARE * free)
    return max(1, budget // bytes_per_row)
