import mdtraj as md
import numpy as np
import pytest

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers import from_sequence
from tito_fast.data.topology import to_mdtraj_topology

TWENTY = "ARNDCEQGHILKMFPSTWYV"


def charged(molecule: Molecule):
    rows = zip(
        molecule.residue_names,
        molecule.residue_numbers,
        molecule.atom_names,
        molecule.formal_charges,
        strict=True,
    )
    return {(name, number, atom, charge) for name, number, atom, charge in rows if charge}


@pytest.mark.parametrize(
    ("sequence", "n_atoms", "net"),
    [("AAAA", 43, 0), ("ACE-AAAA-NME", 52, 0), ("ACE-A", 17, -1), ("A-NME", 18, 1), ("G", 10, 0)],
)
def test_ends_are_charged_unless_capped(sequence, n_atoms, net):
    molecule = from_sequence(sequence)
    assert molecule.n_atoms == n_atoms
    assert sum(molecule.formal_charges) == net
    assert molecule.name == sequence


def test_side_chains_are_protonated_as_at_ph_7():
    assert charged(from_sequence("ACE-DEKRHCY-NME")) == {
        ("ASP", 2, "OD2", -1),
        ("GLU", 3, "OE2", -1),
        ("LYS", 4, "NZ", 1),
        ("ARG", 5, "NH2", 1),
    }


def test_a_free_proline_end_is_nh2_plus():
    molecule = from_sequence("PA")
    assert ("PRO", 1, "N", 1) in charged(molecule)
    assert {"H2", "H3"} <= set(molecule.atom_names)


def test_names_and_bonds_are_those_of_mdtrajs_residue_templates():
    # MDTraj builds the same bonds from the names alone, for all twenty residues.
    for letters in (TWENTY[:7], TWENTY[7:14], TWENTY[14:]):
        molecule = from_sequence(f"ACE-{letters}-NME")
        ours = to_mdtraj_topology(molecule)
        bare = md.Topology()
        chain = bare.add_chain()
        for residue in ours.residues:
            copy = bare.add_residue(residue.name, chain)
            for atom in residue.atoms:
                bare.add_atom(atom.name, atom.element, copy)
        bare.create_standard_bonds()
        by_name = {tuple(sorted((a.index, b.index))) for a, b in bare.bonds}
        assert by_name == {tuple(sorted(pair)) for pair in molecule.bond_index.T.tolist()}


def test_residues_are_contiguous_and_numbered_from_the_cap():
    molecule = from_sequence("ACE-GA-NME")
    assert list(molecule.residue_numbers) == sorted(molecule.residue_numbers)
    assert list(dict.fromkeys(molecule.residue_names)) == ["ACE", "GLY", "ALA", "NME"]


def test_residues_are_left_handed():
    for letters in ("AC", "TI"):
        molecule = from_sequence(letters)
        names = list(zip(molecule.residue_numbers, molecule.atom_names, strict=True))
        for residue in (1, 2):
            at = {
                name: molecule.positions[names.index((residue, name))]
                for name in ("N", "CA", "C", "CB")
            }
            n, c, cb = (at[name] - at["CA"] for name in ("N", "C", "CB"))
            assert np.dot(np.cross(n, c), cb) > 0


def test_start_structures_have_sensible_bonds():
    molecule = from_sequence("KDWR")
    i, j = molecule.bond_index
    lengths = np.linalg.norm(molecule.positions[i] - molecule.positions[j], axis=1)
    assert lengths.min() > 0.09
    assert lengths.max() < 0.16


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("AXB", "got 'AXB' with B, X"),
        ("aaa", "natural amino acids such as AAAA or ACE-AAAA-NME, got 'aaa'"),
        ("ACE--NME", "got 'ACE--NME'"),
        ("", "got ''"),
    ],
)
def test_other_letters_are_refused_by_name(sequence, message):
    with pytest.raises(ValueError, match=message):
        from_sequence(sequence)
