"""Standard residues: their names, variants and bond orders, as RDKit's templates state them."""

from functools import cache
from typing import Final

from rdkit import Chem

RESIDUE_OF_LETTER: Final = {
    "A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "E": "GLU", "Q": "GLN",
    "G": "GLY", "H": "HIS", "I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE",
    "P": "PRO", "S": "SER", "T": "THR", "W": "TRP", "Y": "TYR", "V": "VAL",
}  # fmt: skip
"""Three-letter name of each natural amino acid."""

# Names that force fields give to protonation states; the heavy atoms are those of the residue.
_VARIANTS: Final = {
    "HID": "HIS", "HIE": "HIS", "HIP": "HIS", "HSD": "HIS", "HSE": "HIS", "HSP": "HIS",
    "ASH": "ASP", "GLH": "GLU", "LYN": "LYS", "ARN": "ARG", "CYX": "CYS", "CYM": "CYS",
    "TYM": "TYR",
}  # fmt: skip

_LETTER_OF_RESIDUE: Final = {name: letter for letter, name in RESIDUE_OF_LETTER.items()}


def canonical_residue(name: str) -> str:
    """Return the standard residue of a protonation variant, other names as they are."""
    return _VARIANTS.get(name.upper(), name.upper())


def is_standard_residue(name: str) -> bool:
    """Whether ``name`` is a natural amino acid, a variant of one, or the cap ACE or NME."""
    return canonical_residue(name) in _LETTER_OF_RESIDUE or name.upper() in {"ACE", "NME"}


def swap_atom_names(mol: Chem.Mol, one: str, two: str) -> None:
    """Exchange the atom names ``one`` and ``two`` in ``mol``, in place."""
    other = {one: two, two: one}
    for atom in mol.GetAtoms():
        info = atom.GetPDBResidueInfo()
        name = info.GetName().strip()
        if name in other:
            info.SetName(other[name])


@cache
def residue_double_bonds(name: str) -> frozenset[frozenset[str]]:
    """Return the double bonds of a standard residue as pairs of atom names, rings Kekulé."""
    if name.upper() == "ACE":
        return frozenset({frozenset({"C", "O"})})
    if name.upper() == "NME":
        return frozenset()
    mol = Chem.MolFromSequence(_LETTER_OF_RESIDUE[canonical_residue(name)])
    if canonical_residue(name) == "ARG":
        # As RDKit's PDB reader, which sets the double bond to the other nitrogen.
        swap_atom_names(mol, "NH1", "NH2")
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return frozenset(
        frozenset(
            atom.GetPDBResidueInfo().GetName().strip()
            for atom in (bond.GetBeginAtom(), bond.GetEndAtom())
        )
        for bond in mol.GetBonds()
        if bond.GetBondType() == Chem.BondType.DOUBLE
    )


def set_natural_stereo(mol: Chem.Mol) -> None:
    """Give the stereocenters of standard residues in ``mol`` their natural (L) handedness.

    For structures without coordinates; in place. Other residues stay as they are.
    """
    for atom in mol.GetAtoms():
        info = atom.GetPDBResidueInfo()
        wanted = _natural_labels(canonical_residue(info.GetResidueName().strip())).get(
            info.GetName().strip()
        )
        if wanted is None:
            continue
        for tag in (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW):
            atom.SetChiralTag(tag)
            Chem.AssignStereochemistry(mol, cleanIt=False, force=True)
            if atom.HasProp("_CIPCode") and atom.GetProp("_CIPCode") == wanted:
                break


@cache
def _natural_labels(name: str) -> dict[str, str]:
    """Return the CIP label of each stereocenter of a standard residue, by atom name."""
    if name not in _LETTER_OF_RESIDUE:
        return {}
    mol = Chem.MolFromSequence(_LETTER_OF_RESIDUE[name])
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    return {
        atom.GetPDBResidueInfo().GetName().strip(): atom.GetProp("_CIPCode")
        for atom in mol.GetAtoms()
        if atom.HasProp("_CIPCode")
    }


def hydrogen_names(heavy_name: str, n_hydrogens: int, *, is_carbon: bool) -> tuple[str, ...]:
    """Return the PDB names of the hydrogens on one heavy atom of a standard residue.

    Examples
    --------
    >>> hydrogen_names("CB", 2, is_carbon=True)
    ('HB2', 'HB3')
    >>> hydrogen_names("NH1", 2, is_carbon=False)
    ('HH11', 'HH12')
    """
    if heavy_name == "N":
        return {1: ("H",), 2: ("H2", "H3")}.get(n_hydrogens, ("H", "H2", "H3"))[:n_hydrogens]
    # The methyl groups of ACE and NME carry plain numbers.
    stem = "H" if heavy_name in {"CH3", "C"} else "H" + heavy_name[1:]
    if n_hydrogens == 1 and stem != "H":
        return (stem,)
    first = 2 if is_carbon and n_hydrogens == 2 else 1
    return tuple(f"{stem}{first + i}" for i in range(n_hydrogens))
