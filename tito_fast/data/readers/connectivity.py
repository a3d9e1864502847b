"""Which atoms are bonded: CONECT records and residue templates first, then distances."""

from dataclasses import replace

import mdtraj as md
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from tito_fast.data.readers.raw_structure import RawStructure
from tito_fast.data.readers.residues import canonical_residue


def with_all_bonds(raw: RawStructure, *, source: str) -> RawStructure:
    """Return ``raw`` with every bond, and a note that says where the bonds came from.

    Stated bonds and residue templates suffice when they join all atoms into one molecule and
    leave no hydrogen alone; otherwise distances add what is missing.

    Raises
    ------
    ValueError
        If bonds are missing and there are no positions to find them by, or a hydrogen ends up
        with two bonds.
    """
    stated = set(raw.bonds)
    templates = _template_bonds(raw) - stated
    known = stated | templates
    origins = ["the file's records"] if stated else []
    origins += ["residue templates"] if templates else []
    if not _joins_all(raw.n_atoms, known):
        if raw.positions is None:
            raise ValueError(
                f"{source}: expected bonds between all atoms or positions to find them by, "
                f"got {len(known)} bonds for {raw.n_atoms} atoms and no positions"
            )
        added = _distance_bonds(raw, known)
        known |= added
        origins += ["distances"] if added else []
    _check_hydrogens(raw, known, source)
    note = (f"bonds from {', '.join(origins)}",) if origins else ()
    return replace(raw, bonds=tuple(sorted(known)), notes=(*raw.notes, *note))


def _template_bonds(raw: RawStructure) -> set[tuple[int, int]]:
    topology = md.Topology()
    starts = set(raw.residue_starts())
    chain = residue = None
    for i, number in enumerate(raw.elements):
        if chain is None or raw.chain_ids[i] != raw.chain_ids[i - 1]:
            chain = topology.add_chain()
        if i in starts:
            residue = topology.add_residue(canonical_residue(raw.residue_names[i]), chain)
        topology.add_atom(raw.atom_names[i], md.element.Element.getByAtomicNumber(number), residue)
    topology.create_standard_bonds()
    pairs = ((a.index, b.index) for a, b in topology.bonds)
    return {(min(pair), max(pair)) for pair in pairs}


def _distance_bonds(raw: RawStructure, known: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return the bonds that RDKit finds by distance, but none to a hydrogen that has one."""
    mol = replace(raw, bonds=()).single_bonded_mol()
    with rdBase.BlockLogs():
        rdDetermineBonds.DetermineConnectivity(mol)
    bonded = {i for pair in known for i in pair}
    found = set()
    for bond in mol.GetBonds():
        i, j = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        taken = any(raw.elements[k] == 1 and k in bonded for k in (i, j))
        if (i, j) not in known and not taken:
            found.add((i, j))
    return found


def _joins_all(n_atoms: int, bonds: set[tuple[int, int]]) -> bool:
    mol = Chem.RWMol()
    for _ in range(n_atoms):
        mol.AddAtom(Chem.Atom(6))
    for i, j in bonds:
        mol.AddBond(i, j, Chem.BondType.SINGLE)
    return len(Chem.GetMolFrags(mol)) == 1


def _check_hydrogens(raw: RawStructure, bonds: set[tuple[int, int]], source: str) -> None:
    degree = [0] * raw.n_atoms
    for pair in bonds:
        for i in pair:
            degree[i] += 1
    for i, number in enumerate(raw.elements):
        if number == 1 and degree[i] > 1:
            raise ValueError(
                f"{source}: expected one bond for each hydrogen, got {degree[i]} for atom {i + 1} "
                f"({raw.atom_names[i]}); the coordinates or the records are garbled"
            )
