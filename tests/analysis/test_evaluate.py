"""An evaluation says what is known of the walks it is given, however they come."""

import json
import shutil

import h5py
import numpy as np
import pytest

from tito_fast import EvaluationConfig, evaluate
from tito_fast.analysis import streams
from tito_fast.analysis.descriptions import DESCRIPTIONS
from tito_fast.data.convert.mdtraj_files import convert_trajectories
from tito_fast.data.readers import from_smiles
from tito_fast.data.torsions import jsd
from tito_fast.md.directory import SimulationDirectory

QUICK = EvaluationConfig(n_resamples=40)
POPULATIONS = (0.5, 0.3, 0.2)
KEYS = (
    *("jsd_tica", "jsd_tica_authors", "jsd_tica_bits", "jsd_torsions", "vamp2_gap"),
    *("timescale_error_top10", "coverage", "precision", "transition_distance"),
)


@pytest.fixture(scope="module")
def reference(propanol, rotamer_walk, write_trajectory, tmp_path_factory):
    """4000 ps of propanol, a frame every ps, as the folder of a trajectory."""
    frames = rotamer_walk(propanol, 4000, seed=1)
    return write_trajectory(tmp_path_factory.mktemp("md") / "CCCO", propanol, frames)


@pytest.fixture(scope="module")
def make_run(propanol, rotamer_walk, write_rollout, tmp_path_factory):
    """Write a rollout of 16 replicas of 30 steps of 10 ps after a start."""

    def make(*, start=None, n_replicas=16, n_frames=31, **options):
        walk = {"rate": 0.05, "every": 10} | options.pop("walk", {})
        replicas = [
            rotamer_walk(propanol, n_frames, seed=100 + replica, **walk)
            for replica in range(n_replicas)
        ]
        for frames in replicas:
            frames[0] = propanol.positions if start is None else start
        folder = tmp_path_factory.mktemp("run") / "CCCO"
        return write_rollout(folder, propanol, replicas, **options)

    return make


@pytest.fixture(scope="module")
def run(make_run):
    return make_run()


@pytest.fixture(scope="module")
def result(run, reference):
    (evaluation,) = evaluate(run, reference=reference)
    return evaluation


def content_of(evaluation):
    content = evaluation.to_dict()
    content.pop("provenance")
    return content


def test_an_exact_sampler_scores_as_the_ideal_one(result):
    metrics = result.metrics
    for name in ("jsd_tica", "jsd_torsions", "jsd_bond_lengths", "jsd_angles"):
        metric = metrics[name]
        assert metric.low <= metric.value <= metric.high, name
        assert 0.3 * metric.ideal < metric.value < 2.5 * metric.ideal, name
    assert metrics["coverage"].value > 0.9
    assert metrics["precision"].value > 0.9
    assert metrics["vamp2_gap"].low < 0.1
    assert abs(metrics["vamp2_gap"].value) < 0.3
    assert metrics["transition_distance"].value < 0.15


# Null for good: a score of the reference alone; replicas of the run have an ideal where rollouts fit.
WITHOUT = {"vamp2_score_reference": {"md_floor", "ideal"}}


def test_every_metric_has_all_of_its_numbers(result):
    for name, metric in result.metrics.items():
        if metric.value is None or name.startswith("share_"):
            continue
        missing = {key for key, value in metric.to_dict().items() if value is None}
        assert missing == WITHOUT.get(name, set()), name
        if name != "timescale_error_top10":  # its resamples may be of other processes
            assert metric.low <= metric.value <= metric.high, name


def test_an_exact_sampler_agrees_with_the_ideal_of_geometry_and_replicas(result):
    metrics = result.metrics
    assert 0.3 < metrics["bond_length_shift_nm"].value / metrics["bond_length_shift_nm"].ideal < 3
    assert 0.3 < metrics["angle_shift_deg"].value / metrics["angle_shift_deg"].ideal < 3
    assert metrics["bond_length_width_ratio"].value == pytest.approx(1, abs=0.1)
    assert metrics["bond_length_width_ratio"].ideal == 1.0
    for name, factor in (
        *(("jsd_replicas", 1.4), ("rhat_max", 1.1), ("effective_samples_min", 2.0)),
        *(("chapman_kolmogorov_error", 3.0), ("correlation_error", 3.0)),
        ("vamp2_score_model", 1.2),
    ):
        metric = metrics[name]
        assert 1 / factor < metric.value / metric.ideal < factor, name


