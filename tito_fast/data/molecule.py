"""One molecule: what its atoms are, how they are bonded, where they are."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Self

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Molecule:
    """A molecule with a start structure.

    Parameters
    ----------
    name : str
        The user's label; part of the noise key, so equal molecules with other names differ in noise.
    atomic_numbers : ndarray, shape (n_atoms,), int64
    bond_index : ndarray, shape (2, n_bonds), int64
        Both directions of every bond, so ``n_bonds`` is twice the number of chemical bonds.
    bond_type : ndarray, shape (n_bonds,), int64
        RDKit codes: 1 single, 2 double, 3 triple, 12 aromatic.
    positions : ndarray, shape (n_atoms, 3), float64
        Start structure in nm.
    atom_names, residue_names : tuple of str, one per atom
        As in a PDB file.
    residue_numbers : tuple of int, one per atom
    chain_ids : tuple of str, one per atom
    smiles : str or None
        Canonical isomeric SMILES with hydrogens implicit, where it is known.
    notes : tuple of str
        What a reader decided on the way (bond orders perceived, isomer taken); shown and recorded.
    """

    name: str
    atomic_numbers: IntArray
    bond_index: IntArray
    bond_type: IntArray
    positions: FloatArray
    atom_names: tuple[str, ...]
    residue_names: tuple[str, ...]
    residue_numbers: tuple[int, ...]
    chain_ids: tuple[str, ...]
    smiles: str | None = None
    formal_charges: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check shapes and ranges, so that no later stage meets a malformed molecule."""
        n_atoms = self.atomic_numbers.shape[0]
        if n_atoms == 0:
            raise ValueError(f"molecule {self.name!r}: expected at least one atom, got none")
        if self.positions.shape != (n_atoms, 3):
            raise ValueError(
                f"positions: expected shape ({n_atoms}, 3) for {self.name!r}, got {self.positions.shape}"
            )
        if not np.isfinite(self.positions).all():
            raise ValueError(
                f"positions: expected finite coordinates for {self.name!r}, got NaN or infinity"
            )
        if self.bond_index.ndim != 2 or self.bond_index.shape != (2, self.bond_type.shape[0]):
            raise ValueError(
                f"bond_index: expected shape (2, {self.bond_type.shape[0]}) for {self.name!r}, "
                f"got {self.bond_index.shape}"
            )
        if self.bond_index.size and not (
            self.bond_index.min() >= 0 and self.bond_index.max() < n_atoms
        ):
            raise ValueError(
                f"bond_index: expected atoms 0 to {n_atoms - 1} for {self.name!r}, got others"
            )
        for label in ("atom_names", "residue_names", "residue_numbers", "chain_ids"):
            if len(getattr(self, label)) != n_atoms:
                raise ValueError(
                    f"{label}: expected {n_atoms} entries for {self.name!r}, got {len(getattr(self, label))}"
                )

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return int(self.atomic_numbers.shape[0])

    @cached_property
    def noise_hash(self) -> int:
        """64-bit hash of elements, bonds and name: this molecule's part of every noise key."""
        order = np.lexsort((self.bond_type, self.bond_index[1], self.bond_index[0]))
        digest = blake2b(digest_size=8)
        digest.update(np.ascontiguousarray(self.atomic_numbers, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.bond_index[:, order], dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.bond_type[order], dtype="<i8").tobytes())
        digest.update(self.name.encode())
        return int.from_bytes(digest.digest(), "little")

    def with_positions(self, positions: FloatArray) -> Self:
        """Return the same molecule at other ``positions`` (n_atoms, 3), in nm."""
        return replace(self, positions=np.asarray(positions, dtype=np.float64))
