"""Molecules from SDF and MOL files."""

import os
import re
from pathlib import Path

from rdkit import Chem, rdBase

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers.elements import atomic_number_of
from tito_fast.data.readers.finish import finish
from tito_fast.data.readers.options import ReadOptions
from tito_fast.data.readers.text_file import read_text

_ATOM_LINE = re.compile(r"\s*(?:\S+\s+){3}([A-Za-z]\S*)\s")


def from_sdf(path: str | os.PathLike[str], *, options: ReadOptions | None = None) -> Molecule:
    """Return the one molecule of an SDF or MOL file (V2000 or V3000).

    Parameters
    ----------
    path : path
    options : ReadOptions, optional
        ``smiles_template`` is refused: the file has bond orders.

    Returns
    -------
    Molecule
        Atoms in the order of the file, positions in nm. Stereo is that of the coordinates; a file
        with flat (2D) coordinates gets a 3D structure from ETKDGv3, which the notes say.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not an SDF, is truncated, holds several molecules, or lacks hydrogens.
    """
    options = options or ReadOptions()
    options.refuse_template("an SDF or MOL file")
    text = read_text(path, expected="an SDF or MOL file")
    source = f"path {str(path)!r}"
    block = _only_block(text, source)
    with rdBase.BlockLogs():
        mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False, strictParsing=True)
    if mol is None:
        raise ValueError(f"{source}: expected a complete SDF or MOL file, got {_reason(block)}")
    try:
        with rdBase.BlockLogs():
            Chem.SanitizeMol(mol)
            Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    except ValueError as error:
        raise ValueError(
            f"{source}: expected a chemically valid molecule, got: {str(error).strip()}"
        ) from error
    return finish(mol, name=Path(path).stem, source=source, options=options)


def _only_block(text: str, source: str) -> str:
    lines = text.splitlines()
    if not any("V2000" in line or "V3000" in line for line in lines[:8]):
        hint = ""
        if any(line.startswith(("ATOM  ", "HETATM")) for line in lines):
            hint = "; it looks like a PDB file: name it .pdb"
        raise ValueError(
            f"{source}: expected an SDF or MOL file (V2000 or V3000 in its counts line), "
            f"got text that starts {text.lstrip()[:30]!r}{hint}"
        )
    blocks = re.split(r"^\$\$\$\$.*$", text, flags=re.MULTILINE)
    blocks = [block for block in blocks if block.strip()]
    if len(blocks) > 1:
        raise ValueError(f"{source}: expected one molecule, got {len(blocks)}; split the file")
    if not any(line.startswith("M  END") for line in lines):
        raise ValueError(
            f"{source}: expected a complete SDF or MOL file, got one without 'M  END'; "
            "it is truncated"
        )
    return blocks[0]


def _reason(block: str) -> str:
    """Return why RDKit could not parse ``block``, as far as its atom lines tell."""
    for line in block.splitlines()[4:]:
        match = _ATOM_LINE.match(line)
        if match is None:
            break
        if any(field.lower().strip("+-") in ("nan", "inf") for field in line.split()[:3]):
            return f"coordinates that are not finite ({' '.join(line.split()[:3])})"
        if atomic_number_of(match.group(1)) is None:
            return f"the unknown element {match.group(1)!r}"
    return "one that RDKit cannot parse; it is truncated or garbled"
