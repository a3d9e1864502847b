"""The processes of a run: one without any help, several through lightning-fabric."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tito_fast.devices import resolve_device
from tito_fast.training.config import TrainingConfig


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
    """

    rank: int
    n_ranks: int
    device: torch.device
    fabric: Any = None

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes, the same on each."""
        if self.fabric is None:
            return values
        summed: Tensor = self.fabric.all_reduce(values, reduce_op="sum")
        return summed

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.fabric is not None:
            self.fabric.barrier()

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
    n_devices = _n_devices(config, device)
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
    fabric = Fabric(
        accelerator=device.type, devices=n_devices, num_nodes=config.n_nodes, strategy="ddp"
    )
    fabric.launch()
    return Workers(
        rank=fabric.global_rank, n_ranks=fabric.world_size, device=fabric.device, fabric=fabric
    )


def _n_devices(config: TrainingConfig, device: torch.device) -> int:
    if config.devices == "auto":
        is_open = device.type == "cuda" and device.index is None
        return torch.cuda.device_count() if is_open else 1
    if config.devices > 1 and device.index is not None:
        raise ValueError(
            f"device: expected auto, cpu or cuda with devices = {config.devices}, "
            f"got {config.device}"
        )
    if device.type == "cuda" and config.devices > torch.cuda.device_count():
        raise ValueError(
            f"devices: expected at most the {torch.cuda.device_count()} CUDA devices here, "
            f"got {config.devices}"
        )
    return config.devices
