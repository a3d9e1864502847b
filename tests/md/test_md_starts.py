"""Replicas that start from samples: drawn by weight, checked, recorded, resumed."""

import json
from dataclasses import replace

import mdtraj as md
import numpy as np
import pytest

from tito_fast.cli.main import run as command
from tito_fast.data.bg_samples import BgSamples, write_bg_samples
from tito_fast.data.readers import from_sequence
from tito_fast.md import SimulationConfig, simulate
from tito_fast.md import starts as starts_module
from tito_fast.md.starts import read_start_samples


@pytest.fixture
def make_samples(glycine, shaken, tmp_path):
    """Return a function that writes samples that differ by more than half a picosecond of dynamics."""

    def make(n_samples=6, *, molecule=glycine, name="samples.npz", **changes):
        positions = shaken(molecule, n_samples, scale=0.002)
        # A whole molecule turned about an axis is the same to the force field, and tells samples apart.
        for index, angle in enumerate(np.linspace(0.0, 3.0, n_samples)):
            cos, sin = np.cos(angle), np.sin(angle)
            turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
            positions[index] = positions[index] @ turn.T
        samples = BgSamples(molecule=molecule, positions=positions, **changes)
        write_bg_samples(tmp_path / name, samples)
        return tmp_path / name, samples

    return make


@pytest.fixture
def quick(vacuum):
    return {"preset": replace(vacuum, equilibration_ps=0.0), "time_ps": 0.2}


def first_frames(result):
    top = str(result.path / "topology.pdb")
    return [
        md.load(str(result.path / f"rep_{replica:04d}.xtc"), top=top).xyz[0]
        for replica in range(len(result.n_frames))
    ]


def nearest(frame, samples):
    centered = samples.positions - samples.positions.mean(axis=1, keepdims=True)
    distances = np.square(centered - (frame - frame.mean(axis=0))).sum(axis=(1, 2))
    return int(distances.argmin())


def record_of(result):
    return json.loads((result.path / "system.json").read_text())["starts"]


def test_every_replica_starts_from_its_own_sample(run_simulation, make_samples, quick):
    path, samples = make_samples(6)
    result = run_simulation(init_from=path, n_replicas=6, **quick)
    assert [nearest(frame, samples) for frame in first_frames(result)] == list(range(6))
    record = record_of(result)
    assert record["replicas_by_sample"] == {str(index): 1 for index in range(6)}
    assert (record["is_weighted"], record["effective_samples"]) == (False, 6.0)
    assert record["checks"]["kept"] == 6
    assert record["energy_kj_per_mol"]["maximum"] >= record["energy_kj_per_mol"]["minimum"]
    assert result.checks["passed"]


def test_starts_are_drawn_by_weight(run_simulation, make_samples, quick):
    weights = np.log([0.5, 1e-9, 0.25, 1e-9, 0.25, 1e-9])
    path, samples = make_samples(6, log_weights=weights)
    result = run_simulation(init_from=path, n_replicas=4, **quick)
    assert record_of(result)["replicas_by_sample"] == {"0": 2, "2": 1, "4": 1}
    assert record_of(result)["effective_samples"] == pytest.approx(1 / 0.375, rel=1e-6)
    frames = first_frames(result)
    assert [nearest(frame, samples) for frame in frames] == [0, 0, 2, 4]
    # One start, other velocities.
    last = [
        md.load(str(result.path / f"rep_000{r}.xtc"), top=str(result.path / "topology.pdb")).xyz[-1]
        for r in (0, 1)
    ]
    assert np.abs(last[0] - last[1]).max() > 1e-3


def test_a_run_is_taken_up_and_extended_from_its_starts(run_simulation, make_samples, quick):
    path, _ = make_samples(6)
    short = run_simulation("run", init_from=path, n_replicas=2, **quick)
    before = np.load(short.path / "starts.npz")["sample_idx"].tolist()
    longer = run_simulation("run", init_from=path, n_replicas=3, **(quick | {"time_ps": 0.4}))
    assert longer.n_frames == (5, 5, 5)
    after = np.load(longer.path / "starts.npz")["sample_idx"].tolist()
    assert (after[:2], len(after)) == (before, 3)
    whole = run_simulation("whole", init_from=path, n_replicas=2, **(quick | {"time_ps": 0.4}))
    for replica in range(2):
        name = f"rep_000{replica}.xtc"
        assert (whole.path / name).read_bytes() == (longer.path / name).read_bytes()
    with pytest.raises(ValueError, match=r"init_from: expected '[0-9a-f]{64}' as in .*, got None"):
        run_simulation("run", n_replicas=3, **quick)
    other, _ = make_samples(5, name="other.npz")
    with pytest.raises(ValueError, match=r"init_from: expected '[0-9a-f]{64}' as in .*, got '"):
        run_simulation("run", init_from=other, n_replicas=3, **quick)
    fresh = run_simulation("run", init_from=other, n_replicas=1, overwrite=True, **quick)
    assert len(np.load(fresh.path / "starts.npz")["sample_idx"]) == 1


