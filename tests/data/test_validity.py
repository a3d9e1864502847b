"""What counts as a sound frame, and that counts do not depend on how frames arrive."""

import json

import numpy as np
import pytest

from tito_fast.data.readers import from_sequence, from_smiles
from tito_fast.data.validity import FLAG_BITS, ValidityCounter


def counted(molecule, positions):
    counter = ValidityCounter(molecule)
    counter.update(np.zeros(len(positions), dtype=np.int64), positions)
    return counter.result()


def trembling(molecule, n_frames, *, scale=0.002, seed=0):
    rng = np.random.default_rng(seed)
    noise = scale * rng.standard_normal((n_frames, molecule.n_atoms, 3))
    return (molecule.positions + noise).astype(np.float32)


@pytest.mark.parametrize(
    "smiles",
    ["CCCCO", "C[C@H](N)C(=O)O", "OC/C=C/CO", "c1ccccc1C#N", "CS(=O)(=O)N", "C1CC2CC1CC2", "C"],
)
def test_start_structures_of_real_molecules_are_sound(smiles):
    molecule = from_smiles(smiles)
    result = counted(molecule, trembling(molecule, 5))
    n_bonds = molecule.bond_index.shape[1] // 2
    assert result["all"]["frames"] == 5
    assert result["all"]["bonds"] == 5 * n_bonds
    assert result["all"]["bonds_in_range"] == 5 * n_bonds
    assert result["all"]["bonds_near_covalent"] == 5 * n_bonds
    for name in ("nan_frames", "clash_frames", "inverted_frames", "flipped_frames"):
        assert result["all"][name] == 0
    json.dumps(result, allow_nan=False)


def test_peptides_have_their_stereocenters():
    # All but glycine; isoleucine has two.
    molecule = from_sequence("AGIS")
    centers = ValidityCounter(molecule).result()["stereocenters"]
    names = [(molecule.residue_names[atom], molecule.atom_names[atom]) for atom in centers]
    assert sorted(names) == [("ALA", "CA"), ("ILE", "CA"), ("ILE", "CB"), ("SER", "CA")]


@pytest.mark.parametrize(
    ("smiles", "n_centers", "n_double"),
    [
        ("C[C@H](N)C(=O)O", 1, 0),
        ("CC(C)O", 0, 0),  # two equal groups
        ("OC[C@H](O)[C@H](O)CO", 2, 0),  # meso: each center still has a sense
        ("C[S@](=O)CC", 1, 0),  # three neighbors
        ("OC/C=C/CO", 0, 1),
        ("CC=C", 0, 0),
        ("C1CC=CCC1", 0, 0),  # no other isomer in a small ring
        ("CN(CC)C=O", 0, 0),
    ],
)
def test_true_stereo_is_found_and_no_other(smiles, n_centers, n_double):
    molecule = from_smiles(smiles)
    result = ValidityCounter(molecule).result()
    assert len(result["stereocenters"]) == n_centers
    assert len(result["double_bonds"]) == n_double
    mirrored = counted(molecule, molecule.positions[None] * [-1, 1, 1])["all"]
    assert mirrored["inverted_stereocenters"] == n_centers
    assert mirrored["inverted_frames"] == int(n_centers > 0)
    assert mirrored["flipped_frames"] == 0
    assert (mirrored["share_inverted_frames"] is None) == (n_centers == 0)


def test_an_isomer_of_a_double_bond_is_a_flip():
    molecule = from_smiles("F/C=C/F")
    positions = molecule.positions.copy()
    # Half a turn of one end about the double bond.
    axis = positions[2] - positions[1]
    axis /= np.linalg.norm(axis)
    for atom in (3, 5):
        arm = positions[atom] - positions[2]
        positions[atom] = positions[2] + 2 * axis * (axis @ arm) - arm
    result = counted(molecule, np.stack([molecule.positions, positions]))
    assert result["double_bonds"] == [[1, 2]]
    assert result["all"]["flipped_frames"] == 1
    assert result["all"]["share_flipped_frames"] == 0.5


def test_lengths_are_judged_at_both_ends_of_both_ranges():
    molecule = from_smiles("[H][H]")
    frames = np.zeros((6, 2, 3))
    # Sum of covalent radii 0.062 nm: near it means 0.0434 to 0.0806 nm.
    frames[:, 1, 0] = [0.043, 0.044, 0.0799, 0.0801, 0.081, 0.201]
    result = counted(molecule, frames)["all"]
    assert result["bonds_in_range"] == 2
    assert result["bonds_near_covalent"] == 3
    assert result["share_bonds_in_range"] == pytest.approx(1 / 3)


def test_clashes_are_between_atoms_three_bonds_apart():
    molecule = from_smiles("CCCC")
    rng = np.random.default_rng(3)
    frames = rng.uniform(-0.25, 0.25, (40, molecule.n_atoms, 3))
    is_bonded = np.zeros((molecule.n_atoms, molecule.n_atoms))
    is_bonded[tuple(molecule.bond_index)] = 1
    is_near = np.linalg.matrix_power(np.eye(molecule.n_atoms) + is_bonded, 2) > 0
    radii = np.where(molecule.atomic_numbers == 1, 0.12, 0.17)
    n_pairs = n_frames = 0
    for frame in frames:
        n_here = 0
        for i in range(molecule.n_atoms):
            for j in range(i):
                share = 0.65 if radii[i] == radii[j] == 0.17 else 0.5
                is_close = np.linalg.norm(frame[i] - frame[j]) < share * (radii[i] + radii[j])
                n_here += int(is_close and not is_near[i, j])
        n_pairs, n_frames = n_pairs + n_here, n_frames + (n_here > 0)
    result = counted(molecule, frames)["all"]
    assert n_pairs > 0
    assert (result["clash_pairs"], result["clash_frames"]) == (n_pairs, n_frames)


