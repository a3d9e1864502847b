"""What one optimizer step sees. Everything random in it follows from (seed, use, step, pair)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch, upload
from tito_fast.data.pairs import DevicePositions, PairSampler
from tito_fast.data.store import Store
from tito_fast.flows import (
    NoiseSchedule,
    diffuse,
    flow_matching_loss,
    interpolate,
    noise_prediction_loss,
)
from tito_fast.models.tito.model import TitoModel
from tito_fast.ops import center, ot_couple, philox_normal
from tito_fast.training.config import TrainingConfig
from tito_fast.types import Backend

TRAIN_USE = 0
VALIDATION_USE = 1

DEVICE_MEMORY_SHARE = 0.25
"""Share of the free memory that positions may take on a device where they need not lie there."""

# Noise of training: streams of the counter-based generator that sampling (streams 0 and 1) leaves
# free. The last counter word is stream · 2²⁸ + use.
_STREAM = 2**28
_BASE_STREAM = 2
_EPSILON_STREAM = 3
_VECTOR_STREAM = 4


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingBatch:
    """Coupled pairs in model units, with all noise drawn: one process' share of a step.

    Parameters
    ----------
    batch : MoleculeBatch
    scaled_current : Tensor, shape (n_atoms, 3)
        State at t.
    x_0, x_1 : Tensor, shape (n_atoms, 3)
        Base sample, coupled to the state at t + lag; that state. For a model that predicts noise: the noise, and
        the state.
    flow_time, lag_time_ps : Tensor, shape (n_molecules,)
        For a model that predicts noise the first is the diffusion step, a whole number.
    temperature_k : Tensor, shape (n_molecules,), or None
        None for a model without temperature.
    epsilon : Tensor, shape (n_atoms, 3)
    vectors : Tensor, shape (n_atoms, 3, n_features), or None
        None where the condition hands them over.
    share : float
        Atoms here over atoms of the step on all processes.
    """

    batch: MoleculeBatch
    scaled_current: Tensor
    x_0: Tensor
    x_1: Tensor
    flow_time: Tensor
    lag_time_ps: Tensor
    temperature_k: Tensor | None
    epsilon: Tensor
    vectors: Tensor | None
    share: float


def step_generator(seed: int, use: int, step: int) -> np.random.Generator:
    """Return the generator of one step: a counter-based one, so that no state is carried over."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, step, use]))


def pair_range(n_pairs: int, *, rank: int, n_ranks: int) -> slice:
    """Return the pairs of process ``rank``: consecutive, equally many up to one."""
    return slice(rank * n_pairs // n_ranks, (rank + 1) * n_pairs // n_ranks)


class BatchSource:
    """Draw coupled pairs with their noise.

    Pair ``k`` of step ``s`` is the same whichever process draws it and however many others it is
    drawn with.

    Parameters
    ----------
    store : Store
    sampler : PairSampler
        Of one of its splits.
    model : TitoModel
        Its facts give length unit and base density; batches come on its device, in its dtype.
    config : TrainingConfig
    use : int
        ``TRAIN_USE`` or ``VALIDATION_USE``: other pairs and other noise.

    Notes
    -----
    With ``data.on_device`` the positions of a training split lie on the model's device: pairs are
    gathered and coupled there, and only their numbers travel. The pairs and their noise are the same.

    Raises
    ------
    ValueError
        If the model takes a temperature and a trajectory of the split has none.
    """

    def __init__(
        self,
        store: Store,
        sampler: PairSampler,
        model: TitoModel,
        *,
        config: TrainingConfig,
        use: int,
    ) -> None:
        self._sampler, self._model, self._config, self._use = sampler, model, config, use
        self._temperature_k: Tensor | None = None
        if model.config.has_temperature:
            self._temperature_k = _temperatures(store, sampler.split)
        self._schedule: NoiseSchedule | None = None
        if model.config.objective == "noise":
            self._schedule = NoiseSchedule.of_model(model.config)
        self._on_device: DevicePositions | None = None
        if use == TRAIN_USE and _lies_on_device(config.data.on_device, sampler, model.device):
            self._on_device = sampler.positions_on(model.device)

    def draw(self, n_pairs: int, *, step: int, part: slice | None = None) -> TrainingBatch:
        """Return the pairs ``part`` (all by default) of the ``n_pairs`` pairs of ``step``."""
        rng = step_generator(self._config.seed, self._use, step)
        indices = self._sampler.draw_indices(n_pairs, rng)
        rows = slice(0, n_pairs) if part is None else part
        flow_time = torch.from_numpy(rng.random(n_pairs, dtype=np.float32))[rows]
        if self._schedule is not None:
            flow_time = diffusion_steps(flow_time, self._schedule)
        pairs = self._sampler.gather(indices.part(rows), source=self._on_device)
        model, batch = self._model, pairs.batch
        unit, device, dtype = model.info.length_unit_nm, model.device, model.dtype
        noise = _Noise(self._config.seed, self._use, step, batch.sizes, first_row=rows.start)
        # Coupling and its input are where the positions are: on the host, where it is fastest for a
        # few, or with them on the device; only vectors are large.
        here = pairs.next_positions.device
        batch_ptr = upload(batch.batch_ptr, here)
        x_1 = pairs.next_positions / unit
        x_0 = noise.normal(_BASE_STREAM, 3, device=here)
        if model.config.is_centered:
            x_0 = center(x_0, batch_ptr=batch_ptr)
        x_0 = x_0 * model.info.base_std
        if self._config.data.coupling != "none":
            x_0 = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=self._config.data.coupling)
        temperature_k = None
        if self._temperature_k is not None:
            temperature_k = upload(self._temperature_k[pairs.trajectory_idx], device).to(dtype)
        n_features = model.config.n_features
        vectors: Tensor | None = None
        if model.config.vector_start == "zeros":
            vectors = torch.zeros((batch.n_atoms, 3, n_features), device=device, dtype=dtype)
        elif model.config.vector_start != "condition":
            drawn = noise.normal(_VECTOR_STREAM, 3 * n_features, device=device)
            vectors = drawn.view(-1, 3, n_features).to(dtype)
        return TrainingBatch(
            batch=batch.to(device),
            scaled_current=upload(pairs.current_positions / unit, device).to(dtype),
            x_0=upload(x_0, device).to(dtype),
            x_1=upload(x_1, device).to(dtype),
            flow_time=upload(flow_time, device).to(dtype),
            lag_time_ps=upload(pairs.lag_time_ps, device).to(dtype),
            temperature_k=temperature_k,
            epsilon=upload(noise.normal(_EPSILON_STREAM, 3, device=here), device).to(dtype),
            vectors=vectors,
            share=batch.n_atoms / indices.n_atoms,
        )


