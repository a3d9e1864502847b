"""Several runs in one call: matched by name, averaged, and lags compared."""

import json

import numpy as np
import pytest

from tito_fast import EvaluationConfig, evaluate
from tito_fast.analysis.aggregate import aggregate, table
from tito_fast.analysis.jobs import jobs_of
from tito_fast.data.readers import from_smiles

QUICK = EvaluationConfig(n_resamples=20)
MOLECULES = ("CCCO", "CCCF")


@pytest.fixture(scope="module")
def folders(rotamer_walk, write_rollout, write_trajectory, tmp_path_factory):
    """Runs of two molecules, and their references, in folders of equal names."""
    root = tmp_path_factory.mktemp("several")
    for smiles in MOLECULES:
        molecule = from_smiles(smiles)
        replicas = [rotamer_walk(molecule, 21, seed=seed, every=10) for seed in range(10)]
        write_rollout(root / "runs" / smiles, molecule, replicas)
        coarse = [rotamer_walk(molecule, 21, seed=50 + seed, every=20) for seed in range(10)]
        write_rollout(root / "coarse" / smiles, molecule, coarse, lags_ps=(20.0,))
        write_trajectory(root / "md" / smiles, molecule, rotamer_walk(molecule, 1500, seed=77))
    return root


@pytest.fixture(scope="module")
def evaluations(folders):
    return evaluate(folders / "runs", reference=folders / "md", out=folders / "out", config=QUICK)


def test_a_folder_of_runs_meets_references_of_the_same_names(evaluations, folders):
    assert [one.name for one in evaluations] == sorted(MOLECULES)
    for one in evaluations:
        assert one.reference_key == str(folders / "md" / one.name)
        assert one.metrics["jsd_torsions"].value < 0.1


def test_each_run_has_files_and_all_have_a_table(evaluations, folders):
    names = {path.name for path in (folders / "out").iterdir()}
    assert names == {*MOLECULES, "aggregate.json", "report.html"}
    for name in MOLECULES:
        files = {path.name for path in (folders / "out" / name).iterdir()}
        assert files == {"metrics.json", "panel.png", "report.html"}
    content = json.loads((folders / "out" / "aggregate.json").read_text())
    assert content["version"] == 1
    assert (content["n_runs"], content["n_molecules"]) == (2, 2)
    for name in ("jsd_tica", "vamp2_gap", "jsd_torsions"):
        values = [one.metrics[name].value for one in evaluations]
        assert content["metrics"][name]["mean"] == pytest.approx(np.mean(values))
        assert content["metrics"][name]["median"] == pytest.approx(np.median(values))
        floors = [one.metrics[name].md_floor for one in evaluations]
        assert content["metrics"][name]["md_floor_mean"] == pytest.approx(np.mean(floors))
        ideals = [one.metrics[name].ideal for one in evaluations]
        assert content["metrics"][name]["ideal_median"] == pytest.approx(np.median(ideals))


def test_the_table_has_the_numbers_of_the_file(evaluations):
    content = aggregate(evaluations)
    lines = table(content).splitlines()
    row = content["metrics"]["jsd_tica"]
    assert lines[0].split() == ["mean", "/", "median", "runs", "model", "md_floor", "ideal"]
    assert f"{row['mean']:.3f} / {row['median']:.3f}" in lines[1]
    assert f"{row['ideal_mean']:.3f}" in lines[1]


def test_runs_of_one_molecule_with_other_lags_are_compared(folders):
    name = MOLECULES[0]
    found = evaluate(
        [folders / "runs" / name, folders / "coarse" / name],
        reference=folders / "md",
        config=QUICK,
    )
    assert [one.name for one in found] == [f"runs_{name}", f"coarse_{name}"]
    content = aggregate(found)
    (comparison,) = content["lag_comparisons"]
    assert (comparison["short"], comparison["long"]) == (f"runs_{name}", f"coarse_{name}")
    assert comparison["multiple"] == 2
    assert comparison["distance"] < 0.15
    assert len(comparison["one_step"]["value"]) == 4
    assert "2 steps of 10 ps" in table(content)
    assert content["n_molecules"] == 1


def test_processes_change_nothing(evaluations, folders):
    config = EvaluationConfig(n_resamples=20, n_jobs=2)
    others = evaluate(folders / "runs", reference=folders / "md", config=config)
    for one, other in zip(evaluations, others, strict=True):
        assert other.metrics == one.metrics
        assert other.arrays == one.arrays


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_names_the_run(n_jobs, folders):
    one = folders / "md" / MOLECULES[0] / "trajectory.xtc"
    with pytest.raises(ValueError, match=r"^CCCF: reference: expected the 11 atoms of the run"):
        evaluate(folders / "runs", reference=one, config=EvaluationConfig(n_jobs=n_jobs))


def test_references_are_matched_by_name_else_by_order(folders):
    runs = [folders / "runs" / name for name in MOLECULES]
    md = [folders / "md" / name for name in MOLECULES]
    by_name = jobs_of(runs, reference=md[::-1], topology=None)
    assert [job.reference for job in by_name] == [(md[0],), (md[1],)]
    by_order = jobs_of(runs, reference=[folders / "coarse" / MOLECULES[0], md[1]], topology=None)
    assert [job.reference for job in by_order][1] == (md[1],)
    shared = jobs_of(runs, reference=[md[0] / "trajectory.xtc"], topology=None)
    assert {job.reference for job in shared} == {(md[0] / "trajectory.xtc",)}


def test_a_run_without_a_reference_is_named(folders, tmp_path):
    (tmp_path / "md").mkdir()
    (tmp_path / "md" / MOLECULES[0]).symlink_to(folders / "md" / MOLECULES[0])
    with pytest.raises(ValueError, match=rf"expected a folder '{MOLECULES[1]}' as the run's"):
        jobs_of([folders / "runs"], reference=[tmp_path / "md"], topology=None)


def test_nothing_to_aggregate():
    with pytest.raises(ValueError, match="evaluations: expected at least one, got none"):
        aggregate([])
