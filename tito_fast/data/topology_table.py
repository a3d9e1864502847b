"""The topology of all molecules of a store, such that a batch is a few gathers."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.molecule import IntArray
from tito_fast.data.store import Store


@dataclass(frozen=True, eq=False, kw_only=True)
class TopologyTable:
    """Atoms and bonds of all molecules end to end, so that a batch is a few gathers."""

    atomic_numbers: IntArray
    atom_counts: IntArray
    atom_ptr: IntArray
    bonds: tuple[IntArray, IntArray, IntArray]
    bond_counts: IntArray
    bond_ptr: IntArray

    @classmethod
    def from_store(cls, store: Store) -> Self:
        """Return the table of all molecules of ``store``."""
        molecules = store.molecules
        atom_counts = np.array([molecule.n_atoms for molecule in molecules], dtype=np.int64)
        bond_counts = np.array([m.bond_type.shape[0] for m in molecules], dtype=np.int64)
        index = np.concatenate([molecule.bond_index for molecule in molecules], axis=1)
        return cls(
            atomic_numbers=np.concatenate([molecule.atomic_numbers for molecule in molecules]),
            atom_counts=atom_counts,
            atom_ptr=csr_starts(atom_counts),
            bonds=(index[0], index[1], np.concatenate([m.bond_type for m in molecules])),
            bond_counts=bond_counts,
            bond_ptr=csr_starts(bond_counts),
        )

    def batch(self, molecule: IntArray) -> tuple[MoleculeBatch, IntArray]:
        """Return the batch of ``molecule`` and each atom's number within its molecule."""
        sizes, batch_ptr, atom = _ragged(self.atom_counts[molecule])
        bond_sizes, _, bond = _ragged(self.bond_counts[molecule])
        bond_rows = np.repeat(self.bond_ptr[molecule], bond_sizes)
        bond_rows += bond
        offset = np.repeat(batch_ptr[:-1], bond_sizes)
        source, receiver, kind = self.bonds
        bond_index = np.empty((2, bond_rows.shape[0]), dtype=np.int64)
        np.add(source[bond_rows], offset, out=bond_index[0])
        np.add(receiver[bond_rows], offset, out=bond_index[1])
        batch = MoleculeBatch(
            atomic_numbers=torch.from_numpy(
                self.atomic_numbers[np.repeat(self.atom_ptr[molecule], sizes) + atom]
            ),
            batch_ptr=torch.from_numpy(batch_ptr),
            bond_index=torch.from_numpy(bond_index),
            bond_type=torch.from_numpy(kind[bond_rows]),
            sizes=tuple(sizes.tolist()),
        )
        return batch, atom


def csr_starts(counts: IntArray) -> IntArray:
    """Return where each of consecutive groups of ``counts`` elements starts."""
    return np.concatenate([[0], np.cumsum(counts)])[:-1]


def _ragged(sizes: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return ``sizes``, their CSR starts, and each element's number within its row."""
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    within = np.arange(ptr[-1])
    within -= np.repeat(ptr[:-1], sizes)
    return sizes, ptr, within
