"""Sampling end to end: files, resumption, extension, refusals."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import mdtraj as md
import numpy as np
import pytest
import torch

from tito_fast.models.load import save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.sample import RolloutProgress, sample
from tito_fast.rollout.starts import read_start

NETWORK = TitoConfig(n_features=16, n_embedding_layers=2, n_model_layers=2, max_lag_ps=100.0)
ROLLOUT = RolloutConfig(
    lag_times_ps=(50.0, 10.0), n_rollout_steps=5, n_replicas=3, n_ode_steps=2, seed=3
)


@pytest.fixture
def model():
    return TitoModel.create(NETWORK, ModelInfo(length_unit_nm=0.2), seed=0)


def files_of(path):
    return {file.name: file.read_bytes() for file in sorted(path.glob("rep_*"))}


def test_a_run_leaves_topology_trajectories_and_times(tmp_path, model, make_molecule):
    molecule = make_molecule(11)
    (result,) = sample(molecule, ROLLOUT, out=tmp_path / "run", model=model)
    assert result.n_frames == (6, 6, 6)
    for replica in range(3):
        trajectory = md.load(
            tmp_path / "run" / f"rep_{replica:04d}.xtc", top=tmp_path / "run" / "topology.pdb"
        )
        assert trajectory.time.tolist() == [0, 50, 60, 110, 120, 170]
        assert [atom.element.atomic_number for atom in trajectory.topology.atoms] == (
            molecule.atomic_numbers.tolist()
        )
        assert trajectory.topology.n_bonds == molecule.bond_type.size // 2
        start = molecule.positions - molecule.positions.mean(0)
        assert np.abs(trajectory.xyz[0] - start).max() < 6e-4  # XTC rounds to 0.001 nm
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["times_ps"] == [0, 50, 60, 110, 120, 170]
    assert record["status"] == "finished"
    validity = json.loads((tmp_path / "run" / "validity.json").read_text())
    assert [each["frames"] for each in validity["replicas"]] == [5, 5, 5]
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") >= 2
    assert "3 replicas of 6 frames" in result.summary()


@pytest.mark.parametrize("suffix", ["xtc", "dcd", "h5"])
def test_chunks_change_nothing(tmp_path, model, make_molecule, suffix):
    molecule = make_molecule(11)
    whole, single = (
        replace(ROLLOUT, format=suffix, batch_size=batch_size) for batch_size in (None, 1)
    )
    sample(molecule, whole, out=tmp_path / "whole", model=model)
    sample(molecule, single, out=tmp_path / "single", model=model)
    positions = [
        np.load(tmp_path / name / "state.npz")["positions"] for name in ("whole", "single")
    ]
    assert np.array_equal(*positions)
    if suffix != "h5":  # HDF5 files hold times of writing
        assert files_of(tmp_path / "whole") == files_of(tmp_path / "single")


def test_more_steps_and_replicas_extend_a_run_in_place(tmp_path, model, make_molecule):
    molecule = make_molecule(11)
    sample(molecule, ROLLOUT, out=tmp_path / "at once", model=model)
    steps = [
        replace(ROLLOUT, n_rollout_steps=2, n_replicas=1),
        replace(ROLLOUT, n_rollout_steps=2, n_replicas=3, batch_size=2),
        ROLLOUT,
        ROLLOUT,
        replace(ROLLOUT, n_rollout_steps=1, n_replicas=1),
    ]
    for config in steps:
        sample(molecule, config, out=tmp_path / "in parts", model=model)
    assert files_of(tmp_path / "in parts") == files_of(tmp_path / "at once")


def test_several_molecules_are_sampled_together_as_alone(tmp_path, model, make_molecule):
    molecules = [make_molecule(11), make_molecule(6), make_molecule(11, seed=4)]
    together = sample(molecules, ROLLOUT, out=tmp_path / "all", model=model)
    for molecule, result in zip(molecules, together, strict=True):
        assert result.path == tmp_path / "all" / molecule.name
        sample(molecule, ROLLOUT, out=tmp_path / molecule.name, model=model)
        assert files_of(result.path) == files_of(tmp_path / molecule.name)


def test_frames_are_superposed_unless_raw_ones_are_wanted(tmp_path, model, make_molecule):
    molecule = make_molecule(11)
    sample(molecule, ROLLOUT, out=tmp_path / "aligned", model=model)
    sample(molecule, replace(ROLLOUT, align=False), out=tmp_path / "raw", model=model)
    load = lambda name: md.load(  # noqa: E731
        tmp_path / name / "rep_0000.xtc", top=tmp_path / name / "topology.pdb"
    )
    aligned, raw = load("aligned"), load("raw")
    again = md.Trajectory(aligned.xyz.copy(), aligned.topology)
    for frame in range(1, 6):
        again.superpose(aligned[frame - 1])
        assert np.abs(again.xyz[frame] - again.xyz[frame].mean(0) - aligned.xyz[frame]).max() < 5e-3
    assert np.abs(aligned.xyz[3] - raw.xyz[3]).max() > 0.01
    assert np.allclose(*(md.rmsd(t, aligned, frame=4)[4] for t in (aligned, raw)), atol=2e-3)


def test_the_state_of_a_run_does_not_know_of_alignment(tmp_path, model, make_molecule):
    for name, align in (("aligned", True), ("raw", False)):
        sample(make_molecule(11), replace(ROLLOUT, align=align), out=tmp_path / name, model=model)
    first, second = (np.load(tmp_path / name / "state.npz") for name in ("aligned", "raw"))
    assert np.array_equal(first["positions"], second["positions"])


def test_replicas_start_from_the_frames_of_a_trajectory_in_turn(tmp_path, model, make_molecule):
    molecule = make_molecule(5)
    frames = np.random.default_rng(0).normal(size=(2, 5, 3))
    sample(molecule, ROLLOUT, out=tmp_path / "run", model=model, start=frames)
    for replica in range(3):
        first = md.load(
            tmp_path / "run" / f"rep_{replica:04d}.xtc", top=tmp_path / "run" / "topology.pdb"
        ).xyz[0]
        expected = frames[replica % 2] - frames[replica % 2].mean(0)
        assert np.abs(first - expected).max() < 1e-3
    again = read_start(tmp_path / "run" / "rep_0001.xtc", molecule)
    assert again.shape == (6, 5, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 4}, "seed: expected 3 .*got 4"),
        ({"lag_times_ps": (50.0,)}, r"lag_times_ps: expected \[50.0, 10.0\] .*got \[50.0\]"),
        ({"solver": "heun"}, "solver: expected 'euler' .*got 'heun'"),
        ({"n_ode_steps": 3}, "n_ode_steps: expected 2 .*got 3"),
        ({"precision": "fp64"}, "precision: expected 'fp32' .*got 'fp64'"),
        ({"align": False}, "align: expected True .*got False"),
        ({"base_std": 0.5}, "base_std: expected 1.0 .*got 0.5"),
    ],
)
def test_a_changed_setting_is_refused_with_both_values(
    tmp_path, model, make_molecule, changed, message
):
    molecule = make_molecule(5)
    sample(molecule, ROLLOUT, out=tmp_path / "run", model=model)
    before = files_of(tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        sample(molecule, replace(ROLLOUT, **changed), out=tmp_path / "run", model=model)
    assert files_of(tmp_path / "run") == before


def test_a_changed_model_molecule_or_start_is_refused(tmp_path, model, make_molecule):
    molecule = make_molecule(5)
    sample(molecule, ROLLOUT, out=tmp_path / "run", model=model)
    other = TitoModel.create(NETWORK, model.info, seed=1)
    with pytest.raises(ValueError, match="model_hash: expected"):
        sample(molecule, ROLLOUT, out=tmp_path / "run", model=other)
    with pytest.raises(ValueError, match="molecule: expected"):
        sample(make_molecule(5, seed=9), ROLLOUT, out=tmp_path / "run", model=model)
    moved = molecule.positions[None] * 1.1
    with pytest.raises(ValueError, match="starts: expected"):
        sample(molecule, ROLLOUT, out=tmp_path / "run", model=model, start=moved)
    sample(other_positions := molecule, ROLLOUT, out=tmp_path / "run", model=other, overwrite=True)
    assert other_positions is molecule


def test_a_replica_that_becomes_infinite_ends_alone(tmp_path, model, make_molecule):
    molecule = make_molecule(5)
    frames = np.stack([molecule.positions, molecule.positions * 1e30])
    (result,) = sample(molecule, ROLLOUT, out=tmp_path / "run", model=model, start=frames)
    assert result.lost_replicas == {1: 1}
    assert result.n_frames == (6, 1, 6)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert result.validity["all"]["nan_frames"] == 1
    (again,) = sample(molecule, ROLLOUT, out=tmp_path / "run", model=model, start=frames)
    assert again.lost_replicas == {1: 1}


def test_the_callers_model_stays_as_it_is(tmp_path, model, make_molecule):
    sample(make_molecule(5), replace(ROLLOUT, precision="fp64"), out=tmp_path / "run", model=model)
    assert model.dtype == torch.float32
    assert all(parameter.requires_grad for parameter in model.network.parameters())


def test_bad_inputs_are_refused(tmp_path, model, make_molecule):
    molecule = make_molecule(5)
    with pytest.raises(ValueError, match="input: expected at least one molecule"):
        sample([], ROLLOUT, out=tmp_path / "run", model=model)
    with pytest.raises(ValueError, match="input: expected molecules of different names"):
        sample([molecule, molecule], ROLLOUT, out=tmp_path / "run", model=model)
    with pytest.raises(ValueError, match="start: expected frames of shape"):
        sample(molecule, ROLLOUT, out=tmp_path / "run", model=model, start=np.zeros((1, 4, 3)))
    with pytest.raises(ValueError, match="start: expected finite coordinates"):
        sample(
            molecule, ROLLOUT, out=tmp_path / "run", model=model, start=np.full((1, 5, 3), np.nan)
        )
    with pytest.raises(ValueError, match="start: expected one input"):
        sample(
            [molecule, make_molecule(6)],
            ROLLOUT,
            out=tmp_path / "run",
            model=model,
            start=np.zeros((1, 5, 3)),
        )
    with pytest.raises(ValueError, match="nest it: 2 steps of 100 ps each"):
        sample(molecule, replace(ROLLOUT, lag_times_ps=(200.0,)), out=tmp_path / "run", model=model)
    with pytest.raises(FileNotFoundError, match="start: no such file"):
        read_start(tmp_path / "nothing.xtc", molecule)
    (tmp_path / "junk.xtc").write_bytes(b"junk")
    with pytest.raises(ValueError, match="start: expected a trajectory of 5 atoms"):
        read_start(tmp_path / "junk.xtc", molecule)
    assert not (tmp_path / "run").exists()


def test_chemistry_the_model_never_saw_is_refused(tmp_path, make_molecule):
    info = ModelInfo(length_unit_nm=0.2, elements=(1, 6), bond_types=(0, 1))
    model = TitoModel.create(NETWORK, info, seed=0)
    with pytest.raises(
        ValueError, match=r"element .* was never seen by this model, which knows 1, 6"
    ):
        sample(make_molecule(30), ROLLOUT, out=tmp_path / "run", model=model)


def test_a_lag_below_the_training_interval_warns(tmp_path, make_molecule):
    model = TitoModel.create(NETWORK, ModelInfo(length_unit_nm=0.2, min_lag_ps=20.0), seed=0)
    with pytest.warns(UserWarning, match="lag 10 ps is below the shortest"):
        sample(make_molecule(5), ROLLOUT, out=tmp_path / "run", model=model)


def test_progress_counts_transitions(tmp_path, model, make_molecule):
    seen: list[RolloutProgress] = []
    sample(make_molecule(5), ROLLOUT, out=tmp_path / "run", model=model, on_progress=seen.append)
    assert [each.n_done for each in seen] == [3, 6, 9, 12, 15]
    assert seen[-1].n_total == 15
    assert seen[-1].simulated_ps == 3 * 170


def test_ctrl_c_keeps_what_was_sampled(tmp_path, model, make_molecule):
    def stop(progress):
        if progress.n_done == 6:
            raise KeyboardInterrupt

    molecule = make_molecule(11)
    with pytest.raises(KeyboardInterrupt):
        sample(molecule, ROLLOUT, out=tmp_path / "run", model=model, on_progress=stop)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert np.load(tmp_path / "run" / "state.npz")["n_steps_done"].tolist() == [2, 2, 2]
    sample(molecule, ROLLOUT, out=tmp_path / "run", model=model)
    sample(molecule, ROLLOUT, out=tmp_path / "whole", model=model)
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, model):
    save_model(model, tmp_path / "model.safetensors")
    config = RolloutConfig(
        lag_times_ps=(50.0,), n_rollout_steps=400, n_replicas=2, n_ode_steps=2, n_threads=1
    )
    code = textwrap.dedent(
        f"""
        import tito_fast.rollout.recorder as recorder
        import tito_fast.rollout.sample as sampling
        from tito_fast.rollout.config import RolloutConfig
        recorder.SECONDS_BETWEEN_CHECKPOINTS = 0.2
        sampling.sample("CCO", {config!r}, out="run", model="model.safetensors")
        """
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code], cwd=tmp_path)  # noqa: S603  our own interpreter
    state = tmp_path / "run" / "state.npz"
    deadline = time.monotonic() + 120
    while not state.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no state was written"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < np.load(state)["n_steps_done"].max() < 400
    sample("CCO", config, out=tmp_path / "run", model=tmp_path / "model.safetensors")
    sample("CCO", config, out=tmp_path / "whole", model=tmp_path / "model.safetensors")
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")


@pytest.mark.gpu
def test_a_gpu_run_repeats_itself(tmp_path, model, make_molecule):
    molecule = make_molecule(11)
    for name, batch_size in (("whole", None), ("single", 1)):
        config = replace(ROLLOUT, device="cuda", batch_size=batch_size)
        sample(molecule, config, out=tmp_path / name, model=model)
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "single")
    assert torch.cuda.is_available()
