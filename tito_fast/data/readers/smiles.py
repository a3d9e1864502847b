"""Molecules from SMILES."""

from rdkit import Chem, rdBase

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers.finish import finish
from tito_fast.data.readers.options import ReadOptions


def from_smiles(smiles: str, *, options: ReadOptions | None = None) -> Molecule:
    """Return the molecule of ``smiles`` with hydrogens and a 3D start structure.

    Parameters
    ----------
    smiles : str
        One molecule. Hydrogens are implied and added. Stereo that is not stated comes out as one
        isomer, the same for the same seed; the notes name it.
    options : ReadOptions, optional
        ``smiles_template`` is refused; ``add_hydrogens`` has no meaning here.

    Returns
    -------
    Molecule
        Positions in nm from ETKDGv3 with ``options.seed``, relaxed with MMFF94 or UFF. Heavy
        atoms in the order of the SMILES, then hydrogens.

    Raises
    ------
    ValueError
        If it is not a valid SMILES of one closed-shell molecule.

    Examples
    --------
    >>> from_smiles("CCO").n_atoms
    9
    """
    options = options or ReadOptions()
    options.refuse_template("a SMILES")
    text = smiles.strip()
    mol = parse_smiles(text)
    if mol is None:
        raise ValueError(f"smiles: expected a valid SMILES, got {smiles!r}{why_not_smiles(text)}")
    return finish(
        mol, name=text, source=f"smiles {text!r}", options=options, implicit_hydrogens=True
    )


def parse_smiles(text: str) -> Chem.Mol | None:
    """Return the RDKit molecule of ``text``, or None if it is no SMILES of at least one atom."""
    # RDKit takes what follows a blank for a name.
    if not text or any(letter.isspace() for letter in text):
        return None
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text)
    return mol if mol is not None and mol.GetNumAtoms() else None


def why_not_smiles(text: str) -> str:
    """Return what is chemically wrong with ``text`` as a clause, empty if its grammar is."""
    if not text or any(letter.isspace() for letter in text):
        return ""
    with rdBase.BlockLogs():
        mol: Chem.Mol | None = Chem.MolFromSmiles(text, sanitize=False)
        if mol is None:
            return ""
        try:
            Chem.SanitizeMol(mol)
        except ValueError as error:
            return f" ({str(error).strip()})"
    return ""
