"""The processes of one run, one a device: how many, started by whom, and what is said when one is lost."""

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self

import torch

from tito_fast.validation import check_at_least

Devices = int | Literal["auto"]

_POLL_S: Final = 0.5
# A process that waits in vain (NCCL does not notice that a peer is gone) is ended after this long.
_GRACE_S: Final = 20.0
_EXIT_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this process is among those that a launcher started.

    Parameters
    ----------
    rank, n_ranks : int
        Among all processes.
    local_rank : int
        Among those of this machine.
    address : str
        Host of process 0; empty where the launcher says it in the environment.
    port : int
    """

    rank: int
    n_ranks: int
    local_rank: int
    address: str = ""
    port: int = 0


def launched_place(environment: Mapping[str, str] | None = None) -> Place | None:
    """Return the place that torchrun or srun gave this process; None if neither started several.

    Raises
    ------
    ValueError
        If the launcher's variables contradict each other.
    """
    env = os.environ if environment is None else environment
    if int(env.get("WORLD_SIZE", "1")) > 1:
        missing = [
            name
            for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
            if not env.get(name)
        ]
        if missing:
            raise ValueError(
                f"devices: expected {missing[0]} beside WORLD_SIZE = {env['WORLD_SIZE']} in the environment, "
                "got none; start the processes with torchrun, or unset WORLD_SIZE"
            )
        return Place(
            rank=int(env["RANK"]), n_ranks=int(env["WORLD_SIZE"]), local_rank=int(env["LOCAL_RANK"])
        )
    # Only srun sets the variables of a step: a batch script is one process, however many tasks it asked for.
    if int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return Place(
            rank=int(env["SLURM_PROCID"]),
            n_ranks=int(env["SLURM_STEP_NUM_TASKS"]),
            local_rank=int(env["SLURM_LOCALID"]),
            address=env.get("MASTER_ADDR") or _first_host(env["SLURM_STEP_NODELIST"]),
            # Steps of one job run side by side, jobs of one node too.
            port=int(env.get("MASTER_PORT") or _slurm_port(env)),
        )
    return None


def _first_host(nodes: str) -> str:
    """Return the first host of a list as SLURM writes it.

    Examples
    --------
    >>> _first_host("gpu[07-09,12],login1")
    'gpu07'
    """
    found = re.match(r"([^\[,]+)(?:\[(\w+))?", nodes)
    if found is None:
        raise ValueError(f"SLURM_STEP_NODELIST: expected names of hosts, got {nodes!r}")
    return found[1] + (found[2] or "")


def _slurm_port(env: Mapping[str, str]) -> int:
    return 15000 + (int(env["SLURM_JOB_ID"]) * 101 + int(env["SLURM_STEP_ID"])) % 15000


def check_devices(devices: Devices) -> None:
    """Raise ``ValueError`` unless ``devices`` is ``auto`` or at least 1."""
    if devices != "auto":
        check_at_least("devices", devices, 1)


def n_devices_here(devices: Devices, device: torch.device, *, named: str) -> int:
    """Return how many devices of this machine ``devices`` means: ``auto`` is every CUDA device, one on a CPU.

    Parameters
    ----------
    devices : int or "auto"
    device : torch.device
        The kind; with an index, that one.
    named : str
        How the user named it, for the message.

    Raises
    ------
    ValueError
        If there are not so many.
    """
    if devices == "auto":
        is_open = device.type == "cuda" and device.index is None
        return torch.cuda.device_count() if is_open else 1
    if devices > 1 and device.index is not None:
        raise ValueError(
            f"device: expected auto, cpu or cuda with devices = {devices}, got {named}"
        )
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(
            f"devices: expected at most the {torch.cuda.device_count()} CUDA devices here, "
            f"got {devices}"
        )
    return devices


def device_of_rank(device: torch.device, local_rank: int) -> torch.device:
    """Return the device of one process of this machine: its own CUDA device, or the CPU."""
    if device.type != "cuda":
        return device
    # A launcher may show each process one device only.
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def free_port() -> int:
    """Return a port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@dataclass
class Children:
    """Processes that this one started: numbers 1, 2 and so on of this machine."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    first_rank: int = 1

    @classmethod
    def start(
        cls,
        command: Callable[[int], Sequence[str]],
        n_processes: int,
        *,
        environment: Callable[[int], Mapping[str, str]],
        first_rank: int = 1,
    ) -> Self:
        """Start processes ``1 … n_processes`` of this machine, which end at the latest when this one has.

        Parameters
        ----------
        command : callable
            Gives the arguments of a process, the interpreter first.
        n_processes : int
        environment : callable
            Gives what a process has in its environment beside what this one has.
        first_rank : int
            Number of the first among all processes of the run.
        """
        children = cls(first_rank=first_rank)
        try:
            for local_rank in range(1, n_processes + 1):
                # The same modules, whatever the folder; torch warns of no thread count otherwise.
                own = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
                process = subprocess.Popen(  # noqa: S603  our own interpreter
                    list(command(local_rank)),
                    env={**os.environ, **own, **environment(local_rank)},
                    stdin=subprocess.DEVNULL,
                )
                children.processes.append(process)
        except BaseException:
            children.end(grace_s=0)
            raise
        atexit.register(children.end, grace_s=_EXIT_S)
        return children

    def failed(self, *, wait_s: float = 0.0) -> str | None:
        """Return a clause on the first process that ended with an error; None if none did.

        Parameters
        ----------
        wait_s : float
            How long to wait for one: a connection breaks a moment before its process is gone.
        """
        deadline = time.monotonic() + wait_s
        while True:
            for number, process in enumerate(self.processes, start=self.first_rank):
                code = process.poll()
                if code:
                    return f"process {number} {_ending(code)}"
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.02)

    def end(self, *, grace_s: float) -> None:
        """Wait ``grace_s`` seconds for all to end, then end those that have not."""
        deadline = time.monotonic() + grace_s
        for process in self.processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        atexit.unregister(self.end)


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed ({name})"


def watch(lost: Callable[[], str | None], *, grace_s: float = _GRACE_S) -> threading.Event:
    """End this process ``grace_s`` seconds after ``lost`` says that another one is gone.

    Most often the connection breaks and an error ends this process first; this is for those that
    wait where nothing breaks.

    Returns
    -------
    threading.Event
        Set it, and nothing is watched any more.
    """
    is_over = threading.Event()

    def look() -> None:
        while (what := lost()) is None:
            if is_over.wait(_POLL_S):
                return
        if is_over.wait(grace_s):
            return
        sys.stderr.write(f"error: devices: {what}; run the same command again to go on\n")
        sys.stderr.flush()
        os._exit(1)

    threading.Thread(target=look, name="process-watch", daemon=True).start()
    return is_over


def same_command() -> list[str]:
    """Return the command line of this process, to run it again.

    Raises
    ------
    ValueError
        In an interactive session, which is no command.
    """
    if hasattr(sys, "ps1") or "ipykernel" in sys.modules:
        raise ValueError(
            "devices: expected a command or a script, which is run once for each device, got an interactive session"
        )
    return [sys.executable, *sys.orig_argv[1:]]


def parent_lost(parent: int) -> Callable[[], str | None]:
    """Return a function for :func:`watch`: whether ``parent``, which started this process, is gone."""
    return lambda: None if os.getppid() == parent else "process 0 ended"
