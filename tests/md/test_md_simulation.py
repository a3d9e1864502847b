"""Simulations: right temperature, whole files, taken up bit for bit, extended, refused."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import mdtraj as md
import numpy as np
import pytest

from tito_fast.data.convert.mdtraj_files import convert_mdtraj
from tito_fast.data.readers import from_sequence
from tito_fast.data.run_directory import molecule_of_run, read_run, trajectory_files
from tito_fast.data.store import open_store
from tito_fast.errors import ProcessLostError
from tito_fast.md import PRESETS, SimulationConfig, openmm_system, preset_of, simulate
from tito_fast.md import crew as crew_module
from tito_fast.md import replica as replica_module
from tito_fast.md.contexts import masses_amu
from tito_fast.md.directory import load_replica_state, save_replica_state


def frames_of(result, replica=0):
    top = str(result.path / "topology.pdb")
    return md.load(str(result.path / f"rep_{replica:04d}.xtc"), top=top)


def test_a_run_leaves_what_others_read(run_simulation, glycine, vacuum):
    result = run_simulation(n_replicas=2)
    assert sorted(file.name for file in result.path.iterdir()) == [
        *(".lock", "checks.json", "log.csv", "rep_0000.xtc", "rep_0001.xtc", "run.json"),
        *("state_0000.npz", "state_0001.npz", "system.json", "system.xml", "topology.pdb"),
        "validity.json",
    ]
    trajectory = frames_of(result)
    np.testing.assert_allclose(trajectory.time, 0.1 * np.arange(11), atol=1e-6)
    assert trajectory.unitcell_lengths is None
    assert trajectory.topology.n_bonds == glycine.bond_index.shape[1] // 2
    masses = masses_amu(openmm_system(glycine, vacuum))
    centers = np.einsum("a,fax->fx", masses, trajectory.xyz) / masses.sum()
    assert np.abs(centers).max() < 5e-4
    assert np.abs(trajectory.xyz[0] - frames_of(result, 1).xyz[0]).max() > 1e-3
    assert result.n_frames == (11, 11)
    system = json.loads((result.path / "system.json").read_text())
    assert system["masses_amu"] == pytest.approx(masses)
    assert sum(system["partial_charges"]) == pytest.approx(0.0, abs=1e-6)
    assert (system["timestep_fs"], system["friction_per_ps"], system["seed"]) == (2.0, 1.0, 0)
    assert system["frame_interval_ps"] == 0.1
    assert {"tito_fast", "openmm", "rdkit"} <= set(system["versions"])
    record = read_run(result.path)
    assert (record["kind"], record["status"], record["n_steps"]) == ("simulation", "finished", 10)
    assert record["settings"]["platform"] == "Reference"
    header, *lines = (result.path / "log.csv").read_text().splitlines()
    assert header.startswith("elapsed_s,frames_of_all_replicas,simulated_ns,ns_per_day,")
    assert lines[-1].split(",")[1:3] == ["20", "0.002"]
    assert molecule_of_run(result.path).noise_hash == glycine.noise_hash
    assert len(trajectory_files(result.path)) == 2


def test_a_run_is_converted_into_a_store(run_simulation, glycine, tmp_path):
    result = run_simulation(n_replicas=2)
    store = open_store(convert_mdtraj(result.path, tmp_path / "store"))
    assert [row.name for row in store.trajectories] == ["run/rep_0000", "run/rep_0001"]
    assert [row.n_frames for row in store.trajectories] == [11, 11]
    assert store.trajectories[0].frame_interval_ps == pytest.approx(0.1)
    assert store.trajectories[0].temperature_k == 310.0
    assert store.trajectories[0].split == "train"
    np.testing.assert_array_equal(store.molecules[0].bond_type, glycine.bond_type)
    single = run_simulation("single")
    store = open_store(convert_mdtraj(single.path, tmp_path / "one", splits=["val"]))
    assert [row.split for row in store.trajectories] == ["val"]


def test_several_molecules_are_converted_from_their_folder(vacuum, tmp_path):
    config = SimulationConfig(
        time_ps=0.2, save_every_ps=0.1, preset=vacuum, platform="Reference", n_jobs=1
    )
    results = simulate(["peptide:GG", "ACE-G-NME"], config, out=tmp_path / "both")
    assert [result.path.name for result in results] == ["GG", "ACE-G-NME"]
    store = open_store(convert_mdtraj(tmp_path / "both", tmp_path / "store"))
    assert sorted(molecule.name for molecule in store.molecules) == ["ACE-G-NME", "GG"]
    with pytest.raises(ValueError, match=r"splits: expected one for the run .*, got a, b"):
        convert_mdtraj(tmp_path / "both", tmp_path / "other", splits=["a", "b"])
    with pytest.raises(ValueError, match="input: expected molecules of different names, got 'GG'"):
        simulate(["peptide:GG", "peptide:GG"], config, out=tmp_path / "twice")
    with pytest.raises(ValueError, match="input: expected at least one molecule, got none"):
        simulate([], config, out=tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "time_ps"),
    [({}, 160.0), ({"step_fs": 4.0, "hydrogen_mass_amu": 3.0}, 320.0)],
    ids=["2 fs", "4 fs"],
)
def test_the_mean_temperature_is_the_presets(run_simulation, alanine, changes, time_ps):
    # Velocities are forgotten after 1/friction, so 160 ps at 5/ps hold 800 independent kinetic energies of
    # 51 degrees of freedom: the mean has a standard error of 0.70 %, and 2 % is 2.9 of them.
    preset = preset_of("fast", friction_per_ps=5.0, equilibration_ps=1.0, **changes)
    result = run_simulation(
        molecule=alanine, preset=preset, time_ps=time_ps, save_every_ps=0.04, seed=1
    )
    temperature = result.checks["temperature"]
    assert temperature["degrees_of_freedom"] == 51
    assert temperature["expected_standard_error_k"] < 0.00701 * 310.0
    assert temperature["allowed_k"] >= 6.2
    assert temperature["mean_k"] == pytest.approx(310.0, rel=0.02)
    assert result.checks["passed"]
    assert result.checks["bonds"]["largest_mean_deviation"] < 0.05
    assert result.checks["stereo"]["inverted_frames"] == 0
    assert result.checks["stereo"]["stereocenters"] == 1
    # Kinetic energies spread as in the canonical ensemble, by 61 K.
    (replica,) = temperature["replicas"]
    assert 80.0 < replica["minimum_k"] < 200.0
    assert 450.0 < replica["maximum_k"] < 650.0


class Interrupted:
    """Presses Ctrl-C at the ``n``-th message."""

    def __init__(self, n_messages):
        self.left = n_messages

    def __call__(self, _progress):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("n_messages", [1, 3, 8, 14])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(
    run_simulation, monkeypatch, platform, n_messages
):
    # Messages at every piece of 20 steps: in the equilibration, between frames and inside them.
    monkeypatch.setattr(replica_module, "_SECONDS_BETWEEN_MESSAGES", 0.0)
    monkeypatch.setattr(replica_module, "_STEPS_AT_ONCE", 20)
    options = {"platform": platform, "time_ps": 0.4}
    whole = run_simulation("whole", **options)
    with pytest.raises(KeyboardInterrupt):
        run_simulation("cut", **options, on_progress=Interrupted(n_messages))
    cut = whole.path.with_name("cut")
    assert read_run(cut)["status"] == "interrupted"
    assert (cut / "state_0000.npz").exists() == (n_messages > 3)
    again = run_simulation("cut", **options)
    assert again.n_frames == whole.n_frames == (5,)
    assert (cut / "rep_0000.xtc").read_bytes() == (whole.path / "rep_0000.xtc").read_bytes()
    assert again.checks == whole.checks


def test_more_time_and_replicas_extend_bit_for_bit(run_simulation):
    whole = run_simulation("whole", time_ps=0.6, n_replicas=2)
    run_simulation("grown", time_ps=0.2)
    grown = run_simulation("grown", time_ps=0.6, n_replicas=2)
    for name in ("rep_0000.xtc", "rep_0001.xtc"):
        assert (grown.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert grown.n_frames == (7, 7)
    less = run_simulation("grown", time_ps=0.2)
    assert less.n_frames == (7, 7)
    assert (grown.path / "rep_0001.xtc").read_bytes() == (whole.path / "rep_0001.xtc").read_bytes()


def test_processes_change_nothing(run_simulation):
    alone = run_simulation("alone", n_replicas=3, time_ps=0.3)
    shared = run_simulation("shared", n_replicas=3, time_ps=0.3, n_jobs=2)
    for replica in range(3):
        name = f"rep_{replica:04d}.xtc"
        assert (alone.path / name).read_bytes() == (shared.path / name).read_bytes()
    assert alone.checks == shared.checks


def test_seeds_and_names_change_the_noise(run_simulation, glycine):
    first = frames_of(run_simulation("first")).xyz
    other_seed = frames_of(run_simulation("seed", seed=1)).xyz
    other_name = frames_of(run_simulation("name", molecule=replace(glycine, name="other"))).xyz
    assert np.abs(first - other_seed).max() > 1e-2
    assert np.abs(first - other_name).max() > 1e-2


def test_a_killed_process_loses_nothing_that_was_recorded(run_simulation, glycine, tmp_path):
    code = (
        "import sys\n"
        "from dataclasses import replace\n"
        "from tito_fast.md import PRESETS, SimulationConfig, simulate\n"
        "from tito_fast.md import replica\n"
        "replica.SECONDS_BETWEEN_STATES = 0.3\n"
        "preset = replace(PRESETS['fast'], name='vacuum', solvent='vacuum', equilibration_ps=0.1)\n"
        "config = SimulationConfig(time_ps=10000.0, save_every_ps=0.1, preset=preset,\n"
        "                          platform='Reference', n_jobs=1)\n"
        "simulate('peptide:GG', config, out=sys.argv[1])\n"
    )
    cut = tmp_path / "cut"
    process = subprocess.Popen([sys.executable, "-c", code, str(cut)])  # noqa: S603  our own code
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            state = load_replica_state(cut, 0) if (cut / "state_0000.npz").exists() else None
            if state is not None and state.step > 0:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    state = load_replica_state(cut, 0)
    assert state.step > 0
    # Half a frame that no state knows of.
    with (cut / "rep_0000.xtc").open("ab") as file:
        file.write(b"\x00\x00\x07\xcb torn")
    molecule = replace(glycine, name="GG")
    time_ps = 0.1 * (state.step // 50 + 5)
    again = run_simulation("cut", molecule=molecule, time_ps=time_ps)
    whole = run_simulation("whole", molecule=molecule, time_ps=time_ps)
    assert again.n_frames == whole.n_frames
    assert (again.path / "rep_0000.xtc").read_bytes() == (whole.path / "rep_0000.xtc").read_bytes()


def test_a_process_that_is_killed_is_said(run_simulation, monkeypatch):
    started = []
    start = crew_module.subprocess.Popen

    def remembered(*arguments, **options):
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(crew_module.subprocess, "Popen", remembered)
    with pytest.raises(ProcessLostError, match="jobs: a process was killed by signal 9; run the"):
        run_simulation(
            n_replicas=2, n_jobs=2, time_ps=1000.0, on_progress=lambda _: started[0].kill()
        )
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)
    # The other one recorded where it was.
    assert run_simulation(n_replicas=2, time_ps=0.1).n_frames[1] >= 2


def test_another_openmm_goes_on_from_positions_and_velocities(run_simulation):
    first = run_simulation(time_ps=0.2)
    state = load_replica_state(first.path, 0)
    other = replace(
        state, environment="OpenMM 0.1, Reference", checkpoint=np.frombuffer(b"older", np.uint8)
    )
    save_replica_state(first.path, 0, other)
    again = run_simulation(time_ps=0.4)
    trajectory = frames_of(again)
    np.testing.assert_allclose(trajectory.time, 0.1 * np.arange(5), atol=1e-6)
    # A frame later atoms have moved by what 0.1 ps allows: no jump back to the start.
    steps = np.sqrt(((trajectory.xyz[1:] - trajectory.xyz[:-1]) ** 2).sum(-1).mean(-1))
    assert steps[2] < 2.0 * steps[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, r"seed: expected 0 as in .*run.json, got 5"),
        ({"save_every_ps": 0.2}, r"save_every_ps: expected 0.1 as in .*, got 0.2"),
        ({"platform": "CPU"}, r"platform: expected 'Reference' as in .*, got 'CPU'"),
        (
            {"preset": preset_of("fast", equilibration_ps=0.1)},
            r"preset: expected 'vacuum' as in .*, got 'fast'; solvent: expected 'vacuum' as in",
        ),
        ({"molecule": from_sequence("ACE-G-NME")}, r"input: expected 'GG .*' as in .*, got 'ACE-G"),
    ],
)
def test_other_settings_are_refused_with_both_values(run_simulation, changes, message):
    before = run_simulation(time_ps=0.2)
    content = (before.path / "rep_0000.xtc").read_bytes()
    with pytest.raises(ValueError, match=message + r".*pass --overwrite to start again"):
        run_simulation(**{"time_ps": 0.2, **changes})
    assert (before.path / "rep_0000.xtc").read_bytes() == content
    again = run_simulation(**{"time_ps": 0.2, **changes}, overwrite=True)
    assert again.checks["lost_replicas"] == {}
    assert len(list(again.path.glob("state_*.npz"))) == 1


def test_a_directory_of_something_else_is_refused(run_simulation, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out: expected an empty directory or a run .* notes.txt"):
        run_simulation()
    run_simulation("rollout", time_ps=0.1)
    record = json.loads((tmp_path / "rollout" / "run.json").read_text())
    (tmp_path / "rollout" / "run.json").write_text(json.dumps({**record, "kind": "rollout"}))
    with pytest.raises(ValueError, match=r"out: expected a simulation in .*, got a rollout"):
        run_simulation("rollout", time_ps=0.1)


def test_a_start_that_was_cut_before_its_system_starts_again(run_simulation):
    whole = run_simulation(time_ps=0.2)
    content = (whole.path / "rep_0000.xtc").read_bytes()
    for file in whole.path.iterdir():
        if file.name not in {"run.json", "topology.pdb", ".lock"}:
            file.unlink()
    again = run_simulation(time_ps=0.2)
    assert (again.path / "rep_0000.xtc").read_bytes() == content


def test_a_damaged_state_is_refused(run_simulation):
    path = run_simulation(time_ps=0.2).path
    (path / "state_0000.npz").write_bytes(b"not a state")
    with pytest.raises(ValueError, match=r"state_0000.npz: expected the state of a replica, got"):
        run_simulation(time_ps=0.4)


def test_a_replica_that_becomes_nan_is_lost_and_the_rest_goes_on(run_simulation, vacuum):
    # Steps of 20 fs are too long for bonds that vibrate in 20 fs.
    wild = replace(vacuum, step_fs=20.0, constraints="none", equilibration_ps=0.0)
    result = run_simulation(preset=wild, time_ps=20.0, save_every_ps=0.02, n_replicas=2)
    assert set(result.lost_replicas) == {0, 1}
    assert result.n_frames == tuple(result.lost_replicas.values())
    assert not result.checks["passed"]
    assert "replica 0 became NaN" in result.checks["problems"]
    assert "CHECKS FAILED" in result.summary()
    assert read_run(result.path)["status"] == "failed"
    again = run_simulation(preset=wild, time_ps=20.0, save_every_ps=0.02, n_replicas=2)
    assert again.n_frames == result.n_frames


def test_the_platform_is_measured_and_kept(run_simulation):
    result = run_simulation(platform="auto", time_ps=0.1)
    system = json.loads((result.path / "system.json").read_text())
    speeds = system["platform_measured_ns_per_day"]
    assert set(speeds) == {"Reference", "CPU"}
    assert system["platform"] == max(speeds, key=speeds.get)
    assert read_run(result.path)["settings"]["platform"] == system["platform"]
    run_simulation(platform="auto", time_ps=0.2)


def test_a_lost_stereocenter_fails_the_checks(run_simulation, alanine):
    # The start of the file's frames as seen in a mirror: what a run of the wrong isomer would look like.
    result = run_simulation(molecule=alanine, time_ps=0.2)
    trajectory = frames_of(result)
    trajectory.xyz *= [1.0, 1.0, -1.0]
    trajectory.save(str(result.path / "rep_0000.xtc"))
    state = load_replica_state(result.path, 0)
    size = (result.path / "rep_0000.xtc").stat().st_size
    save_replica_state(result.path, 0, replace(state, token=size))
    again = run_simulation(molecule=alanine, time_ps=0.2)
    assert not again.checks["passed"]
    assert "stereochemistry: 3 frames with an inverted stereocenter" in again.checks["problems"][0]


@pytest.mark.usefixtures("gaff")
def test_small_molecules_are_simulated_with_gaff(tmp_path):
    preset = replace(PRESETS["gaff-vacuum"], equilibration_ps=0.5, friction_per_ps=20.0)
    config = SimulationConfig(
        time_ps=30.0, save_every_ps=0.05, preset=preset, platform="Reference", n_jobs=1, seed=3
    )
    (result,) = simulate("C/C=C/[C@H](O)F", config, out=tmp_path / "run")
    temperature = result.checks["temperature"]
    # 600 independent kinetic energies of 33 degrees of freedom.
    assert temperature["expected_standard_error_k"] < 3.1
    assert temperature["mean_k"] == pytest.approx(300.0, abs=4 * 3.1)
    assert result.checks["passed"]
    assert result.checks["stereo"]["stereocenters"] == 1
    assert result.checks["stereo"]["double_bonds"] == 1
    store = open_store(convert_mdtraj(result.path, tmp_path / "store"))
    np.testing.assert_array_equal(store.molecules[0].bond_type, result.molecule.bond_type)
