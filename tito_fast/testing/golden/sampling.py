"""Replay of ``tito-golden-sample-1``: transitions of the sampler with recorded noise."""

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.model import Conditioning, Prepared, TitoModel, check_model_backend
from tito_fast.noise import RecordedNoise
from tito_fast.rollout.engine import FlowSettings, transition
from tito_fast.solvers import uniform_grid
from tito_fast.testing.golden.comparison import Line, Quantity, compare, not_computed
from tito_fast.testing.golden.recording import (
    DTYPES,
    ReplaySettings,
    Section,
    per_molecule,
    read_batch,
    read_model,
    read_temperature,
    read_vectors,
    recorded_dtypes,
)


class _WatchedModel(TitoModel):
    """A model that keeps the states it was asked about and the velocities it gave."""

    def __init__(self, model: TitoModel) -> None:
        super().__init__(model.config, model.info, model.network)
        self.states: list[Tensor] = []
        self.velocities: list[Tensor] = []

    def velocity(
        self,
        prepared: Prepared,
        conditioning: Conditioning,
        x_t: Tensor,
        flow_time: Tensor,
        lag_time_ps: Tensor | None,
        *,
        vectors: Tensor | None = None,
        temperature_k: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity of the model, as it is."""
        velocity = super().velocity(
            prepared,
            conditioning,
            x_t,
            flow_time,
            lag_time_ps,
            vectors=vectors,
            temperature_k=temperature_k,
        )
        self.states.append(x_t.clone())
        self.velocities.append(velocity.clone())
        return velocity


def replay_sampling(recording: Section, settings: ReplaySettings) -> list[Line]:
    """Return the verdicts on a recording."""
    check_model_backend(settings.backend)
    lines = []
    for dtype in recorded_dtypes(recording, settings.dtypes):
        computed = _roll_out(recording, dtype=dtype, settings=settings)
        section = recording.section(dtype)
        lines += [
            compare(
                name,
                computed[name],
                section.tensor(name),
                dtype=dtype,
                quantity=Quantity.TRAJECTORY,
            )
            if name in computed
            else not_computed(name, dtype=dtype)
            for name in section
        ]
    return lines


def _roll_out(recording: Section, *, dtype: str, settings: ReplaySettings) -> dict[str, Tensor]:
    """Return trajectory and states by their recorded names."""
    inputs = recording.section("inputs")
    batch = read_batch(inputs)
    n_steps, n_ode_steps = recording.count("nested_samples"), recording.count("ode_steps")
    model = _WatchedModel(read_model(recording, dtype=dtype, device=settings.device))

    def cast(values: Tensor) -> Tensor:
        return values.to(settings.device, DTYPES[dtype])

    temperature_k = read_temperature(inputs, model, batch.n_molecules)
    noise = _read_noise(recording, batch, model, n_steps=n_steps, n_ode_steps=n_ode_steps)
    base_samples, vector_starts = cast(noise[0]), cast(noise[1])
    # The released sampler centers its base samples over the whole batch, and nothing after that:
    # they are recorded as it used them.
    flow = FlowSettings(
        solver="euler", time_grid=uniform_grid(n_ode_steps), vector_start="randn", center=False
    )
    frames = [cast(inputs.tensor("x_cond", batch.n_atoms, 3))]
    prepared = model.prepare(batch.to(settings.device), backend=settings.backend)
    for rollout_step in range(n_steps):
        frames.append(
            transition(
                model,
                prepared,
                frames[-1],
                lag_time_ps=cast(per_molecule(inputs, "lag", batch.n_molecules)),
                noise=RecordedNoise(base_samples, vector_starts),
                rollout_step=rollout_step,
                settings=flow,
                temperature_k=None if temperature_k is None else cast(temperature_k),
            )
        )
    computed = {
        "trajectory": torch.stack(frames),
        "first_transition_states": torch.stack([*model.states[:n_ode_steps], frames[1]]),
        "first_transition_velocities": torch.stack(model.velocities[:n_ode_steps]),
        "final_cond_x": frames[-1],
    }
    if base_samples.shape[0] > n_steps:
        # The released code draws one base sample more than it uses and leaves it in its batch.
        computed["final_corr_x"] = base_samples[n_steps]
    return computed


def _read_noise(
    recording: Section, batch: MoleculeBatch, model: TitoModel, *, n_steps: int, n_ode_steps: int
) -> tuple[Tensor, Tensor]:
    """Return base samples (n_steps or more, n_atoms, 3) and vectors (n_steps, n_ode_steps, n_atoms, 3, F)."""
    n_atoms, n_features = batch.n_atoms, model.config.n_features
    base_samples = recording.tensor("base_samples", "n_rollout_steps + 1", n_atoms, 3)
    if base_samples.shape[0] < n_steps:
        raise ValueError(
            f"base_samples: expected one for each of {n_steps} transitions, got {base_samples.shape[0]}"
        )
    vectors = read_vectors(recording, n_steps * n_ode_steps, n_atoms, n_features, 3)
    return base_samples, vectors.view(n_steps, n_ode_steps, n_atoms, 3, n_features)
