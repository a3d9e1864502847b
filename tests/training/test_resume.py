"""Runs in processes of their own: killed, resumed, and several at once."""

import csv
import os
import signal
import subprocess
import sys

import pytest
import torch
import yaml

from tito_fast.training.loop import train

# Trains as each config says; after step sys.argv[2], if that is above zero, kills process sys.argv[3] the hard way.
PROGRAM = """
import os, pathlib, signal, sys
import torch
from tito_fast.training.config import read_training_config
from tito_fast.training.loop import train

def on_step(progress):
    if progress.step == int(sys.argv[2]):
        me = os.getpid()
        other = pathlib.Path(f"/proc/{me}/task/{me}/children").read_text().split()
        os.kill(int(other[0]) if sys.argv[3] == "1" else me, signal.SIGKILL)

torch.set_num_threads(1)
for path in sys.argv[1].split(","):
    train(read_training_config(path), on_step=on_step)
"""

LOSSES = ("step", "train_loss", "validation_loss", "learning_rate", "gradient_norm")


@pytest.fixture
def write_config(tmp_path, make_config):
    def write(name, **settings):
        config = make_config(out=str(tmp_path / name), **settings)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config.to_dict()))
        return path

    return write


@pytest.fixture
def run_program(tmp_path):
    """Return a function that trains in a new process and returns how that ended."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    taken = ("WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in taken}

    def run(*configs, kill_after=0, victim=0):
        return subprocess.run(  # noqa: S603  our own interpreter
            [
                *(sys.executable, str(script), ",".join(map(str, configs))),
                *(str(kill_after), str(victim)),
            ],
            env={**environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def losses(folder):
    with (folder / "log.csv").open(newline="") as file:
        return [[line[name] for name in LOSSES] for line in csv.DictReader(file)]


def weights(folder):
    state = torch.load(folder / "state.pt", weights_only=True)
    return {**state["network"], **{k: v for k, v in state["average"].items() if k != "n_updates"}}


def test_a_killed_run_resumed_equals_an_uninterrupted_one_bitwise(
    run_program, write_config, tmp_path
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    config = write_config("killed", n_steps=8)
    assert run_program(config, kill_after=5).returncode == -signal.SIGKILL
    # The kill came between two checkpoints: the log has lines that the state does not know.
    assert losses(killed)[-1][0] == "5"
    assert torch.load(killed / "state.pt", weights_only=True)["step"] == 3
    ended = run_program(config, write_config("whole", n_steps=8))
    assert ended.returncode == 0, ended.stderr
    assert losses(killed) == losses(whole)
    assert len(losses(whole)) == 8
    found, expected = weights(killed), weights(whole)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name
    for model in ("last.safetensors", "best.safetensors"):
        assert (killed / model).read_bytes() == (whole / model).read_bytes()


def test_two_processes_train_as_one_does(run_program, write_config, make_config, tmp_path):
    settings = {"n_steps": 5, "batch_size": 5, "n_validation_pairs": 7, "precision": "fp64"}
    train(make_config(out=str(tmp_path / "one"), **settings))
    ended = run_program(write_config("two", devices=2, **settings))
    assert ended.returncode == 0, ended.stderr
    assert "Starting with 2 processes" in ended.stderr
    for one, two in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        numbers = [[float(cell or "nan") for cell in line] for line in (one, two)]
        assert numbers[1] == pytest.approx(numbers[0], rel=1e-10, nan_ok=True)
    expected, found = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.slow
def test_a_run_without_a_killed_process_goes_on_to_the_same_weights(
    run_program, write_config, tmp_path
):
    config = write_config("killed", n_steps=8, devices=2)
    # Within the limit on the time of a program: both processes hold the pipes that are read to their end.
    ended = run_program(config, kill_after=5, victim=1)
    assert ended.returncode == 1
    assert (
        "ProcessLostError: devices: process 1 was killed (SIGKILL) before training was done (this is "
        "process 0 of 2); the last good state, of step 3, is kept in"
    ) in ended.stderr
    ended = run_program(config, kill_after=7, victim=0)
    assert ended.returncode == -signal.SIGKILL
    assert "devices: process 0 ended before training was done (this is process 1" in ended.stderr
    assert torch.load(tmp_path / "killed" / "state.pt", weights_only=True)["step"] == 6
    ended = run_program(config, write_config("whole", n_steps=8, devices=2))
    assert ended.returncode == 0, ended.stderr
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    found, expected = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


def test_a_failure_of_the_writer_ends_the_other_process_too(run_program, write_config, tmp_path):
    config = write_config("failed", devices=2)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "other.txt").write_text("")
    ended = run_program(config)
    assert ended.returncode != 0
    assert "out: expected an empty directory or a training run" in ended.stderr