def batch_loss(
    model: TitoModel, drawn: TrainingBatch, *, sigma: float, backend: Backend = "auto"
) -> Tensor:
    """Return what a share of pairs adds to the loss of its step: flow matching, or noise prediction.

    The loss is the mean over all atoms of the step, on all processes, of the squared error of the
    velocity or the noise; the sum of the shares' results is that mean, and so is the sum of their gradients.

    Parameters
    ----------
    model : TitoModel
    drawn : TrainingBatch
    sigma : float
        Standard deviation of the noise on the interpolant, model units; of a flow.
    backend : Backend

    Returns
    -------
    Tensor
        A scalar, model units squared.
    """
    if model.config.objective == "noise":
        return _noise_loss(model, drawn, backend)
    x_t = interpolate(
        drawn.x_0,
        drawn.x_1,
        drawn.flow_time,
        drawn.epsilon,
        batch_ptr=drawn.batch.batch_ptr,
        sigma=sigma,
    )
    prepared = model.prepare(drawn.batch, backend=backend)
    velocity = model.velocity(
        prepared,
        model.condition(prepared, drawn.scaled_current, drawn.lag_time_ps),
        x_t,
        drawn.flow_time,
        drawn.lag_time_ps,
        vectors=drawn.vectors,
        temperature_k=drawn.temperature_k,
    )
    # Outside autocast a bf16 velocity would be compared in bf16.
    return flow_matching_loss(velocity.to(x_t.dtype), drawn.x_0, drawn.x_1) * drawn.share


def diffusion_steps(uniform: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Return whole diffusion steps 1 … T, equally likely, from uniform values in [0, 1), as floats."""
    n_steps = schedule.last_training_step
    return 1 + (uniform * n_steps).floor().clamp(max=n_steps - 1)


def _noise_loss(model: TitoModel, drawn: TrainingBatch, backend: Backend) -> Tensor:
    x_d = diffuse(
        drawn.x_1,
        drawn.x_0,
        drawn.flow_time,
        NoiseSchedule.of_model(model.config),
        batch_idx=drawn.batch.batch_idx,
    )
    prepared = model.prepare(drawn.batch, backend=backend)
    predicted = model.noise(
        prepared,
        model.condition(prepared, drawn.scaled_current, drawn.lag_time_ps),
        x_d,
        drawn.flow_time,
        drawn.lag_time_ps,
        vectors=drawn.vectors,
        temperature_k=drawn.temperature_k,
    )
    # Outside autocast a bf16 prediction would be compared in bf16.
    return noise_prediction_loss(predicted.to(x_d.dtype), drawn.x_0) * drawn.share


@dataclass(frozen=True)
class _Noise:
    """Normal values of one step: row ``r`` of the share is row ``first_row + r`` of the step."""

    seed: int
    use: int
    step: int
    sizes: tuple[int, ...]
    first_row: int

    def normal(self, stream: int, per_atom: int, *, device: torch.device | str = "cpu") -> Tensor:
        n_rows = len(self.sizes)
        counts = torch.tensor(self.sizes, dtype=torch.int64) * per_atom
        values = philox_normal(
            torch.full((n_rows,), self.seed, dtype=torch.int64, device=device),
            torch.arange(self.first_row, self.first_row + n_rows, device=device),
            upload(counts, device),
            rollout_step=self.step,
            stream_evaluation=stream * _STREAM + self.use,
            n_total=sum(self.sizes) * per_atom,
        )
        return values.view(-1, per_atom)


def _lies_on_device(
    wanted: bool | Literal["auto"], sampler: PairSampler, device: torch.device
) -> bool:
    """Return whether the positions of the split are to lie on ``device``.

    Raises
    ------
    ValueError
        If they are to and there is no room.
    """
    if wanted is False or (wanted == "auto" and device.type != "cuda"):
        return False
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    if wanted == "auto":
        return sampler.n_bytes <= DEVICE_MEMORY_SHARE * free
    if sampler.n_bytes > free:
        raise ValueError(
            f"data.on_device: expected at most {free / 1e9:.1f} GB of positions, which are free on "
            f"{device}, got {sampler.n_bytes / 1e9:.1f} GB; set it to auto or false"
        )
    return True


def _temperatures(store: Store, split: str) -> Tensor:
    """Return the temperature of every trajectory of the store, NaN outside ``split``."""
    values = torch.full((len(store.trajectories),), float("nan"))
    for index in store.split_indices(split):
        row = store.trajectories[index]
        if row.temperature_k is None:
            raise ValueError(
                f"model.has_temperature: expected a temperature for every trajectory of split "
                f"{split!r}, got none for {row.name!r}; convert the data with --temperature"
            )
        values[index] = row.temperature_k
    return values