def test_a_wrong_sampler_scores_the_divergence_of_its_populations(make_run, reference):
    wrong = (0.1, 0.1, 0.8)
    (evaluation,) = evaluate(
        make_run(walk={"populations": wrong}), reference=reference, config=QUICK
    )
    metric = evaluation.metrics["jsd_torsions"]
    expected = float(jsd(np.array(POPULATIONS), np.array(wrong)))
    assert metric.value == pytest.approx(expected, rel=0.25)
    assert metric.value > 4 * metric.md_floor
    assert metric.value > 4 * metric.ideal


def test_time_scales_are_those_of_the_chain(result):
    scale = -1 / np.log(1 - 0.05)
    slowest = {side: rows[0] for side, rows in result.arrays["timescales_ps"].items()}
    for side, tolerance in (("reference", 0.15), ("run", 0.25)):
        assert slowest[side]["value"] == pytest.approx(scale, rel=tolerance), side
    assert result.extras["timescale_error_top10"]["n_processes"] == 2  # three rotamers
    assert result.metrics["timescale_error_top10"].value < 0.3
    function = result.arrays["correlations"]["tica_1"]["run"]["value"]
    assert function[1] == pytest.approx(0.95**10, abs=0.12)


def test_a_slow_run_has_a_negative_gap(make_run, reference):
    (evaluation,) = evaluate(make_run(walk={"rate": 0.01}), reference=reference, config=QUICK)
    assert evaluation.metrics["vamp2_gap"].high < 0
    other = evaluation.metrics["vamp2_gap_model_minus_reference"]
    assert other.value == -evaluation.metrics["vamp2_gap"].value
    assert other.low > 0
    assert evaluation.metrics["timescale_error_top10"].value > 1


def test_each_metric_has_five_numbers_at_the_top_level(result):
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["version"] == 1
    for name in KEYS:
        assert {"value", "low", "high", "md_floor", "ideal"} <= set(content[name]), name
        assert all(isinstance(content[name][key], float) for key in ("value", "md_floor", "ideal"))
    assert content["jsd_tica_bits"]["value"] == pytest.approx(
        content["jsd_tica"]["value"] / np.log(2)
    )


def test_every_metric_is_described(result):
    assert set(KEYS) <= set(result.metrics) <= set(DESCRIPTIONS)


@pytest.mark.parametrize("chunk_frames", [7, 1000])
def test_chunks_change_no_bit(run, reference, result, chunk_frames):
    (other,) = evaluate(
        run, reference=reference, config=EvaluationConfig(chunk_frames=chunk_frames)
    )
    assert content_of(other) == content_of(result)


def test_torsions_on_disk_change_no_bit(run, reference, result, monkeypatch):
    monkeypatch.setattr(streams, "MEMORY_LIMIT_BYTES", 1000)
    maps = []
    real = np.memmap
    monkeypatch.setattr(np, "memmap", lambda *a, **k: maps.append(a) or real(*a, **k))
    (other,) = evaluate(run, reference=reference)
    assert len(maps) == 6  # three kinds of columns on either side
    assert content_of(other) == content_of(result)


def test_starts_do_not_count(make_run, reference, result, propanol, rotamer_walk):
    start = rotamer_walk(propanol, 1, seed=9)[0]
    (other,) = evaluate(make_run(start=start), reference=reference)
    for name in ("jsd_tica", "jsd_torsions", "vamp2_gap", "transition_distance"):
        assert other.metrics[name] == result.metrics[name]
    assert other.summary["run"]["n_frames"] == 16 * 30
    assert other.summary["run"]["n_start_frames_dropped"] == 16


def test_with_several_lags_kinetics_are_over_equal_ones(make_run, reference):
    run = make_run(lags_ps=(10.0, 10.0, 2.0))
    (evaluation,) = evaluate(run, reference=reference, config=QUICK)
    assert evaluation.summary["run"]["lag_ps"] == 10.0
    assert any("over the 304 steps of 10 ps" in note for note in evaluation.notes)
    assert evaluation.metrics["vamp2_gap"].value is not None
    assert evaluation.arrays["correlations"]["times_ps"]["run"] == [0.0, 10.0, 20.0]


def test_frames_that_were_left_out_break_no_lag(make_run, reference):
    run = make_run(left_out=(0, 6))
    (evaluation,) = evaluate(run, reference=reference, config=QUICK)
    assert evaluation.summary["run"]["n_frames"] == 16 * 29
    assert evaluation.summary["run"]["n_start_frames_dropped"] == 0
    assert evaluation.summary["run"]["lag_ps"] == 10.0
    assert any("432 steps of 10 ps only; the run has others (20 ps)" in n for n in evaluation.notes)
    # Five frames before the gap and 24 after it.
    assert len(evaluation.arrays["correlations"]["times_ps"]["run"]) == 24


