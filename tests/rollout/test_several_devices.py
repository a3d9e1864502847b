"""Sampling in several processes, on the CPU: one output as from one process, and what a lost process does."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tito_fast.models.load import save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.processes import free_port
from tito_fast.rollout.advance import shares
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.sample import sample

NETWORK = TitoConfig(n_features=8, n_embedding_layers=2, n_model_layers=1, max_lag_ps=100.0)
LAUNCHED = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(TitoModel.create(NETWORK, ModelInfo(length_unit_nm=0.2), seed=0), path)
    return path


@pytest.fixture
def command(tmp_path, model_file):
    """Return the command line and environment of ``tito-fast sample`` with a few steps."""

    def make(*inputs, out="run", steps=6, **options):
        words = {"replicas": 5, "ode-steps": 2, "lag": "50ps,10ps", "seed": 3, **options}
        words |= {"model": model_file, "n-steps": steps, "out": tmp_path / out}
        written = [item for name, value in words.items() for item in (f"--{name}", str(value))]
        program = "import sys; from tito_fast.cli.main import main; main()"
        arguments = [sys.executable, "-P", "-c", program, "sample", *inputs, "--no-figure"]
        environment = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
        return [*arguments, *written], {**environment, "OMP_NUM_THREADS": "1"}

    return make


def config(**changed):
    values = {"n_rollout_steps": 6, "n_replicas": 5, "n_ode_steps": 2, "seed": 3, **changed}
    return RolloutConfig(lag_times_ps=(50.0, 10.0), **values)


def run(arguments, environment, **more):
    return subprocess.run(  # noqa: S603  our own interpreter
        arguments,
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def content(path):
    """Return what two runs must share: trajectories, topology, validity, states, settings."""
    files = {
        file.name: file.read_bytes()
        for file in sorted(path.iterdir())
        if file.suffix in (".xtc", ".pdb", ".npz") or file.name == "validity.json"
    }
    record = json.loads((path / "run.json").read_text())
    settings = {k: v for k, v in record["settings"].items() if k not in ("devices", "n_threads")}
    return {**files, "settings": settings, "status": record["status"], "times": record["times_ps"]}


def children_of(pid):
    """Return the processes that ``pid`` started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("inputs", [("CCO",), ("CCO", "CCCCCC")], ids=["one", "two sizes"])
def test_two_processes_write_what_one_writes_bitwise(tmp_path, command, model_file, inputs):
    ended = run(*command(*inputs, devices=2))
    assert ended.returncode == 0, ended.stderr
    sample(list(inputs), config(), out=tmp_path / "one", model=model_file)
    names = ["."] if len(inputs) == 1 else list(inputs)
    for name in names:
        found, expected = content(tmp_path / "run" / name), content(tmp_path / "one" / name)
        assert found.keys() == expected.keys()
        assert "rep_0004.xtc" in found
        for key, value in expected.items():
            assert found[key] == value, key
    assert (
        json.loads((tmp_path / "run" / names[0] / "run.json").read_text())["status"] == "finished"
    )


def test_another_number_of_processes_extends_a_run(tmp_path, command, model_file):
    first = config(n_rollout_steps=3, n_replicas=2)
    sample("CCO", first, out=tmp_path / "run", model=model_file)
    ended = run(*command("CCO", devices=3))
    assert ended.returncode == 0, ended.stderr
    sample("CCO", config(), out=tmp_path / "one", model=model_file)
    found, expected = content(tmp_path / "run"), content(tmp_path / "one")
    assert {k: v for k, v in found.items() if k.startswith("rep_")} == (
        {k: v for k, v in expected.items() if k.startswith("rep_")}
    )
    assert found["validity.json"] == expected["validity.json"]


