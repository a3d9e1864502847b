"""Sampling in several processes, on the CPU: one output as from one process, and what a lost process does."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tito_fast.cli.main import run
from tito_fast.models.load import save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.processes import free_port
from tito_fast.rollout.advance import shares
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.sample import sample

NETWORK = TitoConfig(n_features=8, n_embedding_layers=2, n_model_layers=1, max_lag_ps=100.0)
# Long enough to be killed in the middle.
N_LONG = 600
LAUNCHED = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(TitoModel.create(NETWORK, ModelInfo(length_unit_nm=0.2), seed=0), path)
    return path


@pytest.fixture(autouse=True)
def one_thread_and_no_launcher(monkeypatch):
    """Share the processors with the processes that are started."""
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def arguments(tmp_path, model_file):
    """Return the arguments of ``tito-fast`` that sample a few steps."""

    def make(*inputs, steps=6, **options):
        words = {"replicas": 5, "ode-steps": 2, "lag": "50ps,10ps", "seed": 3, **options}
        words |= {"model": model_file, "n-steps": steps, "out": tmp_path / "run"}
        written = [item for name, value in words.items() for item in (f"--{name}", str(value))]
        return ["sample", *inputs, "--no-figure", *written]

    return make


@pytest.fixture
def command(arguments):
    """Run the command with this process as process 0; return its status and standard error."""

    def call(capsys, *inputs, **options):
        status = run(arguments(*inputs, **options))
        return status, capsys.readouterr().err

    return call


@pytest.fixture
def start(arguments):
    """Start the command in a process of its own."""

    def call(*inputs, before="", environment=None, **options):
        program = f"{before}import sys; from tito_fast.cli.main import main; main()"
        return subprocess.Popen(  # noqa: S603  our own interpreter
            [sys.executable, "-P", "-c", program, *arguments(*inputs, **options)],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return call


@pytest.fixture(scope="module")
def alone(tmp_path_factory, model_file):
    """Return the folder that one process writes, sampled once for all tests."""

    @cache
    def call(*inputs, **changed):
        out = tmp_path_factory.mktemp("alone") / "run"
        given = inputs[0] if len(inputs) == 1 else list(inputs)
        sample(given, config(**changed), out=out, model=model_file)
        return out

    return call


def config(**changed):
    values = {"n_rollout_steps": 6, "n_replicas": 5, "n_ode_steps": 2, "seed": 3, **changed}
    return RolloutConfig(lag_times_ps=(50.0, 10.0), **values)


def content(path):
    """Return what two runs must share: trajectories, topology, validity, states, settings."""
    files = {
        file.name: file.read_bytes()
        for file in sorted(path.iterdir())
        if file.suffix in (".xtc", ".pdb", ".npz", ".flags") or file.name == "validity.json"
    }
    record = json.loads((path / "run.json").read_text())
    settings = {k: v for k, v in record["settings"].items() if k not in ("devices", "n_threads")}
    return {**files, "settings": settings, "status": record["status"], "times": record["times_ps"]}


def children_of(pid):
    """Return the processes that ``pid`` started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("inputs", [("CCO",), ("CCO", "CCCCCC")], ids=["one", "two sizes"])
def test_two_processes_write_what_one_writes_bitwise(tmp_path, capsys, command, alone, inputs):
    status, err = command(capsys, *inputs, devices=2)
    assert status == 0, err
    names = ["."] if len(inputs) == 1 else list(inputs)
    for name in names:
        found, expected = content(tmp_path / "run" / name), content(alone(*inputs) / name)
        assert found.keys() == expected.keys()
        assert "rep_0004.xtc" in found
        for key, value in expected.items():
            assert found[key] == value, key
    assert (
        json.loads((tmp_path / "run" / names[0] / "run.json").read_text())["status"] == "finished"
    )


@pytest.mark.parametrize("check", ["mark", "drop"])
def test_two_processes_check_frames_as_one_does(tmp_path, capsys, command, alone, check):
    alanine = "C[C@H](N)C(=O)O"
    options = {"check": check, "check-criteria": "stereo"}
    status, err = command(capsys, alanine, devices=2, **options)
    assert status == 0, err
    found = content(tmp_path / "run")
    assert found == content(alone(alanine, check=check, check_criteria=("stereo",)))
    flags = np.frombuffer(b"".join(found[f"rep_{replica:04d}.flags"] for replica in range(5)), "u1")
    assert set(flags.tolist()) == {0, 4}


def test_another_number_of_processes_extends_a_run(tmp_path, capsys, command, model_file, alone):
    first = config(n_rollout_steps=3, n_replicas=2)
    sample("CCO", first, out=tmp_path / "run", model=model_file)
    status, err = command(capsys, "CCO", devices=3)
    assert status == 0, err
    found, expected = content(tmp_path / "run"), content(alone("CCO"))
    assert {k: v for k, v in found.items() if k.startswith("rep_")} == (
        {k: v for k, v in expected.items() if k.startswith("rep_")}
    )
    assert found["validity.json"] == expected["validity.json"]


def test_processes_that_a_launcher_started_share_one_run(tmp_path, start, alone):
    port = str(free_port())
    processes = [
        start(
            "CCO",
            environment=dict(
                zip(LAUNCHED, ("2", str(rank), str(rank), "127.0.0.1", port), strict=True)
            ),
        )
        for rank in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert content(tmp_path / "run") == content(alone("CCO"))
    # One process reports.
    assert [bool(out) for out, _ in ended] == [True, False]


@pytest.mark.parametrize("victim", ["worker", "writer"])
def test_a_killed_process_ends_the_run_which_goes_on_to_the_same_bytes(
    tmp_path, capsys, start, command, alone, victim
):
    options = {"steps": N_LONG, "replicas": 2, "devices": 2}
    often = "import tito_fast.rollout.recorder as r; r.SECONDS_BETWEEN_CHECKPOINTS = 0.05; "
    process = start("CCO", before=often, **options)
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
    assert 0 < np.load(state)["n_steps_done"].min() < N_LONG
    status, err = command(capsys, "CCO", **options)
    assert status == 0, err
    whole = alone("CCO", n_rollout_steps=N_LONG, n_replicas=2)
    assert content(tmp_path / "run") == content(whole)


def test_an_error_in_another_process_is_told_with_its_reason(
    tmp_path, monkeypatch, capsys, command
):
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
    monkeypatch.syspath_prepend(tmp_path)
    status, err = command(capsys, "CCO", devices=2)
    assert status == 1
    assert "devices: process 1 of 2 failed: MemoryError: no room; what was sampled" in err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"devices": 0}, "devices: expected at least 1, got 0"),
        ({"devices": "many"}, "devices: expected auto or a number of devices, got 'many'"),
    ],
)
def test_bad_numbers_of_devices_are_refused(capsys, command, changed, message):
    status, err = command(capsys, "CCO", **changed)
    assert status == 1
    assert message in err


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
