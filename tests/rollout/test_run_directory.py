"""A run's directory: taken up, extended, refused, held by one process, whole after any end."""

import csv
import json
import signal
import subprocess
import sys

import mdtraj as md
import numpy as np
import pytest

from tito_fast.data.readers import from_smiles
from tito_fast.data.run_directory import (
    cumulative_times_ps,
    molecule_fingerprint,
    molecule_of_run,
    read_run,
    trajectory_files,
)
from tito_fast.data.writers import read_frames
from tito_fast.rollout.rollout_directory import RolloutDirectory
from tito_fast.rollout.run_state import RolloutState

SETTINGS = {"seed": 1, "lag_times_ps": (1000.0, 10.0), "format": "xtc", "device": "cpu"}


@pytest.fixture(scope="module")
def ethanol():
    return from_smiles("CCO")


def opened(path, molecule, *, n_steps=4, n_replicas=2, overwrite=False, **changes):
    return RolloutDirectory.open(
        path,
        {**SETTINGS, **changes},
        molecule=molecule,
        n_steps=n_steps,
        n_replicas=n_replicas,
        overwrite=overwrite,
    )


def write_run(run, n_frames=3):
    """Write frames, state and the rest of what a run leaves."""
    tokens = []
    for replica in range(run.n_replicas):
        with_start = np.repeat(run.molecule.positions[None], n_frames, axis=0)
        writer = run.open_writer(replica, token=0)
        writer.append(with_start, np.arange(n_frames))
        tokens.append(writer.flush())
        writer.close()
    positions = np.repeat(run.molecule.positions[None], run.n_replicas, axis=0)
    state = RolloutState(
        n_steps_done=np.full(run.n_replicas, n_frames - 1),
        positions=positions,
        written_positions=positions,
        tokens=np.array(tokens),
        lost_at_step=np.full(run.n_replicas, -1),
        validity={"frames": [3, 3]},
    )
    run.save_state(state)
    run.append_log({"step": 2, "seconds": 0.5})
    run.save_validity({"all": {}})
    return state


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_new_run_says_what_it_is(tmp_path, ethanol):
    with opened(tmp_path / "out", ethanol) as run:
        write_run(run)
        run.set_status("finished")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *(".lock", "log.csv", "rep_0000.xtc", "rep_0001.xtc", "run.json", "state.npz"),
        *("topology.pdb", "validity.json"),
    ]
    record = read_run(tmp_path / "out")
    assert record["settings"] == {
        **SETTINGS,
        "lag_times_ps": [1000.0, 10.0],
        "molecule": molecule_fingerprint(ethanol),
    }
    assert record["times_ps"] == [0.0, 1000.0, 1010.0, 2010.0, 2020.0]
    assert record["status"] == "finished"
    assert (record["n_steps"], record["n_replicas"]) == (4, 2)
    assert record["molecule"]["smiles"] == "CCO"
    assert set(record["history"][0]["versions"]) == {"tito_fast", "torch", "numpy", "python"}
    assert record["history"][0]["started"] <= record["history"][0]["ended"]
    assert molecule_of_run(tmp_path / "out").noise_hash == ethanol.noise_hash
    files = trajectory_files(tmp_path / "out")
    assert [file.name for file in files] == ["rep_0000.xtc", "rep_0001.xtc"]
    loaded = md.load(files[0], top=tmp_path / "out" / "topology.pdb")
    assert loaded.n_atoms == ethanol.n_atoms
    assert loaded.topology.n_bonds == ethanol.bond_index.shape[1] // 2


def test_the_same_settings_take_the_run_up(tmp_path, ethanol):
    with opened(tmp_path, ethanol) as run:
        assert run.load_state() is None
        written = write_run(run)
    with opened(tmp_path, ethanol, n_steps=6, n_replicas=3, device="cuda", threads=4) as run:
        state = run.load_state()
        for name in ("n_steps_done", "positions", "written_positions", "tokens", "lost_at_step"):
            loaded, expected = getattr(state, name), getattr(written, name)
            assert loaded.dtype == expected.dtype
            np.testing.assert_array_equal(loaded, expected)
        assert state.validity == written.validity
        more = state.extended(ethanol.positions[None] + 1)
        assert more.n_steps_done.tolist() == [2, 2, 0]
        assert more.tokens.tolist() == [*written.tokens, 0]
        np.testing.assert_array_equal(more.written_positions[2], ethanol.positions + 1)
        assert run.open_writer(0, token=int(state.tokens[0])).n_frames == 3
    record = read_run(tmp_path)
    assert (record["n_steps"], record["n_replicas"]) == (6, 3)
    assert len(record["times_ps"]) == 7
    assert [entry.get("device") for entry in record["history"]] == ["cpu", "cuda"]


