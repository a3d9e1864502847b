"""The processes of a run: one without any help, several through lightning-fabric."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from tito_fast.devices import resolve_device
from tito_fast.errors import ProcessLostError
from tito_fast.processes import (
    Children,
    free_port,
    launched_place,
    n_devices_here,
    parent_lost,
    same_command,
    watch,
)
from tito_fast.training.config import TrainingConfig

# Who started this process, for one that a run started itself.
_PARENT: Final = "TITO_FAST_PARENT_PID"
# How long to wait to learn how a process ended whose connection broke.
_ENDING_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Workers:
    """A process among all that train one model, each on its own device.

    Parameters
    ----------
    rank, n_ranks : int
    device : torch.device
        Of this process.
    fabric : lightning_fabric.Fabric or None
        What joins the processes; None where there is one.
    lost : callable
        Returns a clause on a process that is gone, as far as this one can know; None if none is.
    """

    rank: int
    n_ranks: int
    device: torch.device
    fabric: Any = None
    lost: Callable[[], str | None] = lambda: None
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes, the same on each."""
        if self.fabric is None:
            return values
        with self._together():
            summed: Tensor = self.fabric.all_reduce(values, reduce_op="sum")
        return summed

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.fabric is not None:
            with self._together():
                self.fabric.barrier()

    def close(self) -> None:
        """Let this process outlive the others."""
        self.is_over.set()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Turn a broken connection into a sentence that names the lost process."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # The connection breaks a moment before the process is seen to be gone.
            deadline = time.monotonic() + _ENDING_S
            while (what := self.lost()) is None and time.monotonic() < deadline:
                time.sleep(0.02)
            raise ProcessLostError(
                f"devices: {what or 'another process ended'} before training was done (this is "
                f"process {self.rank} of {self.n_ranks})"
            ) from error

    @torch.no_grad()
    def sum_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its sum over all processes.

        Notes
        -----
        One reduction of all gradients end to end. Parameters that no process has a gradient for keep
        None, so that the optimizer passes over them as it does with one process.
        """
        if self.fabric is None:
            return
        parameters = [p for p in network.parameters() if p.requires_grad]
        has_gradient = [float(p.grad is not None) for p in parameters]
        pieces = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
        flat = self.sum(torch.cat([*pieces, pieces[0].new_tensor(has_gradient)]))
        sizes = [p.numel() for p in parameters]
        *summed, counts = torch.split(flat, [*sizes, len(parameters)])
        for parameter, gradient, count in zip(parameters, summed, counts.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter) if count else None


def start_workers(config: TrainingConfig) -> Workers:
    """Start the processes that ``config`` asks for, and return this one.

    Raises
    ------
    ValueError
        If the device is not here, ``batch_size`` gives a process no pair, or this process was
        launched as one of several and ``config`` asks for one.
    ImportError
        If several are asked for and lightning-fabric is not installed.

    Notes
    -----
    With several processes on a machine, and unless a launcher (torchrun, SLURM) made them already,
    the command of this process is run again for each other one.
    """
    device = resolve_device(config.device)
    n_devices = n_devices_here(config.devices, device, named=config.device)
    n_ranks = n_devices * config.n_nodes
    if config.batch_size < n_ranks:
        raise ValueError(
            f"batch_size: expected at least one pair for each of {n_ranks} devices, "
            f"got {config.batch_size}"
        )
    if n_ranks == 1:
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if launched > 1:
            raise ValueError(
                f"devices: expected devices x n_nodes = {launched}, the number of processes launched "
                "(WORLD_SIZE), got 1"
            )
        return Workers(rank=0, n_ranks=1, device=device)
    try:
        from lightning_fabric import Fabric  # noqa: PLC0415  optional
    except ImportError as error:
        raise ImportError(
            f"devices: {n_ranks} devices need lightning-fabric, which is not installed; "
            "install tito_fast[train]"
        ) from error
    children = _start_others(n_devices, config.n_nodes)
    parent = os.environ.get(_PARENT)
    lost = children.failed if parent is None else parent_lost(int(parent))
    is_over = watch(lost)
    fabric = Fabric(
        accelerator=device.type, devices=n_devices, num_nodes=config.n_nodes, strategy="ddp"
    )
    fabric.launch()
    return Workers(
        rank=fabric.global_rank,
        n_ranks=fabric.world_size,
        device=fabric.device,
        fabric=fabric,
        lost=lost,
        is_over=is_over,
    )


def _start_others(n_devices: int, n_nodes: int) -> Children:
    """Start the other processes of this machine, unless a launcher did; tell Fabric where all meet."""
    env = os.environ
    is_srun = launched_place({k: v for k, v in env.items() if k != "WORLD_SIZE"}) is not None
    if is_srun or "LOCAL_RANK" in env:
        return Children()
    first_rank = int(env.get("NODE_RANK", "0")) * n_devices
    env.setdefault("NODE_RANK", "0")
    env.setdefault("MASTER_ADDR", "127.0.0.1")
    env.setdefault("MASTER_PORT", str(free_port()))
    env["WORLD_SIZE"] = str(n_devices * n_nodes)
    command = same_command()
    children = Children.start(
        lambda _: command,
        n_devices - 1,
        environment=lambda local_rank: {
            "LOCAL_RANK": str(local_rank),
            "RANK": str(first_rank + local_rank),
            _PARENT: str(os.getpid()),
        },
        first_rank=first_rank + 1,
    )
    # What Fabric takes as a sign that it need not start them.
    env["LOCAL_RANK"], env["RANK"] = "0", str(first_rank)
    return children
