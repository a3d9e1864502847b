"""Relaxing samples: a run like the one given, frame by frame, with failures counted."""

import json

import mdtraj as md
import numpy as np
import pytest

from tito_fast.data.convert.mdtraj_files import convert_mdtraj
from tito_fast.data.run_directory import molecule_of_run, read_run, run_times_ps
from tito_fast.data.store import open_store
from tito_fast.md import (
    RelaxConfig,
    openmm_system,
    potential_energies,
    preset_of,
    relax,
)
from tito_fast.md import relaxation as relaxation_module
from tito_fast.rollout.figure import rollout_figure
from tito_fast.rollout.rollout_directory import RolloutDirectory

SETTINGS = {"seed": 1, "format": "xtc", "lag_times_ps": [100.0]}


@pytest.fixture
def write_rollout(glycine, shaken, tmp_path):
    """Return a function that writes a rollout of diglycine; ``torn`` frames have all atoms in one place."""

    def write(name="rollout", *, n_frames=5, n_replicas=2, lags=(100.0,), torn=()):
        path = tmp_path / name
        settings = {**SETTINGS, "lag_times_ps": list(lags)}
        with RolloutDirectory.open(
            path, settings, molecule=glycine, n_steps=n_frames - 1, n_replicas=n_replicas
        ) as run:
            for replica in range(n_replicas):
                frames = shaken(glycine, n_frames, scale=0.01, seed=replica)
                for at_replica, frame in torn:
                    if at_replica == replica:
                        frames[frame] = 0.0
                writer = run.open_writer(replica, token=0)
                writer.append(frames, run_times_ps(path)[:n_frames])
                writer.close()
            run.set_status("finished")
        return path

    return write


@pytest.fixture
def relaxed(vacuum, tmp_path):
    """Return a function that relaxes a run by a tenth of a picosecond."""

    def run(source, name="relaxed", *, overwrite=False, on_progress=None, **changes):
        options = {"time_ps": 0.1, "preset": vacuum, "platform": "Reference", "n_jobs": 1}
        config = RelaxConfig(**{**options, **changes})
        return relax(
            source, config, out=tmp_path / name, overwrite=overwrite, on_progress=on_progress
        )

    return run


def frames_of(path, replica=0):
    return md.load(str(path / f"rep_{replica:04d}.xtc"), top=str(path / "topology.pdb"))


def contents(path):
    return [(path / f"rep_{replica:04d}.xtc").read_bytes() for replica in range(2)]


def test_a_relaxed_run_is_read_as_a_run(write_rollout, relaxed, glycine, vacuum, tmp_path):
    source = write_rollout()
    result = relaxed(source)
    assert result.n_frames == (5, 5)
    assert result.failed == ()
    assert result.summary() == "10 frames of 2 replicas relaxed, none failed"
    record = read_run(result.path)
    assert (record["kind"], record["status"]) == ("relaxation", "finished")
    assert record["times_ps"] == [0.0, 100.0, 200.0, 300.0, 400.0]
    assert molecule_of_run(result.path).noise_hash == glycine.noise_hash
    before, after = frames_of(source), frames_of(result.path)
    np.testing.assert_array_equal(after.time, before.time)
    assert rollout_figure(result.path, tmp_path / "rollout.png") is None
    store = open_store(convert_mdtraj(result.path, tmp_path / "store"))
    assert [row.n_frames for row in store.trajectories] == [5, 5]
    assert store.trajectories[0].temperature_k == 310.0
    # Shaken by 0.01 nm, samples lie far above where dynamics at 310 K go.
    system = openmm_system(glycine, vacuum)
    energies = potential_energies(system, after.xyz)
    assert energies.max() < potential_energies(system, before.xyz).min() - 100.0
    validity = json.loads((result.path / "validity.json").read_text())
    assert validity == result.validity
    assert validity["all"]["frames"] == 10
    assert validity["all"]["share_bonds_near_covalent"] == 1.0
    report = json.loads((result.path / "relax.json").read_text())
    assert report["n_frames_relaxed"] == [5, 5]
    assert report["mean_potential_energy_kj_per_mol"] == pytest.approx(
        potential_energies(
            system, np.concatenate([after.xyz, frames_of(result.path, 1).xyz])
        ).mean(),
        abs=30.0,
    )


def test_what_becomes_of_a_frame_does_not_depend_on_the_others(write_rollout, relaxed):
    source = write_rollout()
    every = frames_of(relaxed(source).path)
    second = frames_of(relaxed(source, "second", every=2).path)
    np.testing.assert_array_equal(second.xyz, every.xyz[::2])
    np.testing.assert_array_equal(second.time, [0.0, 200.0, 400.0])
    shared = relaxed(source, "shared", n_jobs=2)
    assert contents(shared.path) == contents(relaxed(source).path)


def test_lags_that_are_cycled_keep_their_times(write_rollout, relaxed):
    source = write_rollout(lags=(100.0, 10.0, 1.0), n_frames=7)
    assert read_run(relaxed(source).path)["times_ps"] == [
        0.0,
        100.0,
        110.0,
        111.0,
        211.0,
        221.0,
        222.0,
    ]
    result = relaxed(source, "second", every=2)
    assert frames_of(result.path).time.tolist() == [0.0, 110.0, 211.0, 222.0]
    assert read_run(result.path)["times_ps"] == [0.0, 110.0, 211.0, 222.0]


