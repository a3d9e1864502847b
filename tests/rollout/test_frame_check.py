"""Unsound frames: marked beside the trajectories, or left out of them; the rollout itself stays as it was."""

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

from tito_fast.data.frame_flags import flags_path, frame_flags, replica_times_ps
from tito_fast.data.readers import from_smiles
from tito_fast.data.run_directory import read_run
from tito_fast.data.validity import FLAG_BITS, ValidityCounter
from tito_fast.data.writers import read_frames
from tito_fast.md.relaxation_files import RelaxSource
from tito_fast.models.load import save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.rollout.config import CHECK_CRITERIA, RolloutConfig
from tito_fast.rollout.figure import read_rollout
from tito_fast.rollout.sample import sample

NETWORK = TitoConfig(n_features=8, n_embedding_layers=2, n_model_layers=1, max_lag_ps=100.0)
# Alanine: an untrained model inverts its stereocenter in about every other frame.
SMILES = "C[C@H](N)C(=O)O"
ROLLOUT = RolloutConfig(
    lag_times_ps=(50.0, 10.0), n_rollout_steps=12, n_replicas=3, n_ode_steps=2, seed=3, format="h5"
)
MARK = replace(ROLLOUT, check="mark")
DROP = replace(ROLLOUT, check="drop", check_criteria=("stereo",))


@pytest.fixture(scope="module")
def model():
    return TitoModel.create(NETWORK, ModelInfo(length_unit_nm=0.2), seed=0)


@pytest.fixture
def run(tmp_path, model):
    """Sample alanine into a folder of the name given; return the result."""

    def call(name, config, **options):
        (result,) = sample(SMILES, config, out=tmp_path / name, model=model, **options)
        return result

    return call


def files_of(path):
    return {file.name: file.read_bytes() for file in sorted(path.glob("rep_*"))}


def state_of(path):
    with np.load(path / "state.npz") as state:
        return {name: state[name].tolist() for name in state.files if name != "tokens"}


def read(result, replica, suffix="h5"):
    return read_frames(result.path / f"rep_{replica:04d}.{suffix}")


def test_without_a_check_nothing_is_written_of_it(run):
    off = run("off", replace(ROLLOUT, format="xtc"))
    mark = run("mark", replace(MARK, format="xtc"))
    written = files_of(mark.path)
    flags = {name: written.pop(name) for name in list(written) if name.endswith(".flags")}
    assert written == files_of(off.path)
    assert len(flags) == 3
    assert (off.path / "state.npz").read_bytes() == (mark.path / "state.npz").read_bytes()
    assert "check" not in off.validity
    assert "unsound" not in off.summary()
    settings = read_run(off.path)["settings"]
    assert settings["check"] == "off"
    assert "check_criteria" not in settings
    with pytest.raises(ValueError, match="run: expected one sampled with --check mark or drop"):
        frame_flags(off.path, 0)
    np.testing.assert_array_equal(replica_times_ps(off.path, 0), read_run(off.path)["times_ps"])


@pytest.mark.parametrize("criteria", [None, ("stereo",), ("clashes", "bonds")])
def test_flags_are_what_a_recount_of_the_written_frames_says(run, criteria):
    result = run("mark", replace(MARK, check_criteria=criteria))
    chosen = CHECK_CRITERIA if criteria is None else criteria
    seen = set()
    for replica in range(3):
        flags = frame_flags(result.path, replica)
        frames = read(result, replica).positions
        assert flags.dtype == np.uint8
        assert len(flags) == len(frames) == 13
        assert flags[0] == 0
        assert flags[1:].tolist() == [flag_of(result.molecule, f, chosen) for f in frames[1:]]
        seen |= set(flags.tolist())
    assert len(seen) > 1
    assert read_run(result.path)["settings"]["check_criteria"] == {
        name: FLAG_BITS[name] for name in chosen
    }


def flag_of(molecule, frame, criteria):
    """Return the flag of one frame, from the counts of a counter that has seen no other."""
    counter = ValidityCounter(molecule)
    counter.update(np.zeros(1, dtype=np.int64), frame[None])
    counts = counter.result()["all"]
    fails = {
        "bonds": counts["bonds_near_covalent"] < counts["bonds"],
        "clashes": counts["clash_frames"] > 0,
        "stereo": counts["inverted_frames"] + counts["flipped_frames"] > 0,
    }
    return sum(FLAG_BITS[name] for name in criteria if fails[name])


