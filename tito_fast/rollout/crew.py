"""The processes that sample one run together: process 0 writes, the others send it their frames.

Messages are a header of four integers (what, step, first task, number of tasks) and, for frames,
their positions. They travel over gloo, also from CUDA devices: nothing here is reduced on a device,
and frames go to the host anyway. gloo notices at once that a process is gone.
"""

import atexit
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not in its __all__
from torch.distributed.distributed_c10d import Store

from tito_fast.errors import ProcessLostError
from tito_fast.processes import Children, Place
from tito_fast.rollout.advance import Advanced

Item = TypeVar("Item")

# A broken connection is an error at once; waiting for a process that works is none, however long.
_TIMEOUT: Final = timedelta(days=7)
_START_TIMEOUT_S: Final = 300.0
# How long process 0 waits to learn how a process ended whose connection broke.
_ENDING_S: Final = 3.0

_FRAMES, _DONE, _FAILED = range(3)


@dataclass
class Crew:
    """Know this process' place among those that sample together, and talk to the others.

    Parameters
    ----------
    rank, n_ranks : int
    local_rank : int
        On this machine.
    children : Children
        Those that this one started.
    """

    rank: int
    n_ranks: int
    local_rank: int
    children: Children = field(default_factory=Children)
    _owns_group: bool = False
    _has_handed_out: bool = False

    @classmethod
    def launched(cls, place: Place) -> Self:
        """Join the processes that a launcher started."""
        if not dist.is_initialized():
            # Kept until this process ends: a launcher's store cannot be joined a second time. A group whose threads
            # still run when the interpreter is gone aborts the process.
            atexit.register(_leave_group)
            if place.address:
                dist.init_process_group(
                    "gloo",
                    init_method=f"tcp://{place.address}:{place.port}",
                    rank=place.rank,
                    world_size=place.n_ranks,
                    timeout=_TIMEOUT,
                )
            else:
                dist.init_process_group("gloo", init_method="env://", timeout=_TIMEOUT)
        return cls(rank=place.rank, n_ranks=place.n_ranks, local_rank=place.local_rank)

    @classmethod
    def start(cls, n_ranks: int) -> Self:
        """Start ``n_ranks − 1`` processes on this machine, and join them as process 0.

        Raises
        ------
        ProcessLostError
            If one ends before it has joined.
        """
        _check_free()
        store = TCPStore("127.0.0.1", 0, n_ranks, is_master=True, wait_for_workers=False)

        def command(local_rank: int) -> list[str]:
            numbers = [str(number) for number in (local_rank, n_ranks, store.port)]
            return [sys.executable, "-P", "-m", "tito_fast.rollout.worker", *numbers]

        children = Children.start(command, n_ranks - 1, environment=lambda _: _threads(n_ranks))
        crew = cls(rank=0, n_ranks=n_ranks, local_rank=0, children=children, _owns_group=True)
        try:
            crew._await_children(store)
            dist.init_process_group(
                "gloo", store=store, rank=0, world_size=n_ranks, timeout=_TIMEOUT
            )
        except BaseException:
            children.end(grace_s=0)
            raise
        return crew

    @classmethod
    def join(cls, rank: int, n_ranks: int, port: int) -> Self:
        """Join the process that started this one with :meth:`start`."""
        store = TCPStore("127.0.0.1", port, n_ranks, is_master=False)
        store.set(_arrival(rank), "here")
        dist.init_process_group(
            "gloo", store=store, rank=rank, world_size=n_ranks, timeout=_TIMEOUT
        )
        return cls(rank=rank, n_ranks=n_ranks, local_rank=rank, _owns_group=True)

    def close(self, *, is_failed: bool = False) -> None:
        """Let go of the others; end those that this one started where something failed."""
        self.children.end(grace_s=0 if is_failed else _ENDING_S)
        if self._owns_group:
            _leave_group()

    def hand_out(self, items: Sequence[Item] | None) -> Item:
        """Give each process its item of those that process 0 has; return this one's."""
        mine: list[Any] = [None]
        self._has_handed_out = True
        with self._talking(0):
            dist.scatter_object_list(mine, None if items is None else list(items), src=0)
        item: Item = mine[0]
        return item

    def give_up(self, reason: str) -> None:
        """Tell the others, if they still wait to be told what to do, why that will not come."""
        if not self._has_handed_out:
            self.hand_out([reason] * self.n_ranks)

    def tell(self, item: Item | None) -> Item:
        """Return what process 0 gives all."""
        told: list[Any] = [item]
        with self._talking(0):
            dist.broadcast_object_list(told, src=0)
        same: Item = told[0]
        return same

    def send(self, advanced: Advanced) -> None:
        """Send frames to process 0; wait until it has them."""
        span = advanced.tasks
        self._send(_FRAMES, advanced.step, span.start, span.stop - span.start)
        with self._talking(0):
            dist.send(advanced.scaled_positions.contiguous(), dst=0)

    def send_done(self) -> None:
        """Tell process 0 that all is sent."""
        self._send(_DONE, 0, 0, 0)

    def send_failed(self, reason: str) -> None:
        """Tell process 0 why nothing more will come."""
        text = torch.frombuffer(bytearray(reason.encode() or b"?"), dtype=torch.uint8)
        self._send(_FAILED, 0, 0, len(text))
        with self._talking(0):
            dist.send(text, dst=0)

    def receive(self, rank: int, *, sizes: Sequence[int], dtype: torch.dtype) -> Advanced | None:
        """Wait for the next frames of process ``rank``; return them, or None if there are no more.

        Parameters
        ----------
        rank : int
        sizes : sequence of int
            Atoms of each task of that process.
        dtype : torch.dtype
            Of the positions that are sent.

        Raises
        ------
        ProcessLostError
            If that process failed or is gone.
        """
        header = torch.zeros(4, dtype=torch.int64)
        with self._talking(rank):
            dist.recv(header, src=rank)
        kind, step, start, count = header.tolist()
        if kind == _DONE:
            return None
        if kind == _FAILED:
            text = torch.zeros(count, dtype=torch.uint8)
            with self._talking(rank):
                dist.recv(text, src=rank)
            reason = bytes(text.tolist()).decode()
            raise ProcessLostError(f"devices: process {rank} of {self.n_ranks} failed: {reason}")
        span = slice(start, start + count)
        frames: Tensor = torch.empty((sum(sizes[span]), 3), dtype=dtype)
        with self._talking(rank):
            dist.recv(frames, src=rank)
        return Advanced(span, step, frames)

    def _send(self, *header: int) -> None:
        with self._talking(0):
            dist.send(torch.tensor(header, dtype=torch.int64), dst=0)

    @contextmanager
    def _talking(self, rank: int) -> Iterator[None]:
        """Turn a broken connection to process ``rank`` into a sentence that names the lost process."""
        try:
            yield
        except RuntimeError as error:
            ending = self.children.failed(wait_s=_ENDING_S if self.children.processes else 0)
            if ending is None and self.rank == 0 and rank == 0:
                ending = "one of the other processes ended"
            what = ending or f"process {rank} ended"
            raise ProcessLostError(
                f"devices: {what} before its work was done ({self.n_ranks} processes in all)"
            ) from error

    def _await_children(self, store: Store) -> None:
        """Return when every child has arrived."""
        waiting = list(range(1, self.n_ranks))
        polls = int(_START_TIMEOUT_S / 0.1)
        for _ in range(polls):
            waiting = [rank for rank in waiting if not store.check([_arrival(rank)])]
            if not waiting:
                return
            if ending := self.children.failed(wait_s=0.1):
                raise ProcessLostError(f"devices: {ending} while it started")
        raise ProcessLostError(
            f"devices: process {waiting[0]} did not start within {_START_TIMEOUT_S:g} s"
        )


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _check_free() -> None:
    if dist.is_initialized():
        raise RuntimeError(
            "devices: expected no process group in this process, got one of torch.distributed; "
            "destroy it first, or start all processes with torchrun"
        )


def _arrival(rank: int) -> str:
    return f"tito_fast/arrived/{rank}"


def _threads(n_ranks: int) -> Mapping[str, str]:
    return {"OMP_NUM_THREADS": str(max(torch.get_num_threads() // n_ranks, 1))}
