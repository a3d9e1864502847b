"""The whole road, from files to numbers, against MDTraj, NumPy and deeptime called by hand."""

import mdtraj as md
import numpy as np
import pytest
from deeptime.decomposition import TICA, VAMP
from scipy.spatial.distance import jensenshannon

from tito_fast import EvaluationConfig, evaluate
from tito_fast.analysis.features import bond_torsions
from tito_fast.data.readers import from_smiles

LAG = 10


@pytest.fixture(scope="module")
def both(rotamer_walk, write_rollout, write_trajectory, tmp_path_factory):
    """A run and a reference of butanol: their features by hand, and what the evaluation says."""
    molecule = from_smiles("CCCCO")
    root = tmp_path_factory.mktemp("by_hand")
    replicas = [
        rotamer_walk(molecule, 41, seed=seed, every=LAG, rate=0.08, populations=(0.2, 0.4, 0.4))
        for seed in range(12)
    ]
    write_rollout(root / "run", molecule, replicas, lags_ps=(float(LAG),))
    write_trajectory(root / "md", molecule, rotamer_walk(molecule, 3000, seed=50, rate=0.08))
    (evaluation,) = evaluate(
        root / "run", reference=root / "md", config=EvaluationConfig(n_resamples=20)
    )
    torsions = bond_torsions(molecule)

    def features(file, folder):
        trajectory = md.load(file, top=folder / "topology.pdb")
        angles = md.compute_dihedrals(trajectory, torsions, periodic=False).astype(np.float64)
        return np.hstack([np.cos(angles), np.sin(angles)])

    reference = features(root / "md" / "trajectory.xtc", root / "md")
    run = [features(file, root / "run")[1:] for file in sorted((root / "run").glob("rep_*.xtc"))]
    return evaluation, reference, run


@pytest.fixture(scope="module")
def slow(both):
    _, reference, run = both
    tica = TICA(lagtime=1, dim=2).fit_fetch(reference)
    return tica.transform(reference), tica.transform(np.concatenate(run))


def histogram(points, ranges, n_bins):
    counts, _, _ = np.histogram2d(*points.T, bins=n_bins, range=ranges)
    return counts.ravel()


def test_jsd_as_the_authors_compute_it(both, slow):
    ranges = [(column.min(), column.max()) for column in slow[0].T]
    p, q = (histogram(points, ranges, 100) for points in slow)
    # Frames at an edge may change bins by the rounding of the features to 32 bits.
    expected = jensenshannon(p / p.sum(), q / q.sum()) ** 2
    assert both[0].metrics["jsd_tica_authors"].value == pytest.approx(expected, abs=2e-3)


def test_jsd_with_a_bin_for_frames_outside(both, slow):
    ranges = [(column.min(), column.max()) for column in slow[0].T]
    p, q = (
        np.append(inside, len(points) - inside.sum())
        for points in slow
        for inside in [histogram(points, ranges, 30)]
    )
    expected = jensenshannon(p / p.sum(), q / q.sum()) ** 2
    assert both[0].metrics["jsd_tica"].value == pytest.approx(expected, abs=2e-3)
    is_shared = (p > 0) & (q > 0)
    for name, part in (("coverage", p), ("precision", q)):
        assert both[0].metrics[name].value == pytest.approx(
            part[is_shared].sum() / part.sum(), abs=3e-3
        )


def test_vamp_gap_and_time_scales(both):
    evaluation, reference, run = both
    of_reference = VAMP(lagtime=LAG, epsilon=1e-6).fit(reference).fetch_model()
    of_run = VAMP(lagtime=1, epsilon=1e-6).fit(run).fetch_model()
    gap = of_reference.score(2, of_reference) - of_reference.score(2, of_run)
    assert evaluation.metrics["vamp2_gap"].value == pytest.approx(gap, abs=1e-3)
    expected = [-LAG / np.log(model.singular_values[:3]) for model in (of_reference, of_run)]
    for side, scales in zip(("reference", "run"), expected, strict=True):
        found = [row["value"] for row in evaluation.arrays["timescales_ps"][side][:3]]
        np.testing.assert_allclose(found, scales, rtol=2e-3)
    n_processes = evaluation.extras["timescale_error_top10"]["n_processes"]
    all_of = [-LAG / np.log(model.singular_values) for model in (of_reference, of_run)]
    assert n_processes == (all_of[0] > LAG).sum()
    error = (np.abs(all_of[0] - all_of[1][: len(all_of[0])]) / all_of[0])[:n_processes].mean()
    assert evaluation.metrics["timescale_error_top10"].value == pytest.approx(error, rel=5e-3)


def test_transition_matrices(both):
    evaluation, _, run = both
    matrix = np.array(evaluation.arrays["transitions"]["run"]["value"])
    counts = np.zeros_like(matrix)
    ends = np.cumsum([0, *map(len, evaluation.states)])
    assert ends[-1] == sum(map(len, run))
    for states in evaluation.states:
        np.add.at(counts, (states[:-1], states[1:]), 1)
    np.testing.assert_allclose(matrix, counts / counts.sum(axis=1, keepdims=True))
