"""What a step of training an equilibrium flow learns from: frames with their noise, and the loss on them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch, upload
from tito_fast.data.molecule import Molecule
from tito_fast.data.store import Store
from tito_fast.flows.flow_matching import interpolate, molecule_mean_loss
from tito_fast.models.tbg.model import TbgModel
from tito_fast.ops import center
from tito_fast.training.batches import step_generator


class EquilibriumBatch(NamedTuple):
    """Frames with their noise, model units."""

    molecules: list[Molecule]
    batch_ptr: Tensor  # (n_molecules + 1,), int64
    x_0: Tensor  # (n_atoms, 3), normal, mean-free
    x_1: Tensor  # (n_atoms, 3), mean-free
    epsilon: Tensor  # (n_atoms, 3)
    flow_time: Tensor  # (n_molecules,)


class FrameSampler:
    """Draw frames of a split: a molecule, each as likely as any other, then one of its frames.

    Parameters
    ----------
    store : Store
    split : str

    Raises
    ------
    ValueError
        If no trajectory is in ``split``.
    """

    def __init__(self, store: Store, split: str) -> None:
        self._store = store
        self._rows: dict[int, list[int]] = {}
        for trajectory_idx in store.split_indices(split).tolist():
            row = store.trajectories[trajectory_idx]
            if row.n_frames:
                self._rows.setdefault(row.molecule_idx, []).append(trajectory_idx)
        self._molecules = sorted(self._rows)

    @property
    def molecules(self) -> list[Molecule]:
        """Molecules of the split."""
        return [self._store.molecules[index] for index in self._molecules]

    @property
    def temperatures_k(self) -> set[float | None]:
        """Temperatures of the trajectories."""
        rows = (index for each in self._rows.values() for index in each)
        return {self._store.trajectories[index].temperature_k for index in rows}

    def draw(self, n_frames: int, rng: np.random.Generator) -> tuple[list[Molecule], Tensor]:
        """Return ``n_frames`` molecules and their positions, (n_atoms, 3), float32, nm."""
        chosen = rng.integers(len(self._molecules), size=n_frames)
        shares = rng.random(n_frames)
        molecules, parts = [], []
        for place, share in zip(chosen.tolist(), shares.tolist(), strict=True):
            molecule_idx = self._molecules[place]
            molecules.append(self._store.molecules[molecule_idx])
            parts.append(self._frame(self._rows[molecule_idx], share))
        return molecules, torch.from_numpy(np.concatenate(parts))

    def _frame(self, rows: Sequence[int], share: float) -> NDArray[np.float32]:
        ends = np.cumsum([self._store.trajectories[index].n_frames for index in rows])
        frame = int(share * ends[-1])
        place = int(np.searchsorted(ends, frame, side="right"))
        first = 0 if place == 0 else int(ends[place - 1])
        frames = self._store.trajectory_positions(rows[place])
        return np.asarray(frames[frame - first])


def draw_batch(
    sampler: FrameSampler, model: TbgModel, n_frames: int, *, seed: int, use: int, step: int
) -> EquilibriumBatch:
    """Return the frames and the noise of a step, on the model's device.

    They follow from ``seed``, ``use`` and ``step`` alone.
    """
    rng = step_generator(seed, use, step)
    molecules, positions = sampler.draw(n_frames, rng)
    flow_time = torch.from_numpy(rng.random(n_frames, dtype=np.float32))
    generator = torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
    noise = torch.randn(2, *positions.shape, generator=generator)
    batch_ptr = MoleculeBatch.from_molecules(molecules).batch_ptr
    x_0 = model.info.base_std * center(noise[0], batch_ptr=batch_ptr)
    x_1 = center(positions / model.info.length_unit_nm, batch_ptr=batch_ptr)
    device, dtype = model.device, model.dtype
    return EquilibriumBatch(
        molecules,
        upload(batch_ptr, device),
        *(upload(each, device).to(dtype) for each in (x_0, x_1, noise[1], flow_time)),
    )


def equilibrium_loss(model: TbgModel, drawn: EquilibriumBatch, *, sigma: float) -> Tensor:
    """Return the flow-matching loss of a batch, each molecule of the same weight.

    ``x_t = (1 − t) x_0 + t x_1 + sigma center(epsilon)`` is mapped to ``x_1 − x_0``.

    Returns
    -------
    Tensor
        A scalar, model units squared.
    """
    x_t = interpolate(
        drawn.x_0,
        drawn.x_1,
        drawn.flow_time,
        drawn.epsilon,
        batch_ptr=drawn.batch_ptr,
        sigma=sigma,
    )
    velocity = model.velocity(model.prepare_molecules(drawn.molecules), x_t, drawn.flow_time)
    return molecule_mean_loss(velocity, drawn.x_0, drawn.x_1, batch_ptr=drawn.batch_ptr)
