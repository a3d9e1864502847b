from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from tito_fast.data.molecule import Molecule


def water(**changes):
    fields = {
        "name": "water",
        "atomic_numbers": np.array([8, 1, 1]),
        "bond_index": np.array([[0, 0, 1, 2], [1, 2, 0, 0]]),
        "bond_type": np.array([1, 1, 1, 1]),
        "positions": np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]),
        "atom_names": ("O1", "H1", "H2"),
        "residue_names": ("MOL",) * 3,
        "residue_numbers": (1,) * 3,
        "chain_ids": ("A",) * 3,
    }
    return Molecule(**(fields | changes))


def test_a_molecule_is_frozen():
    with pytest.raises(FrozenInstanceError):
        water().name = "ice"


def test_other_positions_make_another_molecule():
    molecule = water()
    moved = molecule.with_positions(molecule.positions + 1)
    np.testing.assert_array_equal(moved.positions, molecule.positions + 1)
    assert molecule.positions[0, 0] == 0.0
    assert moved.noise_hash == molecule.noise_hash


def test_the_noise_hash_is_fixed_and_64_bit():
    # Written down: runs of another day must draw the same noise.
    assert water().noise_hash == 11_291_554_251_417_124_958
    assert 0 <= water().noise_hash < 2**64


def test_the_noise_hash_does_not_depend_on_the_order_of_bonds():
    molecule = water()
    shuffled = replace(molecule, bond_index=molecule.bond_index[:, ::-1])
    assert shuffled.noise_hash == molecule.noise_hash


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"atomic_numbers": np.array([16, 1, 1])},
        {"bond_type": np.array([2, 1, 2, 1])},
        {"bond_index": np.array([[0, 0, 1, 1], [1, 1, 0, 0]])},
    ],
)
def test_the_noise_hash_depends_on_what_the_molecule_is(changes):
    assert water(**changes).noise_hash != water().noise_hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"atomic_numbers": np.zeros(0, dtype=np.int64)}, "expected at least one atom, got none"),
        ({"positions": np.zeros((2, 3))}, r"positions: expected shape \(3, 3\).*got \(2, 3\)"),
        ({"positions": np.full((3, 3), np.nan)}, "expected finite coordinates .* got NaN"),
        ({"bond_type": np.array([1])}, r"bond_index: expected shape \(2, 1\).* got \(2, 4\)"),
        ({"bond_index": np.array([[0, 0, 1, 3], [1, 2, 0, 0]])}, "expected atoms 0 to 2"),
        ({"atom_names": ("O1",)}, "atom_names: expected 3 entries for 'water', got 1"),
        ({"chain_ids": ()}, "chain_ids: expected 3 entries for 'water', got 0"),
    ],
)
def test_a_malformed_molecule_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        water(**changes)
