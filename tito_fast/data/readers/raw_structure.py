"""Atoms and connections as a file states them, before bond orders are known."""

from dataclasses import dataclass, field

from rdkit import Chem

from tito_fast.data.molecule import FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class RawStructure:
    """Atoms with names and the pairs that are known to be bonded.

    Parameters
    ----------
    elements : tuple of int
        Atomic numbers.
    atom_names, residue_names, chain_ids : tuple of str, one per atom
    residue_numbers : tuple of int, one per atom
    positions : ndarray, shape (n_atoms, 3), or None
        In nm.
    bonds : tuple of (int, int)
        Pairs (i, j), i < j, each once; may be incomplete.
    bond_orders : tuple of float or None
        Order of each pair (1.5 aromatic) where the source states all of them.
    charges : tuple of int or None
        Formal charges where the source states any.
    notes : tuple of str
    """

    elements: tuple[int, ...]
    atom_names: tuple[str, ...]
    residue_names: tuple[str, ...]
    residue_numbers: tuple[int, ...]
    chain_ids: tuple[str, ...]
    positions: FloatArray | None
    bonds: tuple[tuple[int, int], ...] = ()
    bond_orders: tuple[float, ...] | None = None
    charges: tuple[int, ...] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.elements)

    def residue_starts(self) -> list[int]:
        """Return the index of the first atom of each run of atoms with one residue label."""
        labels = list(zip(self.chain_ids, self.residue_numbers, self.residue_names, strict=True))
        return [i for i, label in enumerate(labels) if i == 0 or label != labels[i - 1]]

    def single_bonded_mol(self) -> Chem.RWMol:
        """Return an RDKit molecule with every known bond single and no implicit hydrogens."""
        mol = Chem.RWMol()
        for i, number in enumerate(self.elements):
            atom = Chem.Atom(number)
            atom.SetNoImplicit(True)
            info = Chem.AtomPDBResidueInfo()
            info.SetName(self.atom_names[i])
            info.SetResidueName(self.residue_names[i])
            info.SetResidueNumber(self.residue_numbers[i])
            info.SetChainId(self.chain_ids[i])
            atom.SetMonomerInfo(info)
            mol.AddAtom(atom)
        for i, j in self.bonds:
            mol.AddBond(i, j, Chem.BondType.SINGLE)
        if self.positions is not None:
            conformer = Chem.Conformer(self.n_atoms)
            conformer.Set3D(True)
            conformer.SetPositions(self.positions * 10.0)
            mol.AddConformer(conformer)
        return mol
