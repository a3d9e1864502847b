"""What a TBG network knows of an atom."""

from dataclasses import replace

import pytest
import torch

from tito_fast.data.readers import from_sequence, read_molecule
from tito_fast.models.tbg.config import TbgConfig
from tito_fast.models.tbg.encoding import ATOM_NAMES, RESIDUE_TYPES, atom_features

ELEMENT, BACKBONE, FULL = (TbgConfig(encoding=name) for name in ("element", "backbone", "full"))


def names_of(molecule):
    """Return residue, residue's type and shared name of each atom, as the encoding has them."""
    index, types, names = atom_features(molecule, FULL).split([2, 20, 54], dim=1)
    return [
        (int(i), RESIDUE_TYPES[t], ATOM_NAMES[n])
        for i, t, n in zip(index.argmax(1), types.argmax(1), names.argmax(1), strict=True)
    ]


def test_elements_are_one_hot():
    molecule = read_molecule("CS")
    found = atom_features(molecule, ELEMENT)
    assert found.shape == (molecule.n_atoms, 5)
    assert torch.equal(found.sum(dim=1), torch.ones(molecule.n_atoms))
    assert [ELEMENT.elements[i] for i in found.argmax(1)] == molecule.atomic_numbers.tolist()
    fluorine = TbgConfig(encoding="element", elements=(1, 6, 9))
    assert atom_features(read_molecule("CF"), fluorine).shape == (5, 3)


def test_the_backbone_of_both_residues_is_told_apart():
    molecule = from_sequence("AG")
    found = atom_features(molecule, BACKBONE).argmax(dim=1).tolist()
    backbone = {
        (number, name): kind - 5
        for number, name, kind in zip(
            molecule.residue_numbers, molecule.atom_names, found, strict=True
        )
        if kind >= 5
    }
    assert backbone == {
        (residue, name): 4 * (residue - 1) + place
        for residue in (1, 2)
        for place, name in enumerate(("N", "CA", "C", "O"))
    }
    side = molecule.atom_names.index("CB")
    assert ELEMENT.elements[found[side]] == 6


def test_equivalent_hydrogens_share_a_name_and_places_in_rings_keep_theirs():
    leucine = from_sequence("LF")
    expected = {
        **{("LEU", name): "HD1" for name in ("HD11", "HD12", "HD13")},
        **{("LEU", name): "HD2" for name in ("HD21", "HD22", "HD23")},
        **{("LEU", name): "HB" for name in ("HB2", "HB3")},
        **{("LEU", name): "H" for name in ("H", "H2", "H3")},
        **{("PHE", name): name for name in ("HD1", "HD2", "HE1", "HE2", "HZ", "CD1", "CD2", "OXT")},
    }
    found = {
        (kind, own): (residue, shared)
        for (residue, kind, shared), own in zip(names_of(leucine), leucine.atom_names, strict=True)
    }
    for (kind, name), shared in expected.items():
        assert found[kind, name] == (0 if kind == "LEU" else 1, shared)


@pytest.mark.parametrize("sequence", ["DE", "RW", "MC", "HT", "KY", "NQ", "IV", "PS"])
def test_every_amino_acid_has_a_full_encoding(sequence):
    molecule = from_sequence(sequence)
    found = atom_features(molecule, FULL)
    assert found.shape == (molecule.n_atoms, 76)
    assert torch.equal(found.sum(dim=1), torch.full((molecule.n_atoms,), 3.0))


def test_what_an_encoding_does_not_know_is_named():
    with pytest.raises(
        ValueError, match=r"atomic_numbers: expected .*\(1, 6, 7, 8, 16\), got 9 in"
    ):
        atom_features(read_molecule("CF"), ELEMENT)
    for config in (BACKBONE, FULL):
        with pytest.raises(ValueError, match=r"expected a dipeptide .*; use the encoding element"):
            atom_features(read_molecule("CCO"), config)
        with pytest.raises(ValueError, match="the residues ALA-ALA-ALA"):
            atom_features(from_sequence("AAA"), config)
    molecule = from_sequence("GG")
    renamed = replace(molecule, atom_names=("X", *molecule.atom_names[1:]))
    with pytest.raises(ValueError, match="expected N, CA, C and O once in both residues"):
        atom_features(renamed, BACKBONE)
    with pytest.raises(ValueError, match=r"atom_names: expected .*, got X in 'GG'"):
        atom_features(renamed, FULL)
