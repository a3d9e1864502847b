"""A process that samples for another one: ``python -m tito_fast.rollout.worker RANK N_RANKS PORT``.

Process 0 starts it, and gives it everything: the model, the molecules, where their replicas are.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tito_fast.data.writers import FrameSink
from tito_fast.devices import resolve_device
from tito_fast.errors import ProcessLostError
from tito_fast.models.tito.model import TitoModel
from tito_fast.processes import device_of_rank, parent_lost, watch
from tito_fast.rollout.advance import Advanced, Task, advance
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.crew import Crew


@dataclass(frozen=True, eq=False)
class Job:
    """What one process has to do.

    Parameters
    ----------
    model : TitoModel
        On the CPU, in the dtype that it is to run in.
    tasks : sequence of Task
    config : RolloutConfig
    """

    model: TitoModel
    tasks: Sequence[Task]
    config: RolloutConfig


def work(crew: Crew) -> Any:  # noqa: ANN401  whatever process 0 returns
    """Do what process 0 hands out; return what it returns.

    Raises
    ------
    ProcessLostError
        If process 0 is gone, or gave up before it handed anything out.
    """
    job: Job | str = crew.hand_out(None)
    if isinstance(job, str):
        raise ProcessLostError(f"devices: process 0 gave up: {job}")
    try:
        with threads(job.config.n_threads):
            device = device_of_rank(resolve_device(job.config.device), crew.local_rank)
            model = job.model.to(device=device)
            sink: FrameSink[Advanced]
            # Frames of one step travel while the next one is computed.
            with FrameSink(crew.send) as sink:
                for advanced in advance(model, job.tasks, job.config):
                    sink.put(advanced)
        crew.send_done()
    except ProcessLostError:
        raise
    except Exception as error:
        crew.send_failed(f"{type(error).__name__}: {error}")
        raise
    return crew.tell(None)


@contextmanager
def threads(n_threads: int | None) -> Iterator[None]:
    """Run the block with ``n_threads`` CPU threads, and put back what was before."""
    before = torch.get_num_threads()
    try:
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        yield
    finally:
        torch.set_num_threads(before)


def main(arguments: Sequence[str]) -> int:
    """Join the process that started this one and work for it; return the exit status."""
    rank, n_ranks, port = (int(argument) for argument in arguments)
    # Ctrl-C on a terminal reaches all its processes: the first one decides, and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch(parent_lost(os.getppid()))
    try:
        crew = Crew.join(rank, n_ranks, port)
        work(crew)
        crew.close()
    except ProcessLostError as error:
        sys.stderr.write(f"error: process {rank}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
