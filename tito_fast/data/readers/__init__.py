"""Readers: files, SMILES, sequences and objects of other packages become one ``Molecule``.

RDKit and MDTraj load with the first reader that is used, not with this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tito_fast.data.readers.options import ReadOptions

if TYPE_CHECKING:
    from tito_fast.data.readers.any_input import read_molecule, read_molecules
    from tito_fast.data.readers.objects import from_mdtraj, from_rdkit
    from tito_fast.data.readers.pdb import from_pdb
    from tito_fast.data.readers.sdf import from_sdf
    from tito_fast.data.readers.sequence import from_sequence
    from tito_fast.data.readers.smiles import from_smiles

__all__ = [
    "ReadOptions",
    "from_mdtraj",
    "from_pdb",
    "from_rdkit",
    "from_sdf",
    "from_sequence",
    "from_smiles",
    "read_molecule",
    "read_molecules",
]

_HOMES = {
    "read_molecule": "any_input",
    "read_molecules": "any_input",
    "from_mdtraj": "objects",
    "from_pdb": "pdb",
    "from_rdkit": "objects",
    "from_sdf": "sdf",
    "from_sequence": "sequence",
    "from_smiles": "smiles",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute may be anything
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