@pytest.mark.parametrize("kind", ["store", "files", "simulation", "replicas"])
def test_a_reference_may_come_in_many_forms(
    kind, run, reference, result, propanol, rotamer_walk, write_rollout, tmp_path
):
    frames = rotamer_walk(propanol, 4000, seed=1)
    if kind == "store":
        given = convert_trajectories(
            propanol,
            reference / "topology.pdb",
            [reference / "trajectory.xtc"],
            tmp_path / "store",
        )
    elif kind == "files":
        given = [reference / "trajectory.xtc"]
    elif kind == "simulation":
        given = write_rollout(
            tmp_path / "md", propanol, [frames], lags_ps=(1.0,), directory=SimulationDirectory
        )
    else:
        given = write_rollout(
            tmp_path / "md",
            propanol,
            [frames[:2000], frames[2000:]],
            lags_ps=(1.0,),
            directory=SimulationDirectory,
        )
    (other,) = evaluate(run, reference=given, config=QUICK)
    assert other.summary["reference"]["n_frames"] == 4000
    assert other.summary["reference"]["interval_ps"] == 1.0
    for name in ("jsd_tica", "jsd_torsions", "vamp2_gap"):
        assert other.metrics[name].value == pytest.approx(result.metrics[name].value, abs=0.03)


@pytest.mark.parametrize("suffix", ["xtc", "dcd", "h5"])
def test_runs_may_have_any_format(suffix, make_run, reference, result):
    (other,) = evaluate(make_run(kind=suffix), reference=reference, config=QUICK)
    assert other.summary["run"]["lag_ps"] == 10.0
    for name in ("jsd_tica", "jsd_torsions"):
        assert other.metrics[name].value == pytest.approx(result.metrics[name].value, abs=0.02)


def test_trajectory_files_are_the_replicas_of_one_run(run, reference, result):
    files = sorted(run.glob("rep_*.xtc"))
    (other,) = evaluate(
        files, reference=reference, topology=run / "topology.pdb", config=EvaluationConfig()
    )
    assert other.summary["run"]["n_replicas"] == 16
    assert other.summary["run"]["n_start_frames_dropped"] == 16
    for name in ("jsd_tica", "vamp2_gap", "transition_distance"):
        assert other.metrics[name].value == pytest.approx(result.metrics[name].value, abs=1e-6)


def test_frames_after_one_that_is_not_finite_are_left_out(
    propanol, rotamer_walk, write_rollout, reference, tmp_path
):
    replicas = [rotamer_walk(propanol, 21, seed=seed, every=10) for seed in range(12)]
    run = write_rollout(tmp_path / "run", propanol, replicas, kind="h5")
    with h5py.File(run / "rep_0003.h5", "r+") as file:
        file["coordinates"][11:] = np.nan
    (evaluation,) = evaluate(run, reference=reference, config=QUICK)
    assert evaluation.summary["run"]["n_frames"] == 11 * 20 + 10
    assert any("rep_0003 is cut at frame 10" in note for note in evaluation.notes)
    assert evaluation.metrics["share_nan_frames"].value == pytest.approx(1 / 231)


def test_energies_are_compared_where_there_is_a_force_field(run, reference, tmp_path):
    folder = tmp_path / "md"
    shutil.copytree(reference, folder)
    (folder / "system.xml").write_text("<System/>")
    asked = []

    def energy(system, positions):
        asked.append((system, len(positions)))
        # Of the run a little higher.
        return 10 * positions[:, 0, 0] + (1.0 if len(positions) < 1000 else 0.0)

    (evaluation,) = evaluate(run, reference=folder, config=QUICK, energy=energy)
    assert {system for system, _ in asked} == {folder / "system.xml"}
    assert sum(n for _, n in asked if n >= 1000) == 2000  # every second of 4000 frames
    assert evaluation.metrics["energy_shift_kj_per_mol"].value == pytest.approx(1.0, abs=0.05)
    assert evaluation.metrics["jsd_energy"].value > 0.6
    shift = evaluation.metrics["energy_shift_kj_per_mol"]
    assert shift.low <= shift.value <= shift.high
    assert shift.low > 20 * max(shift.md_floor, shift.ideal) > 0
    width = evaluation.metrics["energy_width_ratio"]
    assert width.low <= 1.0 <= width.high
    assert width.ideal == pytest.approx(1.0, abs=0.03)
    (without,) = evaluate(run, reference=reference, config=QUICK, energy=energy)
    assert "jsd_energy" not in without.metrics