@pytest.mark.parametrize("suffix", ["h5", "xtc"])
@pytest.mark.parametrize("align", [True, False])
def test_dropping_leaves_exactly_the_sound_frames_at_their_times(run, suffix, align):
    drop = replace(DROP, format=suffix, align=align)
    marked = run("mark", replace(drop, check="mark"))
    dropped = run("drop", drop)
    times_ps = np.array(read_run(dropped.path)["times_ps"])
    assert times_ps.tolist() == read_run(marked.path)["times_ps"]
    for replica in range(3):
        flags = frame_flags(dropped.path, replica)
        assert flags.tolist() == frame_flags(marked.path, replica).tolist()
        is_sound = flags == 0
        assert 1 < is_sound.sum() < 13
        found, whole = read(dropped, replica, suffix), read(marked, replica, suffix)
        assert found.positions.tobytes() == whole.positions[is_sound].tobytes()
        assert found.times_ps.tolist() == whole.times_ps[is_sound].tolist()
        np.testing.assert_array_equal(replica_times_ps(dropped.path, replica), times_ps[is_sound])
        assert dropped.n_frames[replica] == is_sound.sum()
    # The chain goes on from every frame.
    assert state_of(dropped.path) == state_of(marked.path)


def test_other_programs_read_the_true_times_of_what_is_left(run):
    result = run("drop", replace(DROP, format="xtc"))
    trajectory = md.load(result.path / "rep_0000.xtc", top=result.path / "topology.pdb")
    assert trajectory.time.tolist() == replica_times_ps(result.path, 0).tolist()


def test_unsound_frames_are_counted_by_criterion(run):
    result = run("drop", replace(DROP, check_criteria=None))
    check = json.loads((result.path / "validity.json").read_text())["check"]
    assert check == result.validity["check"]
    assert (check["mode"], check["flag_bits"]) == (
        "drop",
        {n: FLAG_BITS[n] for n in CHECK_CRITERIA},
    )
    flags = np.stack([frame_flags(result.path, replica)[1:] for replica in range(3)])
    for replica, counts in enumerate(check["replicas"]):
        assert counts == {
            "frames": 12,
            "unsound_frames": np.count_nonzero(flags[replica]),
            **{n: np.count_nonzero(flags[replica] & FLAG_BITS[n]) for n in CHECK_CRITERIA},
        }
    totals = check["all"]
    assert totals["unsound_frames"] == np.count_nonzero(flags)
    # What the model sampled is counted as ever, dropped or not.
    counts = result.validity["all"]
    assert counts == run("off", ROLLOUT).validity["all"]
    assert counts["frames"] == totals["frames"] == 36
    assert counts["clash_frames"] == totals["clashes"]
    assert counts["inverted_frames"] == totals["stereo"]
    assert (
        f"{totals['unsound_frames']} of 36 frames dropped as unsound (bonds {totals['bonds']}, "
        f"clashes {totals['clashes']}, stereo {totals['stereo']})"
    ) in result.summary()


def test_the_last_line_says_how_many_frames_are_left(run):
    dropped, marked = run("drop", DROP), run("mark", MARK)
    fewest, most = min(dropped.n_frames), max(dropped.n_frames)
    assert fewest < most
    assert dropped.summary().startswith(f"3 replicas of {fewest} to {most} frames, ")
    assert "frames dropped as unsound (stereo " in dropped.summary()
    assert marked.summary().startswith("3 replicas of 13 frames, ")
    assert "frames marked as unsound (bonds " in marked.summary()


