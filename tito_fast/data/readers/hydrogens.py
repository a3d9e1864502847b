"""Missing hydrogens: found, added with coordinates and names; residues protonated as at pH 7."""

from rdkit import Chem, rdBase

from tito_fast.data.readers.conformers import relax
from tito_fast.data.readers.residues import hydrogen_names, is_standard_residue

# Atoms that carry a charge at pH 7 in residues as RDKit's templates write them (neutral).
_PH7_CHARGES = {("LYS", "NZ"): 1, ("ASP", "OD2"): -1, ("GLU", "OE2"): -1}


def n_missing_hydrogens(mol: Chem.Mol) -> int:
    """Return the number of hydrogens that a sanitized ``mol`` implies but does not hold."""
    return sum(atom.GetTotalNumHs(includeNeighbors=False) for atom in mol.GetAtoms())


def add_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    """Return ``mol`` with its missing hydrogens as atoms, each behind its residue's atoms.

    With a conformer, the new atoms get coordinates and are relaxed; the others do not move.
    Molecules of one residue keep their order, new atoms last.
    """
    n_before = mol.GetNumAtoms()
    has_residues = all(atom.GetPDBResidueInfo() is not None for atom in mol.GetAtoms())
    has_positions = mol.GetNumConformers() > 0
    # Residues by hand: AddHs never returns when asked for names that collide with present ones.
    complete = Chem.AddHs(mol, addCoords=has_positions)
    if has_positions:
        with rdBase.BlockLogs():
            relax(complete, fixed=range(n_before))
    if not has_residues:
        return complete
    _label_new_hydrogens(complete, n_before)
    labels = [_residue_label(atom) for atom in complete.GetAtoms()]
    order_of = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    if len(order_of) == 1:
        return complete
    order = sorted(
        range(complete.GetNumAtoms()),
        key=lambda i: (order_of[labels[i]], _heavy_neighbor(complete, i, n_before), i),
    )
    return Chem.RenumberAtoms(complete, order)


def protonate_at_ph7(mol: Chem.RWMol) -> None:
    """Charge the termini and side chains of a peptide as at pH 7, in place.

    Histidine stays neutral with the hydrogen on NE2; cysteine and tyrosine stay neutral.
    """
    for atom in mol.GetAtoms():
        info = atom.GetPDBResidueInfo()
        key = info.GetResidueName().strip(), info.GetName().strip()
        if key in _PH7_CHARGES:
            atom.SetFormalCharge(_PH7_CHARGES[key])
        elif key[1] == "OXT":
            atom.SetFormalCharge(-1)
        elif _is_charged_nitrogen(atom, *key):
            atom.SetFormalCharge(1)
    mol.UpdatePropertyCache()
    Chem.SanitizeMol(mol)


def _is_charged_nitrogen(atom: Chem.Atom, residue_name: str, name: str) -> bool:
    """Whether ``atom`` is the =N of arginine or the N of a free N-terminus (proline included)."""
    if residue_name == "ARG" and name in ("NH1", "NH2"):
        return any(bond.GetBondType() == Chem.BondType.DOUBLE for bond in atom.GetBonds())
    number = atom.GetPDBResidueInfo().GetResidueNumber()
    # A backbone N inside a chain is bonded to the residue before.
    is_first = all(
        neighbor.GetPDBResidueInfo().GetResidueNumber() == number
        for neighbor in atom.GetNeighbors()
    )
    return name == "N" and residue_name != "NME" and is_first


def _residue_label(atom: Chem.Atom) -> tuple[str, int, str]:
    info = atom.GetPDBResidueInfo()
    return info.GetChainId(), info.GetResidueNumber(), info.GetResidueName()


def _heavy_neighbor(mol: Chem.Mol, index: int, n_before: int) -> int:
    """Return the atom behind which an atom is put: a new hydrogen's partner, else itself."""
    if index < n_before:
        return index
    return int(mol.GetAtomWithIdx(index).GetNeighbors()[0].GetIdx())


def _label_new_hydrogens(mol: Chem.Mol, n_before: int) -> None:
    """Give new hydrogens the residue of their partner and a name that is free in it."""
    used = {
        (_residue_label(atom), atom.GetPDBResidueInfo().GetName().strip())
        for atom in mol.GetAtoms()
        if atom.GetIdx() < n_before
    }
    for heavy in list(mol.GetAtoms())[:n_before]:
        label = _residue_label(heavy)
        new = [a for a in heavy.GetNeighbors() if a.GetIdx() >= n_before]
        all_hydrogens = [a for a in heavy.GetNeighbors() if a.GetAtomicNum() == 1]
        names: tuple[str, ...] = ()
        if is_standard_residue(label[2].strip()) and len(new) == len(all_hydrogens):
            names = hydrogen_names(
                heavy.GetPDBResidueInfo().GetName().strip(),
                len(new),
                is_carbon=heavy.GetAtomicNum() == 6,
            )
        for i, atom in enumerate(sorted(new, key=lambda a: a.GetIdx())):
            atom.SetMonomerInfo(heavy.GetPDBResidueInfo())
            name = names[i] if names and (label, names[i]) not in used else None
            if name is None:
                free = (f"H{n}" for n in range(1, 10_000))
                name = next(f for f in free if (label, f) not in used)
            used.add((label, name))
            atom.GetPDBResidueInfo().SetName(name)
