"""What a TBG network knows of an atom: its element, its place in the backbone, or its name in the residue.

``element``: one-hot of the element. ``backbone``: the same, but the N, CA, C and O of the two residues
each have an entry of their own in place of their element's. ``full``: one-hot of the residue's index, of
its type, and of the atom's name without the digits that tell equivalent atoms apart.
"""

from collections.abc import Iterable
from typing import Final, TypeVar

import torch
from torch import Tensor

from tito_fast.data.molecule import Molecule
from tito_fast.models.tbg.config import N_RESIDUE_TYPES, N_RESIDUES, TbgConfig

# In the order of the published encoding.
RESIDUE_TYPES: Final = (
    *("ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE"),
    *("LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL"),
)
ATOM_NAMES: Final = (
    *("C", "CA", "CB", "CD", "CD1", "CD2", "CE", "CE1", "CE2", "CE3", "CG", "CG1", "CG2", "CH2"),
    *("CZ", "CZ2", "CZ3", "H", "HA", "HB", "HD", "HD1", "HD2", "HE", "HE1", "HE2", "HE3", "HG"),
    *("HG1", "HG2", "HH", "HH1", "HH2", "HZ", "HZ2", "HZ3", "N", "ND1", "ND2", "NE", "NE1", "NE2"),
    *("NH1", "NH2", "NZ", "O", "OD", "OE", "OG", "OG1", "OH", "OXT", "SD", "SG"),
)
_BACKBONE_NAMES: Final = ("N", "CA", "C", "O")
# Protonation states are of one type.
_SAME_TYPE: Final = {
    "HID": "HIS",
    "HIE": "HIS",
    "HIP": "HIS",
    "ASH": "ASP",
    "GLH": "GLU",
    "LYN": "LYS",
    "CYM": "CYS",
    "CYX": "CYS",
}
# In rings the digit of a hydrogen says which place it has.
_RING_RESIDUES: Final = frozenset({"HIS", "PHE", "TRP", "TYR"})
_RING_HYDROGENS: Final = ("HD", "HE", "HZ", "HH")

_Value = TypeVar("_Value", int, str)


def atom_features(molecule: Molecule, config: TbgConfig) -> Tensor:
    """Return the features of the atoms of ``molecule``.

    Parameters
    ----------
    molecule : Molecule
        For ``backbone`` and ``full``, a dipeptide with the atom names of the PDB.
    config : TbgConfig

    Returns
    -------
    Tensor, shape (n_atoms, config.n_inputs), float32
        Zeros and ones.

    Raises
    ------
    ValueError
        If the encoding has no entry for an element, a residue or an atom's name, or the molecule is no
        dipeptide.

    References
    ----------
    .. [1] Transferable Boltzmann Generators, arXiv:2406.14426, section 4 and appendix.
    """
    if config.encoding == "element":
        return _one_hot(_element_ids(molecule, config), config.n_inputs)
    residues = _residue_indices(molecule, config)
    if config.encoding == "backbone":
        return _one_hot(_backbone_ids(molecule, config, residues), config.n_inputs)
    types = [_SAME_TYPE.get(name, name) for name in molecule.residue_names]
    names = [
        _shared_name(name, residue)
        for name, residue in zip(molecule.atom_names, types, strict=True)
    ]
    return torch.cat(
        [
            _one_hot(residues, N_RESIDUES),
            _one_hot(_ids(types, RESIDUE_TYPES, "residue_names", molecule), N_RESIDUE_TYPES),
            _one_hot(_ids(names, ATOM_NAMES, "atom_names", molecule), len(ATOM_NAMES)),
        ],
        dim=1,
    )


def _one_hot(ids: list[int], n_classes: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(ids), n_classes).to(torch.float32)


def _element_ids(molecule: Molecule, config: TbgConfig) -> list[int]:
    numbers = [int(number) for number in molecule.atomic_numbers]
    return _ids(numbers, config.elements, "atomic_numbers", molecule)


def _backbone_ids(molecule: Molecule, config: TbgConfig, residues: list[int]) -> list[int]:
    ids = _element_ids(molecule, config)
    found = []
    for atom, (name, residue) in enumerate(zip(molecule.atom_names, residues, strict=True)):
        if name in _BACKBONE_NAMES:
            place = len(_BACKBONE_NAMES) * residue + _BACKBONE_NAMES.index(name)
            found.append(place)
            ids[atom] = len(config.elements) + place
    if sorted(found) != list(range(len(_BACKBONE_NAMES) * N_RESIDUES)):
        raise ValueError(
            f"molecule: expected N, CA, C and O once in both residues for the encoding backbone, got "
            f"{len(found)} such atoms in {molecule.name!r}; use the encoding element"
        )
    return ids


def _residue_indices(molecule: Molecule, config: TbgConfig) -> list[int]:
    """Return the place of each atom's residue in the chain, from 0."""
    labels = list(
        zip(molecule.chain_ids, molecule.residue_numbers, molecule.residue_names, strict=True)
    )
    order = list(dict.fromkeys(labels))
    unknown = {_SAME_TYPE.get(label[2], label[2]) for label in order} - set(RESIDUE_TYPES)
    if len(order) != N_RESIDUES or unknown:
        residues = "-".join(label[2] for label in order)
        raise ValueError(
            f"molecule: expected a dipeptide of the {N_RESIDUE_TYPES} amino acids for the encoding "
            f"{config.encoding}, got {molecule.name!r} with the residues {residues}; use the encoding element"
        )
    return [order.index(label) for label in labels]


def _shared_name(name: str, residue: str) -> str:
    """Return the name that equivalent atoms share."""
    if name[:2] in ("OD", "OE"):
        return name[:2]
    is_in_ring = residue in _RING_RESIDUES and name[:2] in _RING_HYDROGENS
    if name[:1] == "H" and name[-1] in "123" and not is_in_ring:
        return name[:-1]
    return name


def _ids(
    values: Iterable[_Value], known: tuple[_Value, ...], name: str, molecule: Molecule
) -> list[int]:
    places = {value: place for place, value in enumerate(known)}
    values = list(values)
    unknown = sorted({str(value) for value in values if value not in places})
    if unknown:
        raise ValueError(
            f"{name}: expected those of the encoding ({', '.join(map(str, known))}), got "
            f"{', '.join(unknown)} in {molecule.name!r}"
        )
    return [places[value] for value in values]