def test_without_a_reference_replicas_are_compared(run):
    (evaluation,) = evaluate(run, config=QUICK)
    assert not evaluation.has_reference
    metrics = evaluation.metrics
    assert 1.0 < metrics["rhat_max"].value < 1.1  # of 16 replicas of some ten independent frames
    assert 20 < metrics["effective_samples_min"].value < 16 * 30
    assert metrics["jsd_replicas"].value > 0
    for name in ("jsd_replicas", "rhat_max", "effective_samples_min"):
        assert metrics[name].low <= metrics[name].value <= metrics[name].high, name
        assert metrics[name].ideal is None
    assert metrics["share_bonds_near_covalent"].value == 1.0
    assert metrics["share_nan_frames"].value == 0.0
    assert "jsd_tica" not in metrics


def test_replicas_that_disagree_are_seen(propanol, rotamer_walk, write_rollout, tmp_path):
    replicas = [
        rotamer_walk(propanol, 31, seed=seed, populations=(1.0, 0.0, 0.0) if seed % 2 else (0.0, 0.0, 1.0))
        for seed in range(8)
    ]  # fmt: skip
    (evaluation,) = evaluate(write_rollout(tmp_path / "run", propanol, replicas), config=QUICK)
    assert evaluation.metrics["rhat_max"].value > 1.5
    assert evaluation.metrics["jsd_replicas"].value > 0.2


@pytest.mark.parametrize("smiles", ["C", "O"])
def test_a_molecule_without_torsions_has_a_geometry(
    smiles, write_rollout, write_trajectory, tmp_path
):
    molecule = from_smiles(smiles)
    rng = np.random.default_rng(0)

    def frames(n):
        return molecule.positions + 0.001 * rng.standard_normal((n, molecule.n_atoms, 3))

    run = write_rollout(tmp_path / "run", molecule, [frames(20) for _ in range(3)])
    reference = write_trajectory(tmp_path / "md", molecule, frames(200))
    (evaluation,) = evaluate(run, reference=reference, out=tmp_path / "out", config=QUICK)
    assert evaluation.metrics["jsd_tica"].value is None
    assert evaluation.metrics["jsd_torsions"].value is None
    assert evaluation.metrics["jsd_bond_lengths"].value < 0.1
    assert (tmp_path / "out" / "panel.png").read_bytes().startswith(b"\x89PNG")


def test_rotatable_features_are_fewer(run, reference, result):
    (other,) = evaluate(
        run, reference=reference, config=EvaluationConfig(features="rotatable", n_resamples=40)
    )
    assert other.metrics["jsd_tica"].value != result.metrics["jsd_tica"].value
    assert len(other.arrays["timescales_ps"]["run"]) == 10
    assert sum(row["value"] is not None for row in other.arrays["timescales_ps"]["run"]) == 2


def test_the_lag_of_tica_may_be_given(run, reference, result):
    (other,) = evaluate(
        run, reference=reference, config=EvaluationConfig(tica_lag_ps=20.0, n_resamples=40)
    )
    assert result.summary["reference"]["tica_lag_ps"] == 1.0
    assert other.summary["reference"]["tica_lag_ps"] == 20.0
    assert other.metrics["jsd_tica"].value != result.metrics["jsd_tica"].value


def test_provenance_has_hashes_and_versions(result, run, reference):
    provenance = result.provenance
    assert provenance["run"]["sha256"].keys() >= {str(run / "rep_0000.xtc")}
    assert provenance["reference"]["sha256"].keys() >= {str(reference / "trajectory.xtc")}
    assert all(len(digest) == 64 for digest in provenance["run"]["sha256"].values())
    assert provenance["run"]["settings"] == {"model": "tiny", "seed": 3}
    assert "numpy" in provenance["versions"]


def test_lags_that_the_reference_nearly_has_are_said(
    run, propanol, rotamer_walk, write_trajectory, tmp_path
):
    reference = write_trajectory(
        tmp_path / "md", propanol, rotamer_walk(propanol, 1500, seed=1), interval_ps=1.435
    )
    (evaluation,) = evaluate(run, reference=reference, config=QUICK)
    assert evaluation.summary["reference"]["lag_frames"] == 7
    assert any("its kinetics are at 10.045 ps" in note for note in evaluation.notes)
