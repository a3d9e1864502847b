"""Alanine dipeptide in a store: training windows and parts that are held back."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.convert.writer import Frames, StoreWriter
from tito_fast.data.molecule import FloatArray, Molecule
from tito_fast.data.store import Store, open_store
from tito_fast.data.torsions import torsion_angles
from tito_fast.reproduce.scales_ala2 import Ala2Scale

PHI: Final = (4, 6, 8, 14)
"""Atoms C, N, CA, C of the torsion φ, of 22 with both caps and all hydrogens."""

_ATOMIC_NUMBERS: Final = tuple(sorted(6 * (6,) + 12 * (1,) + 2 * (7,) + 2 * (8,)))
_PHI_ELEMENTS: Final = (6, 7, 6, 6)
_MIN_TRAJECTORIES: Final = 2


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Consecutive frames of a trajectory of the store."""

    trajectory_idx: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Ala2Data:
    """A store cut into parts, every second of which is held back.

    Parameters
    ----------
    store : Store
    molecule : Molecule
    frame_interval_ps : float
    training, held_back : tuple of Stretch
        Part p of trajectory k is held back where p + k is odd.
    windows : tuple of Stretch
        Those that the training parts hold, side by side.
    """

    store: Store
    molecule: Molecule
    frame_interval_ps: float
    training: tuple[Stretch, ...]
    held_back: tuple[Stretch, ...]
    windows: tuple[Stretch, ...]

    @classmethod
    def open(cls, path: Path | str, scale: Ala2Scale) -> "Ala2Data":
        """Return the data of the store at ``path``.

        Raises
        ------
        ValueError
            If there is no store, or not several trajectories of alanine dipeptide, with one interval between frames and
            long enough for the scale.
        """
        store = open_store(path)
        rows = [
            idx
            for idx, row in enumerate(store.trajectories)
            if is_alanine_dipeptide(store.molecules[row.molecule_idx])
        ]
        if len(rows) < _MIN_TRAJECTORIES:
            raise ValueError(
                "data: expected several trajectories of alanine dipeptide (22 atoms, phi of atoms "
                f"{', '.join(map(str, PHI))}), got {len(rows)} in {path}"
            )
        intervals = {store.trajectories[idx].frame_interval_ps for idx in rows}
        if len(intervals) > 1:
            listed = ", ".join(f"{each:g}" for each in sorted(intervals))
            raise ValueError(f"data: expected one interval between frames, got {listed} ps")
        interval = intervals.pop()
        part, window = round(scale.part_ps / interval), round(scale.window_ps / interval)
        parts: tuple[list[Stretch], list[Stretch]] = ([], [])
        for order, idx in enumerate(rows):
            for number in range(store.trajectories[idx].n_frames // part):
                start = number * part
                stretch = Stretch(trajectory_idx=idx, start=start, stop=start + part)
                parts[(number + order) % 2].append(stretch)
        training, held_back = parts
        windows = tuple(
            Stretch(trajectory_idx=each.trajectory_idx, start=start, stop=start + window)
            for each in training
            for start in range(each.start, each.stop - window + 1, window)
        )
        if len(windows) < max(scale.n_windows) or len(held_back) < _MIN_TRAJECTORIES:
            raise ValueError(
                f"data: expected {max(scale.n_windows)} windows of {scale.window_ps:g} ps and two held-back parts of "
                f"{scale.part_ps:g} ps, got {len(windows)} and {len(held_back)}; take a smaller scale or more data"
            )
        return cls(
            store=store,
            molecule=store.molecules[store.trajectories[rows[0]].molecule_idx],
            frame_interval_ps=interval,
            training=tuple(training),
            held_back=tuple(held_back),
            windows=windows,
        )

    def lag_frames(self, lag_ps: float) -> int:
        """Return a lag in frames, one at least."""
        return max(1, round(lag_ps / self.frame_interval_ps))

    def whole_lags(self, lags_ps: Sequence[float]) -> list[float]:
        """Return the multiples of the frame interval, in ps, that are nearest to lags."""
        return [self.lag_frames(lag) * self.frame_interval_ps for lag in lags_ps]

    def positions(self, stretch: Stretch) -> NDArray[np.float32]:
        """Return the frames of a stretch, (n_frames, 22, 3), nm."""
        whole = self.store.trajectory_positions(stretch.trajectory_idx)
        return whole[stretch.start : stretch.stop]

    def write(self, path: Path, stretches: Sequence[Stretch]) -> str:
        """Write a store that holds these stretches as trajectories, all for training; return its path."""
        with StoreWriter(path, converter="reproduce", source_name="ala2-bopito") as writer:
            molecule_idx = writer.add_molecule(self.molecule)
            for stretch in stretches:
                writer.add_trajectory(
                    molecule_idx,
                    [Frames(positions=self.positions(stretch))],
                    name=f"{stretch.trajectory_idx}-{stretch.start}",
                    split="train",
                    frame_interval_ps=self.frame_interval_ps,
                )
        return str(path)

    def held_back_features(self) -> list[FloatArray]:
        """Return [sin φ, cos φ] of each held-back part, (n_frames, 2)."""
        return [phi_features(self.positions(part)) for part in self.held_back]

    def starts(self, lag_ps: float, n_starts: int) -> NDArray[np.float32]:
        """Return frames of held-back parts, evenly spread over those that a lag is left to, (n_starts, 22, 3)."""
        n_left = [part.stop - part.start - self.lag_frames(lag_ps) for part in self.held_back]
        ends = np.cumsum(n_left)
        rows = np.linspace(0, ends[-1], n_starts, endpoint=False).astype(np.int64)
        owner = np.searchsorted(ends, rows, side="right")
        within = rows - (ends - n_left)[owner]
        return np.stack(
            [
                self.positions(self.held_back[part])[frame]
                for part, frame in zip(owner, within, strict=True)
            ]
        )


def is_alanine_dipeptide(molecule: Molecule) -> bool:
    """Return whether a molecule is C6H12N2O2 with φ where it is expected."""
    numbers = [int(number) for number in molecule.atomic_numbers]
    if tuple(sorted(numbers)) != _ATOMIC_NUMBERS:
        return False
    bonds = {(int(i), int(j)) for i, j in np.asarray(molecule.bond_index).T}
    is_chain = all((a, b) in bonds or (b, a) in bonds for a, b in pairwise(PHI))
    return is_chain and tuple(numbers[atom] for atom in PHI) == _PHI_ELEMENTS


def phi_features(positions: NDArray[np.floating]) -> FloatArray:
    """Return [sin φ, cos φ], (n_frames, 2)."""
    phi = torsion_angles(positions, np.array([PHI]))[:, 0]
    return np.stack((np.sin(phi), np.cos(phi)), axis=1)
