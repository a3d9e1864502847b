"""What one optimizer step sees. Everything random in it follows from (seed, use, step, rank)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.pairs import PairSampler
from tito_fast.flows import flow_matching_loss, interpolate
from tito_fast.models.tito.model import TitoModel
from tito_fast.ops import center, ot_couple
from tito_fast.types import Coupling

TRAIN_STREAM = 0
VALIDATION_STREAM = 1


@dataclass(frozen=True)
class TrainingBatch:
    """Coupled pairs in model units, with all noise drawn."""

    batch: MoleculeBatch
    scaled_current: Tensor  # (n_atoms, 3)
    x_0: Tensor  # (n_atoms, 3), coupled to x_1
    x_1: Tensor  # (n_atoms, 3)
    flow_time: Tensor  # (n_molecules,)
    epsilon: Tensor  # (n_atoms, 3)
    vectors: Tensor  # (n_atoms, 3, n_features)
    lag_time_ps: Tensor  # (n_molecules,)


def step_generator(seed: int, stream: int, step: int, *, rank: int = 0) -> np.random.Generator:
    """Return the generator of one step: a counter-based one, so that no state is carried over."""
    counter = [0, rank, step, stream]
    return np.random.Generator(np.random.Philox(key=seed, counter=counter))


def draw_batch(
    sampler: PairSampler,
    model: TitoModel,
    n_pairs: int,
    rng: np.random.Generator,
    *,
    coupling: Coupling,
) -> TrainingBatch:
    """Return ``n_pairs`` coupled pairs with their noise, on the model's device."""
    pairs = sampler.draw(n_pairs, rng)
    batch = pairs.batch
    unit = model.info.length_unit_nm
    x_1 = pairs.next_positions / unit
    x_0 = center(_normal(rng, (batch.n_atoms, 3)) * model.info.base_std, batch_ptr=batch.batch_ptr)
    if coupling != "none":
        x_0 = ot_couple(x_0, x_1, batch_ptr=batch.batch_ptr, plan=coupling)
    shape = (batch.n_atoms, 3, model.config.n_features)
    vectors = torch.zeros(shape) if model.config.vector_start == "zeros" else _normal(rng, shape)
    flow_time = torch.from_numpy(rng.random(batch.n_molecules, dtype=np.float32))
    epsilon = _normal(rng, (batch.n_atoms, 3))
    device, dtype = model.device, model.dtype
    return TrainingBatch(
        batch=batch.to(device),
        scaled_current=(pairs.current_positions / unit).to(device, dtype),
        x_0=x_0.to(device, dtype),
        x_1=x_1.to(device, dtype),
        flow_time=flow_time.to(device, dtype),
        epsilon=epsilon.to(device, dtype),
        vectors=vectors.to(device, dtype),
        lag_time_ps=pairs.lag_time_ps.to(device, dtype),
    )


def batch_loss(model: TitoModel, drawn: TrainingBatch, *, sigma: float) -> Tensor:
    """Return the flow-matching loss of a batch, a scalar in model units squared."""
    x_t = interpolate(
        drawn.x_0,
        drawn.x_1,
        drawn.flow_time,
        drawn.epsilon,
        batch_ptr=drawn.batch.batch_ptr,
        sigma=sigma,
    )
    prepared = model.prepare(drawn.batch)
    conditioning = model.condition(prepared, drawn.scaled_current)
    velocity = model.velocity(
        prepared, conditioning, x_t, drawn.flow_time, drawn.lag_time_ps, vectors=drawn.vectors
    )
    return flow_matching_loss(velocity, drawn.x_0, drawn.x_1)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