def test_processes_that_a_launcher_started_share_one_run(tmp_path, command, model_file):
    arguments, environment = command("CCO")
    port = str(free_port())
    processes = [
        subprocess.Popen(  # noqa: S603  our own interpreter
            arguments,
            env={
                **environment,
                "WORLD_SIZE": "2",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    sample("CCO", config(), out=tmp_path / "one", model=model_file)
    assert content(tmp_path / "run") == content(tmp_path / "one")
    # One process reports.
    assert [bool(out) for out, _ in ended] == [True, False]


@pytest.mark.parametrize("victim", ["worker", "writer"])
def test_a_killed_process_ends_the_run_which_goes_on_to_the_same_bytes(
    tmp_path, command, model_file, victim
):
    steps = 600
    arguments, environment = command("CCO", steps=steps, replicas=2, devices=2)
    program = (
        "import tito_fast.rollout.recorder as r; r.SECONDS_BETWEEN_CHECKPOINTS = 0.05; "
        + arguments[3]
    )
    process = subprocess.Popen(  # noqa: S603  our own interpreter
        [*arguments[:3], program, *arguments[4:]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    state = tmp_path / "run" / "state.npz"
    deadline = time.monotonic() + 60
    while not state.exists() or np.load(state)["n_steps_done"].min() == 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no state was written"
        time.sleep(0.01)
    (worker,) = children_of(process.pid)
    os.kill(worker if victim == "worker" else process.pid, signal.SIGKILL)
    # The other one ends by itself within this time: both hold the pipes that are read to their end.
    _, err = process.communicate(timeout=30)
    if victim == "worker":
        assert process.returncode == 1
        assert "error: devices: process 1 was killed (SIGKILL) before its work was done" in err
        assert "what was sampled is kept in" in err
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    else:
        assert "process 1: devices: process 0 ended before its work was done" in err
    assert 0 < np.load(state)["n_steps_done"].min() < steps
    assert run(*command("CCO", steps=steps, replicas=2, devices=2)).returncode == 0
    whole = config(n_rollout_steps=steps, n_replicas=2)
    sample("CCO", whole, out=tmp_path / "one", model=model_file)
    assert content(tmp_path / "run") == content(tmp_path / "one")


def test_an_error_in_another_process_is_told_with_its_reason(tmp_path, command):
    arguments, environment = command("CCO", devices=2)
    # Runs first in every process; the ones that are started have -m in their command.
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(
            """
            import sys
            if "-m" in sys.orig_argv:
                import tito_fast.rollout.advance
                def advance(*_):
                    raise MemoryError("no room")
                    yield
                tito_fast.rollout.advance.advance = advance
            """
        )
    )
    ended = run(arguments, environment, PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1
    assert "devices: process 1 of 2 failed: MemoryError: no room; what was sampled" in ended.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"devices": 0}, "devices: expected at least 1, got 0"),
        ({"devices": "many"}, "devices: expected auto or a number of devices, got 'many'"),
    ],
)
def test_bad_numbers_of_devices_are_refused(command, changed, message):
    ended = run(*command("CCO", **changed))
    assert ended.returncode == 1
    assert message in ended.stderr


def test_a_launch_of_another_size_is_refused(tmp_path, monkeypatch, model_file):
    for name, value in zip(LAUNCHED, ("4", "0", "0", "127.0.0.1", "1"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="devices: expected 4, the number of processes launched"):
        sample("CCO", config(devices=2), out=tmp_path / "run", model=model_file)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("n_shares", [1, 2, 3, 7])
def test_shares_are_neighbors_and_the_largest_is_as_small_as_can_be(n_shares):
    rng = np.random.default_rng(n_shares)
    for n_costs in (0, 1, 2, 6, 9):
        costs = rng.integers(1, 50, n_costs).tolist()
        found = shares(costs, n_shares)
        assert len(found) == n_shares
        assert [index for share in found for index in range(n_costs)[share]] == list(range(n_costs))
        assert max(sum(costs[share]) for share in found) == least_maximum(costs, n_shares)


def least_maximum(costs, n_shares):
    """Return the cost of the most expensive share of the best partition, by trying all."""
    if n_shares == 1 or not costs:
        return sum(costs)
    cuts = range(len(costs) + 1)
    return min(max(sum(costs[:cut]), least_maximum(costs[cut:], n_shares - 1)) for cut in cuts)


def test_edges_not_molecules_are_shared_evenly():
    sizes = [10] * 8 + [20] * 2
    costs = [n * (n - 1) for n in sizes]
    found = [sum(costs[share]) for share in shares(costs, 2)]
    assert found == [720, 760]
    assert all(start <= stop for start, stop in pairwise(share.stop for share in shares(costs, 5)))