def test_failed_frames_are_left_out_and_counted(write_rollout, relaxed):
    torn = write_rollout("torn", torn=[(0, 3), (1, 0)])
    whole = relaxed(write_rollout("whole"))
    result = relaxed(torn, "result")
    assert [(replica, frame) for replica, frame, _ in result.failed] == [(0, 3), (1, 0)]
    assert result.n_frames == (4, 4)
    assert frames_of(result.path).time.tolist() == [0.0, 100.0, 200.0, 400.0]
    np.testing.assert_array_equal(
        frames_of(result.path).xyz, frames_of(whole.path).xyz[[0, 1, 2, 4]]
    )
    assert result.summary().startswith("8 frames of 2 replicas relaxed, 2 failed and left out (2 ")
    report = json.loads((result.path / "relax.json").read_text())
    assert report["n_failed"] == 2
    assert [(entry["replica"], entry["frame"]) for entry in report["failed"]] == [(0, 3), (1, 0)]
    assert all(entry["reason"] for entry in report["failed"])


def test_a_bond_that_breaks_is_a_failure(write_rollout, relaxed, glycine, tmp_path):
    # A system without bonds lets the atoms fly apart.
    import openmm  # noqa: PLC0415  only here

    system = openmm.System()
    for _ in range(glycine.n_atoms):
        system.addParticle(1.0)
    bond = openmm.HarmonicBondForce()
    for i, j in glycine.bond_index.T.tolist():
        if i < j:
            bond.addBond(i, j, 0.11, 0.0)
    system.addForce(bond)
    (tmp_path / "gas.xml").write_text(openmm.XmlSerializer.serialize(system))
    result = relaxed(write_rollout(), system=tmp_path / "gas.xml", time_ps=1.0)
    assert {reason for _, _, reason in result.failed} == {"exploded"}
    assert result.n_frames == (0, 0)
    assert "10 failed and left out (10 exploded)" in result.summary()


class Interrupted:
    """Presses Ctrl-C at the ``n``-th message."""

    def __init__(self, n_messages):
        self.left = n_messages

    def __call__(self, _progress):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("n_messages", [1, 5, 12])
def test_an_interrupted_relaxation_goes_on(write_rollout, relaxed, monkeypatch, n_messages):
    monkeypatch.setattr(relaxation_module, "_FRAMES_PER_JOB", 2)
    source = write_rollout(n_frames=7, torn=[(0, 1)])
    whole = relaxed(source, "whole")
    with pytest.raises(KeyboardInterrupt):
        relaxed(source, "cut", on_progress=Interrupted(n_messages))
    cut = whole.path.with_name("cut")
    assert read_run(cut)["status"] == "interrupted"
    again = relaxed(source, "cut")
    assert contents(cut) == contents(whole.path)
    assert again.failed == whole.failed
    assert again.validity == whole.validity


def test_a_run_that_grew_is_relaxed_further(run_simulation, relaxed):
    source = run_simulation(time_ps=0.3).path
    first = relaxed(source)
    assert first.n_frames == (4,)
    run_simulation(time_ps=0.5, n_replicas=2)
    grown = relaxed(source)
    assert grown.n_frames == (6, 6)
    assert contents(grown.path) == contents(relaxed(source, "afresh").path)


def test_a_system_may_be_given(write_rollout, relaxed, run_simulation, vacuum):
    source, simulated = write_rollout(), run_simulation(time_ps=0.1).path
    by_preset = relaxed(source)
    by_system = relaxed(source, "given", system=simulated)
    assert contents(by_system.path) == contents(by_preset.path)
    assert relaxed(source, "given", system=simulated).n_frames == (5, 5)
    with pytest.raises(ValueError, match=r"system: expected '\w+' as in .*, got None"):
        relaxed(source, "given")


def test_bad_input_is_refused(write_rollout, relaxed, tmp_path, alanine):
    source = write_rollout()
    with pytest.raises(ValueError, match=r"run: expected a directory with run.json, got"):
        relaxed(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"every: expected at most 4, the steps of the run"):
        relaxed(source, every=9)
    with pytest.raises(ValueError, match=r"out: expected another directory than the run's, got"):
        relaxed(source, "rollout")
    with pytest.raises(ValueError, match="time: expected a multiple of the step of 2 fs"):
        relaxed(source, time_ps=0.0011)
    with pytest.raises(ValueError, match="every: expected at least 1, got 0"):
        relaxed(source, every=0)
    with pytest.raises(ValueError, match="minimize: expected at least 0, got -1"):
        relaxed(source, n_minimization_steps=-1)
    with pytest.raises(ValueError, match=r"preset: expected one of fast, .* got 'slow'"):
        RelaxConfig(time_ps=1.0, preset="slow")
    other = openmm_system(alanine, preset_of("fast"))
    import openmm  # noqa: PLC0415  only here

    (tmp_path / "other.xml").write_text(openmm.XmlSerializer.serialize(other))
    with pytest.raises(
        ValueError, match="system: expected 17 particles, the atoms of 'GG', got 22"
    ):
        relaxed(source, system=tmp_path / "other.xml")
    assert not (tmp_path / "relaxed").exists()
    result = relaxed(source)
    with pytest.raises(ValueError, match=r"relax_time_ps: expected 0.1 as in .*, got 0.2"):
        relaxed(source, time_ps=0.2)
    # Relaxed samples are another source than the samples.
    twice = relaxed(result.path, "twice")
    assert twice.n_frames == (5, 5)
    with pytest.raises(
        ValueError, match=r"source: expected .*'kind': 'relaxation'.* got .*'rollout'"
    ):
        relaxed(source, "twice")
    (result.path / "relax.npz").write_bytes(b"no state")
    with pytest.raises(ValueError, match=r"relax.npz: expected the state of a relaxation, got"):
        relaxed(source)
