import os
import subprocess
import sys

import pytest
import torch

from tito_fast.processes import (
    Children,
    device_of_rank,
    launched_place,
    n_devices_here,
    parent_lost,
)

TORCHRUN = {
    "WORLD_SIZE": "4",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "gpu[07-08],login",
}
CPU = torch.device("cpu")


def test_one_process_has_no_place():
    assert launched_place({}) is None
    assert launched_place({"WORLD_SIZE": "1", "RANK": "0"}) is None


def test_torchrun_tells_rank_and_size():
    place = launched_place(TORCHRUN)
    assert (place.rank, place.n_ranks, place.local_rank, place.address) == (3, 4, 1, "")


def test_srun_tells_them_and_the_first_host_is_where_the_processes_meet():
    place = launched_place(SRUN)
    assert (place.rank, place.n_ranks, place.local_rank) == (2, 4, 0)
    assert place.address == "gpu07"
    assert launched_place({**SRUN, "SLURM_PROCID": "3"}).port == place.port
    assert 15000 <= place.port < 30000
    chosen = launched_place({**SRUN, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4444"})
    assert (chosen.address, chosen.port) == ("10.0.0.1", 4444)


def test_a_batch_script_is_one_process_whatever_the_job_asked_for():
    batch = {"SLURM_JOB_ID": "1234", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    assert launched_place(batch) is None


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_half_a_launch_is_refused(name):
    environment = {k: v for k, v in TORCHRUN.items() if k != name}
    with pytest.raises(ValueError, match=f"devices: expected {name} beside WORLD_SIZE = 4"):
        launched_place(environment)


def test_auto_is_one_device_on_a_cpu():
    assert n_devices_here("auto", CPU, named="cpu") == 1
    assert n_devices_here(3, CPU, named="cpu") == 3


def test_more_devices_than_there_are_or_a_named_one_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert n_devices_here("auto", torch.device("cuda"), named="cuda") == 2
    assert n_devices_here("auto", torch.device("cuda:1"), named="cuda:1") == 1
    with pytest.raises(
        ValueError, match="devices: expected at most the 2 CUDA devices here, got 3"
    ):
        n_devices_here(3, torch.device("cuda"), named="cuda")
    with pytest.raises(ValueError, match=r"device: expected .* with devices = 2, got cuda:1"):
        n_devices_here(2, torch.device("cuda:1"), named="cuda:1")


def test_each_process_has_its_device_even_where_it_sees_one_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = [device_of_rank(torch.device("cuda"), rank).index for rank in range(3)]
    assert found == [0, 1, 0]
    assert device_of_rank(CPU, 5) == CPU


def start(*programs):
    return Children.start(
        lambda rank: [sys.executable, "-c", programs[rank - 1]],
        len(programs),
        environment=lambda rank: {"TITO_FAST_TEST_RANK": str(rank)},
    )


def test_the_first_child_that_failed_is_named_with_how_it_ended():
    children = start(
        "pass", "import os; raise SystemExit(int(os.environ['TITO_FAST_TEST_RANK']) + 5)"
    )
    assert children.failed(wait_s=60) == "process 2 ended with status 7"
    children.end(grace_s=60)
    killed = start("import os; os.kill(os.getpid(), 9)")
    assert killed.failed(wait_s=60) == "process 1 was killed (SIGKILL)"
    killed.end(grace_s=0)


def test_children_that_do_not_end_are_ended():
    children = start("import time; time.sleep(600)")
    assert children.failed() is None
    children.end(grace_s=0)
    assert children.processes[0].returncode == -9


def test_a_process_that_waits_in_vain_is_ended_with_a_sentence():
    program = (
        "import threading; from tito_fast.processes import watch; "
        "watch(lambda: 'process 1 was killed (SIGKILL)', grace_s=0.1); threading.Event().wait()"
    )
    ended = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "error: devices: process 1 was killed (SIGKILL); run the same command" in ended.stderr


def test_a_parent_that_is_gone_is_noticed():
    assert parent_lost(os.getppid())() is None
    assert parent_lost(-1)() == "process 0 ended"