def test_a_frame_with_nan_counts_for_nothing_else():
    molecule = from_smiles("C[C@H](N)C(=O)O")
    frames = np.repeat(molecule.positions[None], 3, axis=0)
    frames[1, 0, 0] = np.nan
    frames[2, 3, 1] = np.inf
    result = counted(molecule, frames)["all"]
    assert (result["frames"], result["nan_frames"]) == (3, 2)
    assert result["bonds"] == molecule.bond_index.shape[1] // 2
    assert result["inverted_frames"] == 0
    nothing = counted(molecule, frames[1:])["all"]
    assert nothing["share_bonds_in_range"] is None
    assert nothing["share_nan_frames"] == 1.0


def test_flags_say_what_is_wrong_with_each_frame(monkeypatch):
    molecule = from_smiles("C[C@H](N)C(=O)O")
    frames = np.repeat(molecule.positions[None], 6, axis=0)
    frames[1] *= [-1, 1, 1]
    frames[2] *= 1.4
    frames[3] *= 0.4
    frames[4, 0, 0] = np.nan
    monkeypatch.setattr("tito_fast.data.validity._BLOCK_DISTANCES", 200)
    counter = ValidityCounter(molecule)
    flags = counter.update(np.zeros(6, dtype=np.int64), frames)
    bonds, clashes, stereo, nan = (FLAG_BITS[n] for n in ("bonds", "clashes", "stereo", "nan"))
    assert flags.dtype == np.uint8
    assert flags.tolist() == [0, stereo, bonds, bonds + clashes, nan, 0]
    assert counter.update(np.zeros(0, dtype=np.int64), frames[:0]).shape == (0,)
    flipped = from_smiles("F/C=C/F")
    other = from_smiles("F/C=C\\F").positions[None]
    assert ValidityCounter(flipped).update(np.zeros(1, dtype=np.int64), other)[0] & stereo


def test_a_sound_long_bond_is_not_unsound():
    molecule = from_smiles("CSSC")
    result = ValidityCounter(molecule)
    assert result.update(np.zeros(1, dtype=np.int64), molecule.positions[None])[0] == 0
    assert result.result()["all"]["share_bonds_in_range"] < 1


def test_counts_do_not_depend_on_calls_blocks_or_resuming(monkeypatch):
    molecule = from_smiles("C[C@H](N)C(=O)O")
    frames = trembling(molecule, 63, scale=0.05)
    frames[20:30] *= [-1, 1, 1]
    frames[7] = np.nan
    replicas = np.random.default_rng(0).integers(0, 4, 63)
    whole = ValidityCounter(molecule)
    whole.update(replicas, frames)
    monkeypatch.setattr("tito_fast.data.validity._BLOCK_DISTANCES", 200)
    pieces, other = ValidityCounter(molecule), ValidityCounter(molecule)
    pieces.update(replicas[:10], frames[:10])
    pieces = ValidityCounter.from_dict(molecule, json.loads(json.dumps(pieces.to_dict())))
    pieces.update(replicas[10:11], frames[10:11])
    pieces.update(replicas[:0], frames[:0])
    other.update(replicas[11:], frames[11:])
    pieces.merge(other)
    assert pieces.result() == whole.result()
    totals = whole.result()["all"]
    for name in ("frames", "bonds_in_range", "clash_pairs", "inverted_frames"):
        assert sum(replica[name] for replica in whole.result()["replicas"]) == totals[name]
    assert totals["inverted_frames"] > 0


@pytest.mark.parametrize("n_atoms", [1, 2, 3, 40])
def test_odd_chemistry_is_counted_too(make_molecule, n_atoms):
    molecule = make_molecule(n_atoms)
    result = counted(molecule, molecule.positions[None])
    assert result["all"]["frames"] == 1
    assert result["all"]["inverted_frames"] == 0


def test_an_empty_counter_has_no_shares():
    result = ValidityCounter(from_smiles("CC")).result()
    assert result["all"]["frames"] == 0
    assert result["all"]["share_bonds_in_range"] is None
    assert result["replicas"] == []


def test_bad_input_is_refused_by_name():
    molecule = from_smiles("CC")
    counter = ValidityCounter(molecule)
    frames = np.zeros((2, 8, 3))
    with pytest.raises(ValueError, match=r"positions: expected shape \(n_frames, 8, 3\), got"):
        counter.update(np.zeros(2, dtype=int), frames[:, :7])
    with pytest.raises(ValueError, match=r"replica_idx: expected shape \(2,\), got \(3,\)"):
        counter.update(np.zeros(3, dtype=int), frames)
    with pytest.raises(ValueError, match="replica_idx: expected at least 0, got -1"):
        counter.update(np.array([0, -1]), frames)
    with pytest.raises(ValueError, match="counts: expected frames, nan_frames"):
        ValidityCounter.from_dict(molecule, {"frames": [1]})
    counts = {**counter.to_dict(), "nan_frames": [-1]}
    with pytest.raises(ValueError, match=r"expected 0 counts at or above 0 in nan_frames, got"):
        ValidityCounter.from_dict(molecule, counts)