@pytest.mark.parametrize("config", [MARK, DROP], ids=["mark", "drop"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(run, config):
    config = replace(config, format="xtc", batch_size=2)

    def stop(progress):
        if progress.n_done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("parts", config, on_progress=stop)
    whole = run("whole", replace(config, batch_size=None))
    path = whole.path.parent / "parts"
    # As after a kill: what came after the state was recorded.
    for replica in range(2):
        assert len(frame_flags(path, replica)) == 5
        with flags_path(path, replica).open("ab") as file:
            file.write(b"\x01\x00\x04")
        with (path / f"rep_{replica:04d}.xtc").open("ab") as file:
            file.write(b"torn")
    again = run("parts", config)
    assert files_of(path) == files_of(whole.path)
    assert again.validity == whole.validity
    assert again.n_frames == whole.n_frames


@pytest.mark.parametrize("config", [MARK, DROP], ids=["mark", "drop"])
def test_more_steps_and_replicas_extend_flags_in_place(run, config):
    config = replace(config, format="xtc")
    whole = run("whole", config)
    run("parts", replace(config, n_rollout_steps=1, n_replicas=1))
    run("parts", replace(config, n_rollout_steps=5, n_replicas=2))
    parts = run("parts", config)
    assert files_of(parts.path) == files_of(whole.path)
    assert parts.validity == whole.validity
    fewer = run("parts", replace(config, n_rollout_steps=2, n_replicas=1))
    assert fewer.validity == whole.validity


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, model):
    save_model(model, tmp_path / "model.safetensors")
    config = replace(DROP, n_rollout_steps=400, format="xtc", n_threads=1)
    code = textwrap.dedent(
        f"""
        import tito_fast.rollout.recorder as recorder
        import tito_fast.rollout.sample as sampling
        from tito_fast.rollout.config import RolloutConfig
        recorder.SECONDS_BETWEEN_CHECKPOINTS = 0.1
        sampling.sample({SMILES!r}, {config!r}, out="run", model="model.safetensors")
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
    for name in ("run", "whole"):
        sample(SMILES, config, out=tmp_path / name, model=tmp_path / "model.safetensors")
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")


def test_flags_that_were_cut_from_outside_are_refused(run):
    result = run("mark", replace(MARK, n_rollout_steps=5))
    path = flags_path(result.path, 1)
    path.write_bytes(path.read_bytes()[:3])
    with pytest.raises(ValueError, match=r"rep_0001.flags: expected the 6 bytes that the run reco"):
        run("mark", MARK)


def test_a_lost_replica_has_flags_of_the_frames_it_has(run, model):
    molecule = from_smiles(SMILES)
    starts = np.stack([molecule.positions, molecule.positions * 1e30])
    for name, config in (("mark", MARK), ("drop", DROP)):
        result = run(name, config, start=starts)
        assert result.lost_replicas == {1: 1}
        assert not flags_path(result.path, 1).exists()
        assert result.validity["check"]["replicas"][1]["frames"] == 0
        assert result.validity["check"]["all"]["frames"] == 24
        assert result.n_frames[1] == 1


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (ROLLOUT, MARK, "check: expected 'off' as in .*run.json, got 'mark'"),
        (MARK, ROLLOUT, "check: expected 'mark' as in .*run.json, got 'off'"),
        (MARK, replace(MARK, check="drop"), "check: expected 'mark' as in .*, got 'drop'"),
        (
            DROP,
            replace(DROP, check_criteria=("bonds", "stereo")),
            "check_criteria: expected {'stereo': 4} as in .*, got {'bonds': 1, 'stereo': 4}",
        ),
    ],
)
def test_another_check_is_refused_with_both_values(run, before, after, message):
    result = run("run", replace(before, n_rollout_steps=1))
    kept = files_of(result.path)
    with pytest.raises(ValueError, match=message):
        run("run", after)
    assert files_of(result.path) == kept
    run("run", after, overwrite=True)
    assert bool(list(result.path.glob("*.flags"))) == (after.check != "off")


def test_a_run_from_before_there_was_a_check_goes_on_without_one(run):
    result = run("run", replace(ROLLOUT, n_rollout_steps=1))
    file = result.path / "run.json"
    record = json.loads(file.read_text())
    del record["settings"]["check"]
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"check: expected 'off' as in .*, got 'mark'"):
        run("run", MARK)
    assert run("run", ROLLOUT).n_frames == (13, 13, 13)


def test_the_order_of_criteria_does_not_matter(run):
    run("run", replace(MARK, check_criteria=("stereo", "bonds"), n_rollout_steps=1))
    result = run("run", replace(MARK, check_criteria=("bonds", "stereo", "bonds")))
    assert result.n_frames == (13, 13, 13)


def test_a_picture_of_what_is_left_has_true_times(run):
    result = run("drop", DROP)
    data = read_rollout(result.path)
    assert data.n_frames == 39
    for replica, times_ps in enumerate(data.times_ps):
        assert len(data.positions[replica]) == result.n_frames[replica]
        assert times_ps.tolist() == replica_times_ps(result.path, replica).tolist()


def test_relaxing_a_run_with_frames_left_out_is_refused(run):
    result = run("drop", DROP)
    with pytest.raises(ValueError, match="run: expected one with a frame for every step, got"):
        RelaxSource.read(result.path, 1)
    assert RelaxSource.read(run("mark", MARK).path, 1).n_steps == 12


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"check": "fix"}, "check: expected one of off, mark, drop, got 'fix'"),
        ({"check": "drop", "format": "dcd"}, "check: expected off or mark with the format dcd"),
        (
            {"check": "mark", "check_criteria": ("bonds", "energy")},
            "check_criteria: expected one of bonds, clashes, stereo, got 'energy'",
        ),
        ({"check": "mark", "check_criteria": ()}, "check_criteria: expected at least one"),
        ({"check_criteria": ("bonds",)}, "check_criteria: expected none while check is off, got"),
    ],
)
def test_bad_checks_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        replace(ROLLOUT, **changed)
