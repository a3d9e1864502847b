"""Bond lengths, angles and contacts, counted in pieces."""

import mdtraj as md
import numpy as np
import pytest

from tito_fast.analysis.geometry import (
    ANGLE_EDGES,
    CONTACT_EDGES,
    LENGTH_EDGES_NM,
    GeometryCounter,
)
from tito_fast.data import validity
from tito_fast.data.contacts import clash_shares, far_pairs, vdw_sums_nm
from tito_fast.data.readers import from_smiles


@pytest.fixture
def molecule():
    return from_smiles("CC(C)CC(N)C(=O)O")


@pytest.fixture
def frames(molecule):
    noise = np.random.default_rng(0).standard_normal((129, molecule.n_atoms, 3))
    return (molecule.positions + 0.03 * noise).astype(np.float32)


def test_histograms_and_moments_are_those_of_mdtraj(molecule, frames):
    counter = GeometryCounter(molecule)
    counter.update(frames)
    found = counter.result()
    topology = md.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for _ in range(molecule.n_atoms):
        topology.add_atom("C", md.element.carbon, residue)
    trajectory = md.Trajectory(frames, topology)
    lengths = md.compute_distances(trajectory, found.bonds.T, periodic=False)
    angles = md.compute_angles(trajectory, found.angles.T, periodic=False)
    assert found.bonds.shape[1] == molecule.bond_index.shape[1] // 2
    np.testing.assert_allclose(found.bond_mean_nm, lengths.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.bond_std_nm, lengths.std(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.angle_mean, angles.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.angle_std, angles.std(axis=0), rtol=1e-3)
    for values, edges, counts in (
        (lengths, LENGTH_EDGES_NM, found.bond_counts),
        (angles, ANGLE_EDGES, found.angle_counts),
    ):
        assert counts.sums.shape == (1, values.shape[1], len(edges) - 1)
        for column, histogram in zip(values.T, counts.sums[0], strict=True):
            inside = column.clip(edges[0], edges[-1])
            expected = np.histogram(inside, bins=edges)[0]
            # Rounding at an edge moves a frame to the next bin at most.
            assert np.abs(np.cumsum(histogram - expected)).max() <= 1


def test_contacts_and_clashes_are_those_of_the_rollout(molecule, frames):
    frames = frames.copy()
    frames[3, 0] = frames[3, 8] + 0.05
    frames[4, 2] = np.nan
    counter = GeometryCounter(molecule)
    counter.update(frames)
    found = counter.result()
    reference = validity.ValidityCounter(molecule)
    reference.update(np.zeros(len(frames), dtype=np.int64), frames)
    expected = reference.result()["all"]
    n_finite, n_clash_frames, n_clash_pairs, n_nan = found.clash_counts.sums[0].tolist()
    assert n_finite == expected["frames"] - 1
    assert n_clash_frames == expected["clash_frames"] > 0
    assert n_clash_pairs == expected["clash_pairs"]
    assert n_nan == expected["nan_frames"] == 1
    pairs = far_pairs(molecule)
    finite = np.delete(frames, 4, axis=0).astype(np.float64)
    distances = np.linalg.norm(finite[:, pairs[0]] - finite[:, pairs[1]], axis=-1)
    closest = (distances / vdw_sums_nm(molecule, pairs)).min(axis=1)
    expected_counts = np.histogram(closest, bins=CONTACT_EDGES)[0]
    assert np.abs(np.cumsum(found.contact_counts.sums[0] - expected_counts)).max() <= 1


def test_criteria_are_those_of_the_rollout(molecule):
    geometry = validity._geometry(molecule)
    pairs = far_pairs(molecule)
    np.testing.assert_array_equal(pairs, geometry.pairs)
    clash_nm = clash_shares(molecule, pairs) * vdw_sums_nm(molecule, pairs)
    np.testing.assert_allclose(clash_nm, geometry.clash_nm)


def test_pieces_and_units_add_up(molecule, frames):
    whole = GeometryCounter(molecule)
    whole.update(frames)
    parts = GeometryCounter(molecule, series_idx=np.array([0, 0, 1]))
    for unit, (start, stop) in enumerate(((0, 1), (1, 64), (64, 129))):
        parts.update(frames[start:stop], unit=unit)
    parts.update(frames[:0], unit=0)
    a, b = whole.result(), parts.result()
    for name in ("bond_counts", "angle_counts", "contact_counts", "clash_counts"):
        np.testing.assert_array_equal(getattr(b, name).total(), getattr(a, name).total())
    assert b.clash_counts.sums[:, 0].tolist() == [1, 63, 65]
    assert b.bond_counts.series_idx.tolist() == [0, 0, 1]
    np.testing.assert_allclose(b.bond_std_nm, a.bond_std_nm)
    np.testing.assert_allclose(b.angle_mean, a.angle_mean)


def test_a_molecule_without_far_pairs_has_no_contacts():
    water = from_smiles("O")
    counter = GeometryCounter(water)
    counter.update(water.positions[None])
    found = counter.result()
    assert found.contact_counts.sums.sum() == 0
    assert found.clash_counts.sums.tolist() == [[1, 0, 0, 0]]
    assert found.angles.tolist() == [[1], [0], [2]]


def test_bad_input_is_refused(molecule, frames):
    counter = GeometryCounter(molecule)
    with pytest.raises(ValueError, match="positions: expected at least one finite frame, got none"):
        counter.result()
    with pytest.raises(ValueError, match=r"positions: expected shape \(n_frames, 22, 3\), got"):
        counter.update(frames[:, 1:])
    with pytest.raises(ValueError, match="unit: expected 0 to 0, got 1"):
        counter.update(frames, unit=1)
    with pytest.raises(ValueError, match="series_idx: expected at least one unit, got none"):
        GeometryCounter(molecule, series_idx=np.zeros(0, dtype=np.int64))


def test_joining_pairs_of_units_gives_the_counts_of_longer_blocks(molecule, frames):
    short = GeometryCounter(molecule, series_idx=np.zeros(4, np.int64))
    long = GeometryCounter(molecule, series_idx=np.zeros(4, np.int64))
    for unit in range(4):
        short.update(frames[8 * unit : 8 * unit + 8], unit=unit)
    for unit in range(2):
        long.update(frames[16 * unit : 16 * unit + 16], unit=unit)
    short.join_pairs(0, 4)
    found, expected = short.result(), long.result()
    assert found.bond_counts.n_units == 2  # the other two are empty
    for name in ("bond_counts", "angle_counts", "contact_counts", "clash_counts"):
        np.testing.assert_array_equal(getattr(found, name).sums, getattr(expected, name).sums)


@pytest.mark.parametrize(("first", "stop"), [(0, 3), (2, 2), (0, 6), (-2, 2)])
def test_units_that_make_no_pairs_are_refused(molecule, first, stop):
    counter = GeometryCounter(molecule, series_idx=np.zeros(4, np.int64))
    with pytest.raises(ValueError, match="stop: expected an even number of the 4 units, got"):
        counter.join_pairs(first, stop)