def test_fewer_steps_or_replicas_remove_nothing(tmp_path, ethanol):
    with opened(tmp_path, ethanol) as run:
        write_run(run)
    before = contents(tmp_path)
    with opened(tmp_path, ethanol, n_steps=1, n_replicas=1) as run:
        assert len(run.load_state().tokens) == 2
    after = contents(tmp_path)
    assert {k: v for k, v in after.items() if k != "run.json"} == {
        k: v for k, v in before.items() if k != "run.json"
    }
    record = read_run(tmp_path)
    assert (record["n_steps"], record["n_replicas"]) == (4, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2}, r"seed: expected 1 as in .*run.json, got 2; pass --overwrite .* --out"),
        (
            {"lag_times_ps": [10.0]},
            r"lag_times_ps: expected \[1000.0, 10.0\] as in .*, got \[10.0\]",
        ),
        ({"format": "dcd"}, "format: expected 'xtc' as in .*, got 'dcd'"),
        ({"align": False}, "align: expected None as in .*, got False"),
        ({"seed": 2, "format": "h5"}, "format: expected .*; seed: expected 1 as in"),
    ],
)
def test_a_changed_setting_is_refused_with_both_values(tmp_path, ethanol, changes, message):
    with opened(tmp_path, ethanol) as run:
        write_run(run)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, ethanol, **changes)
    assert contents(tmp_path) == before
    with opened(tmp_path, ethanol):
        pass


def test_another_molecule_or_start_is_refused(tmp_path, ethanol):
    opened(tmp_path, ethanol).close()
    for other in (from_smiles("CCN"), ethanol.with_positions(ethanol.positions * 1.001)):
        with pytest.raises(ValueError, match=r"molecule: expected 'CCO .*' as in .*, got 'CC"):
            opened(tmp_path, other)


def test_overwriting_removes_the_run_and_nothing_else(tmp_path, ethanol):
    with opened(tmp_path, ethanol, format="h5") as run:
        write_run(run)
    (tmp_path / "notes.txt").write_text("mine")
    with opened(tmp_path, ethanol, n_steps=1, n_replicas=1, seed=7, overwrite=True) as run:
        assert run.load_state() is None
    assert sorted(contents(tmp_path)) == [".lock", "notes.txt", "run.json", "topology.pdb"]
    assert read_run(tmp_path)["settings"]["seed"] == 7
    assert read_run(tmp_path)["n_steps"] == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_a_run_is_refused(tmp_path, ethanol, overwrite):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"out: expected an empty directory .* with thesis.tex"):
        opened(tmp_path, ethanol, overwrite=overwrite)
    assert contents(tmp_path) == {"thesis.tex": b"mine"}
    with pytest.raises(ValueError, match="out: expected a directory, got the file"):
        opened(tmp_path / "thesis.tex", ethanol, overwrite=overwrite)


def test_a_run_that_was_killed_at_its_start_is_taken_up(tmp_path, ethanol):
    (tmp_path / ".lock").touch()
    (tmp_path / "run.json.part").write_text("{")
    opened(tmp_path, ethanol).close()
    (tmp_path / "rep_0000.xtc").write_bytes(b"torn")
    with opened(tmp_path, ethanol) as run:
        writer = run.open_writer(0, token=0)
        writer.append(ethanol.positions[None], np.zeros(1))
        writer.close()
    assert len(read_frames(tmp_path / "rep_0000.xtc").positions) == 1


def test_one_process_holds_a_run(tmp_path, ethanol):
    with opened(tmp_path, ethanol) as run:
        with pytest.raises(
            RuntimeError, match=r"out: expected .* to be free, got one that another"
        ):
            opened(tmp_path, ethanol)
        run.close()
    opened(tmp_path, ethanol).close()


def test_a_killed_process_lets_go(tmp_path, ethanol):
    code = (
        "import time\n"
        "from tito_fast.data.readers import from_smiles\n"
        "from tito_fast.rollout.rollout_directory import RolloutDirectory\n"
        f"run = RolloutDirectory.open({str(tmp_path)!r}, {SETTINGS!r}, molecule=from_smiles('CCO'),\n"
        "    n_steps=4, n_replicas=2)\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(  # noqa: S603  our own interpreter and code
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match="another process is writing"):
            opened(tmp_path, ethanol)
        process.send_signal(signal.SIGKILL)
    opened(tmp_path, ethanol).close()
    assert read_run(tmp_path)["status"] == "running"