def test_trajectories_and_runs_give_starts_too(run_simulation, make_samples, glycine, quick):
    path, _ = make_samples(3)
    first = run_simulation("first", init_from=path, n_replicas=3, **quick)
    found = read_start_samples(first.path, glycine)
    assert found.positions.shape == (9, glycine.n_atoms, 3)
    xtc = read_start_samples(first.path / "rep_0001.xtc", glycine)
    np.testing.assert_allclose(xtc.positions, found.positions[3:6], atol=1e-6)
    pdb = read_start_samples(first.path / "topology.pdb", glycine)
    assert (len(pdb.positions), pdb.is_weighted) == (1, False)
    other = from_sequence("AG")
    with pytest.raises(ValueError, match=r"init_from: expected samples of 'AG', its 20 atoms"):
        read_start_samples(first.path / "topology.pdb", other)
    with pytest.raises(ValueError, match=r"init_from: expected samples of 'AG', its 20 atoms"):
        read_start_samples(path, other)


def test_samples_of_another_topology_or_chirality_are_left_out(make_samples, tmp_path):
    alanine = from_sequence("AG")
    path, samples = make_samples(4, molecule=alanine)
    positions = samples.positions.copy()
    positions[1, 0] += 1.0
    positions[2] *= -1
    changed = replace(samples, positions=positions, log_weights=np.zeros(4))
    write_bg_samples(path, changed)
    found = read_start_samples(path, alanine)
    assert found.log_weights.tolist() == [0.0, -np.inf, 0.0, 0.0]
    np.testing.assert_array_equal(found.positions[2], samples.positions[2])
    assert (found.counts["wrong_topology"], found.counts["mirrored"]) == (1, 1)
    write_bg_samples(path, replace(samples, positions=np.zeros_like(positions)))
    with pytest.raises(ValueError, match="expected samples with the bonds and the chirality of"):
        read_start_samples(path, alanine)
    with pytest.raises(FileNotFoundError, match="init_from: expected a file of samples, got no"):
        read_start_samples(tmp_path / "none.npz", alanine)


def test_starts_of_high_energy_are_refused_and_minimizing_helps(
    run_simulation, make_samples, glycine, quick, monkeypatch
):
    path, samples = make_samples(2)
    noise = np.random.default_rng(5).normal(scale=0.015, size=samples.positions.shape)
    write_bg_samples(path, replace(samples, positions=samples.positions + noise))
    monkeypatch.setattr(starts_module, "MAX_START_ENERGY", 2.0)
    options = {**quick, "init_from": path, "n_replicas": 2}
    with pytest.raises(
        ValueError, match=r"init_from: expected starts below .* samples 0, 1; raise"
    ):
        run_simulation(n_minimization_steps=0, **options)
    result = run_simulation(n_minimization_steps=50, **options)
    starts = np.load(result.path / "starts.npz")
    assert (starts["energies_kj_per_mol"] < starts["sample_energies_kj_per_mol"] - 100.0).all()


def test_samples_are_of_one_molecule(glycine, make_samples, vacuum, tmp_path):
    path, _ = make_samples(2)
    config = SimulationConfig(time_ps=0.2, save_every_ps=0.1, preset=vacuum, init_from=path)
    with pytest.raises(ValueError, match="init_from: expected samples of one molecule, got 2"):
        simulate([glycine, from_sequence("AG")], config, out=tmp_path / "both")
    with pytest.raises(ValueError, match="minimize: expected at least 0, got -1"):
        SimulationConfig(time_ps=0.2, save_every_ps=0.1, n_minimization_steps=-1)


def test_the_command_starts_from_samples(make_samples, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _ = make_samples(3, log_weights=np.array([0.0, -np.inf, 0.0]))
    words = "simulate peptide:GG --time 0.2ps --save-every 0.1ps --equilibration 0.1ps --platform Reference"
    options = f"--jobs 1 --replicas 2 --out run --minimize 20 --init-from {path.name}"
    assert command([*words.split(), *options.split()]) == 0
    record = json.loads((tmp_path / "run" / "system.json").read_text())["starts"]
    assert record["replicas_by_sample"] == {"0": 1, "2": 1}
    assert (record["source"], record["n_minimization_steps"]) == ("samples.npz", 20)
    assert command([*words.split(), "--out", "other", "--init-from", "none.npz"]) == 1
    assert (
        "error: init_from: expected a file of samples, got no none.npz" in capsys.readouterr().err
    )
