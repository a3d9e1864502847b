"""Peptides from a one-letter sequence, uncapped or with the caps ACE and NME."""

import re
from dataclasses import dataclass

from rdkit import Chem

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers.finish import finish
from tito_fast.data.readers.hydrogens import protonate_at_ph7
from tito_fast.data.readers.options import ReadOptions
from tito_fast.data.readers.residues import RESIDUE_OF_LETTER

_SEQUENCE = re.compile(r"(ACE-)?([A-Z]+)(-NME)?")


@dataclass(frozen=True, kw_only=True)
class PeptideSequence:
    """Letters of the residues and whether each end is capped."""

    letters: str
    has_ace: bool
    has_nme: bool


def parse_sequence(text: str) -> PeptideSequence | None:
    """Return the sequence in ``text``, or None if it is not written as one.

    Letters that are no natural amino acid are kept: ``from_sequence`` names them.
    """
    match = _SEQUENCE.fullmatch(text)
    if match is None:
        return None
    return PeptideSequence(
        letters=match.group(2),
        has_ace=match.group(1) is not None,
        has_nme=match.group(3) is not None,
    )


def from_sequence(sequence: str, *, options: ReadOptions | None = None) -> Molecule:
    """Return the L-peptide of ``sequence``, protonated as at pH 7, with a 3D start structure.

    Parameters
    ----------
    sequence : str
        One-letter codes of natural amino acids in capitals: ``AAAA``; with caps ``ACE-AAAA-NME``
        (either cap alone is allowed).
    options : ReadOptions, optional
        ``smiles_template`` is refused; ``add_hydrogens`` has no meaning here.

    Returns
    -------
    Molecule
        With atom and residue names of the PDB. Free ends are NH3+ and COO-, Asp and Glu are
        negative, Lys and Arg positive, His is neutral with its hydrogen on NE2 (HIE). Positions
        in nm from ETKDGv3 with ``options.seed``, relaxed with MMFF94.

    Raises
    ------
    ValueError
        If ``sequence`` is not written as above or holds another letter.

    Examples
    --------
    >>> from_sequence("ACE-A-NME").n_atoms
    22
    """
    options = options or ReadOptions()
    options.refuse_template("a peptide sequence")
    text = sequence.strip()
    parsed = parse_sequence(text)
    unknown = sorted(set(parsed.letters) - set(RESIDUE_OF_LETTER)) if parsed else []
    if parsed is None or unknown:
        got = f"{sequence!r}" + (f" with {', '.join(unknown)}" if unknown else "")
        raise ValueError(
            "sequence: expected one-letter codes of natural amino acids such as AAAA or "
            f"ACE-AAAA-NME, got {got}"
        )
    mol = Chem.RWMol(Chem.MolFromSequence(parsed.letters))
    _correct_names(mol)
    n_residues = len(parsed.letters)
    first = 2 if parsed.has_ace else 1
    for atom in mol.GetAtoms():
        info = atom.GetPDBResidueInfo()
        info.SetResidueNumber(info.GetResidueNumber() + first - 1)
    if parsed.has_ace:
        _add_ace(mol)
    if parsed.has_nme:
        _add_nme(mol, residue_number=first + n_residues)
    protonate_at_ph7(mol)
    ordered = sorted(
        range(mol.GetNumAtoms()),
        key=lambda i: mol.GetAtomWithIdx(i).GetPDBResidueInfo().GetResidueNumber(),
    )
    return finish(
        Chem.RenumberAtoms(mol, ordered),
        name=text,
        source=f"sequence {text!r}",
        options=options,
        notes=("peptide protonated as at pH 7: free ends NH3+ and COO-, His as HIE",),
        implicit_hydrogens=True,
    )


def _correct_names(mol: Chem.RWMol) -> None:
    """Rename atoms that RDKit's sequence reader names unlike the PDB and RDKit's PDB reader.

    Isoleucine's CD1 must hang on CG1, and arginine's double bond goes to NH2.
    """
    for atom in mol.GetAtoms():
        residue = atom.GetPDBResidueInfo().GetResidueName()
        if residue == "ILE" and _name(atom) == "CD1":
            ethyl = atom.GetNeighbors()[0]
            branch = next(other for other in ethyl.GetNeighbors() if _name(other) == "CB")
            if _name(ethyl) == "CG2":
                _swap_neighbor_names(branch, "CG1", "CG2")
        if residue == "ARG" and _name(atom) == "CZ":
            double = next(bond for bond in atom.GetBonds() if bond.GetBondTypeAsDouble() == 2)
            if _name(double.GetOtherAtom(atom)) == "NH1":
                _swap_neighbor_names(atom, "NH1", "NH2")


def _swap_neighbor_names(center: Chem.Atom, one: str, two: str) -> None:
    atoms = {_name(atom): atom for atom in center.GetNeighbors()}
    atoms[one].GetPDBResidueInfo().SetName(two)
    atoms[two].GetPDBResidueInfo().SetName(one)


def _add_ace(mol: Chem.RWMol) -> None:
    nitrogen = next(atom.GetIdx() for atom in mol.GetAtoms() if _name(atom) == "N")
    methyl = _add_atom(mol, 6, "CH3", "ACE", 1)
    carbon = _add_atom(mol, 6, "C", "ACE", 1)
    oxygen = _add_atom(mol, 8, "O", "ACE", 1)
    mol.AddBond(methyl, carbon, Chem.BondType.SINGLE)
    mol.AddBond(carbon, oxygen, Chem.BondType.DOUBLE)
    mol.AddBond(carbon, nitrogen, Chem.BondType.SINGLE)


def _add_nme(mol: Chem.RWMol, *, residue_number: int) -> None:
    """Replace the last residue's OXT by the amide N of NME."""
    oxygen = next(atom for atom in mol.GetAtoms() if _name(atom) == "OXT")
    carbon = oxygen.GetNeighbors()[0].GetIdx()
    mol.RemoveAtom(oxygen.GetIdx())
    nitrogen = _add_atom(mol, 7, "N", "NME", residue_number)
    methyl = _add_atom(mol, 6, "C", "NME", residue_number)
    mol.AddBond(carbon, nitrogen, Chem.BondType.SINGLE)
    mol.AddBond(nitrogen, methyl, Chem.BondType.SINGLE)


def _add_atom(mol: Chem.RWMol, element: int, name: str, residue: str, residue_number: int) -> int:
    atom = Chem.Atom(element)
    info = Chem.AtomPDBResidueInfo()
    info.SetName(name)
    info.SetResidueName(residue)
    info.SetResidueNumber(residue_number)
    info.SetChainId("A")
    atom.SetMonomerInfo(info)
    return int(mol.AddAtom(atom))


def _name(atom: Chem.Atom) -> str:
    return str(atom.GetPDBResidueInfo().GetName()).strip()