def test_a_failed_write_keeps_the_state_before(tmp_path, ethanol, monkeypatch):
    with opened(tmp_path, ethanol) as run:
        state = write_run(run)
        before = contents(tmp_path)

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"state.npz: expected to write, got 'No space left"):
            run.save_state(state)
        with pytest.raises(OSError, match=r"run.json: expected to write, got 'No space left"):
            run.set_status("failed")
        assert contents(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text"])
def test_a_damaged_state_is_refused(tmp_path, ethanol, content):
    with opened(tmp_path, ethanol) as run:
        write_run(run)
        whole = (tmp_path / "state.npz").read_bytes()
        for damaged in (content, whole[: len(whole) // 2]):
            (tmp_path / "state.npz").write_bytes(damaged)
            with pytest.raises(
                ValueError, match=r"state.npz: expected the state of a rollout, got"
            ):
                run.load_state()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "run.json: expected JSON, got other text"),
        ("{}", "run.json: expected a run of format_version 1, got None"),
        ("[1]", "run.json: expected a run of format_version 1, got None"),
        ('{"format_version": 9, "settings": {}}', "format_version 1, got 9"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, ethanol, content, message):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, ethanol)
    with opened(tmp_path, ethanol, overwrite=True):
        assert read_run(tmp_path)["status"] == "running"


def test_the_log_grows_by_whole_lines(tmp_path, ethanol):
    with opened(tmp_path, ethanol) as run:
        run.append_log({"step": 1, "seconds": 0.5})
        run.append_log({"step": 2, "seconds": 0.25})
        with pytest.raises(ValueError, match="log: expected columns step, seconds, got step"):
            run.append_log({"step": 3})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("3,0.")
    with opened(tmp_path, ethanol) as run:
        run.append_log({"step": 3, "seconds": 1.0})
    with (tmp_path / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_times_do_not_drift():
    times = cumulative_times_ps([0.1], 100_000)
    assert times[-1] == 10_000.0
    assert times[30_000] == 3000.0
    np.testing.assert_array_equal(
        cumulative_times_ps([3.0, 1.0, 0.5], 7), [0, 3, 4, 4.5, 7.5, 8.5, 9.0, 12.0]
    )


def test_files_are_listed_by_number(tmp_path, ethanol):
    opened(tmp_path, ethanol).close()
    for replica in (10_000, 9999, 2):
        (tmp_path / f"rep_{replica:04d}.xtc").touch()
    names = [file.name for file in trajectory_files(tmp_path)]
    assert names == ["rep_0002.xtc", "rep_9999.xtc", "rep_10000.xtc"]


def test_bad_input_is_refused_by_name(tmp_path, ethanol):
    with pytest.raises(ValueError, match="n_steps: expected at least 1, got 0"):
        opened(tmp_path, ethanol, n_steps=0)
    with pytest.raises(ValueError, match="replicas: expected at least 1, got 0"):
        opened(tmp_path, ethanol, n_replicas=0)
    with pytest.raises(ValueError, match="format: expected one of xtc, dcd, h5, got 'pdb'"):
        opened(tmp_path, ethanol, format="pdb")
    with pytest.raises(ValueError, match="lag_times_ps: expected at least one lag, got none"):
        opened(tmp_path, ethanol, lag_times_ps=[])
    with pytest.raises(TypeError, match="settings: expected values that JSON keeps"):
        opened(tmp_path, ethanol, base_std=float("nan"))
    with pytest.raises(ValueError, match="settings: expected lag_times_ps among them"):
        RolloutDirectory.open(tmp_path, {"seed": 1}, molecule=ethanol, n_steps=1, n_replicas=1)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"run: expected a directory with run.json, got"):
        read_run(tmp_path)
    with opened(tmp_path, ethanol) as run:
        with pytest.raises(ValueError, match="state: expected 9 atoms, got 5"):
            run.save_state(RolloutState.at_start(np.zeros((2, 5, 3))))
        (tmp_path / "state.npz").write_bytes(RolloutState.at_start(np.zeros((2, 5, 3))).to_bytes())
        with pytest.raises(ValueError, match="expected the state of 9 atoms, got 5"):
            run.load_state()


def test_a_state_of_other_shapes_is_refused():
    good = RolloutState.at_start(np.zeros((2, 5, 3), dtype=np.float32))
    arrays = {name: getattr(good, name) for name in ("n_steps_done", "tokens", "lost_at_step")}
    with pytest.raises(ValueError, match=r"positions: expected shape \(n_replicas, n_atoms, 3\)"):
        RolloutState.at_start(np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"written_positions: expected shape \(2, 5, 3\), got"):
        RolloutState(**arrays, positions=good.positions, written_positions=np.zeros((1, 5, 3)))
    positions = {"positions": good.positions, "written_positions": good.positions}
    with pytest.raises(ValueError, match=r"tokens: expected shape \(2,\), got \(3,\)"):
        RolloutState(**{**arrays, "tokens": np.zeros(3, dtype=np.int64)}, **positions)
    with pytest.raises(TypeError, match="tokens: expected dtype int64, got float64"):
        RolloutState(**{**arrays, "tokens": np.zeros(2)}, **positions)
    assert json.dumps(good.validity) == "{}"
