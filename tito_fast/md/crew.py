"""Processes that work off jobs: each with one thread, started once, ended at the latest with this one."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from tito_fast.errors import ProcessLostError

Tell = Callable[[Any], None]
"""What a job calls to say how far it is; it raises ``KeyboardInterrupt`` when nobody listens any more."""

# Long enough for a job to record where it is.
_EXIT_S: Final = 20.0


@dataclass(frozen=True)
class Job:
    """A call ``function(payload, tell)`` of a module's function; both are sent to another process."""

    module: str
    function: str
    payload: Any

    def run(self, tell: Tell) -> Any:  # noqa: ANN401  what the function returns
        """Make the call here."""
        return getattr(import_module(self.module), self.function)(self.payload, tell)


def work_off(
    jobs: Sequence[Job], *, n_processes: int, on_message: Tell
) -> Iterator[tuple[int, Any]]:
    """Yield index and result of every job, in the order in which they end.

    Parameters
    ----------
    jobs : sequence of Job
    n_processes : int
        With 1, all run in this process, one after another.
    on_message : callable
        Called with whatever a job tells.

    Raises
    ------
    ProcessLostError
        If a process is killed.
    Exception
        What a job raises; the others are told to stop.
    """
    n_started = min(n_processes, len(jobs))
    if n_started < 2:
        for index, job in enumerate(jobs):
            yield index, job.run(on_message)
        return
    workers: list[_Worker] = []
    try:
        workers.extend(_Worker() for _ in range(n_started))
        yield from _share(jobs, workers, on_message)
    finally:
        for worker in workers:
            worker.connection.close()
        for worker in workers:
            worker.end()


def _share(
    jobs: Sequence[Job], workers: Sequence["_Worker"], on_message: Tell
) -> Iterator[tuple[int, Any]]:
    waiting = list(enumerate(jobs))[::-1]
    busy: dict[Connection[Any, Any], tuple[_Worker, int]] = {}

    def give(worker: "_Worker") -> None:
        if waiting:
            index, job = waiting.pop()
            worker.send(job)
            busy[worker.connection] = (worker, index)

    for worker in workers:
        give(worker)
    while busy:
        for connection in wait(list(busy)):
            worker, index = busy[connection]  # type: ignore[index]
            kind, content = worker.receive()
            if kind == "told":
                on_message(content)
                continue
            del busy[connection]  # type: ignore[arg-type]
            if kind == "raised":
                raise content
            give(worker)
            yield index, content


class _Worker:
    """A process that runs :func:`_serve`."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        # The same modules, whatever the folder; one thread, as more only wait for each other.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OPENMM_CPU_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        try:
            self.process = subprocess.Popen(  # noqa: S603  our own interpreter
                [sys.executable, "-P", "-m", "tito_fast.md.crew", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        finally:
            theirs.close()

    def send(self, job: Job) -> None:
        try:
            self.connection.send(job)
        except OSError as error:
            raise self._lost() from error

    def receive(self) -> tuple[str, Any]:
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        return str(kind), content

    def end(self) -> None:
        try:
            self.process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _lost(self) -> ProcessLostError:
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return ProcessLostError(f"jobs: a process {how}; run the same command again to go on")


def _serve(descriptor: int) -> None:
    """Run jobs from the connection until it is closed."""
    connection: Connection[Any, Any] = Connection(descriptor)

    def tell(message: Any) -> None:  # noqa: ANN401  whatever a job says
        try:
            connection.send(("told", message))
        except OSError:
            raise KeyboardInterrupt from None

    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer = ("done", job.run(tell))
        except KeyboardInterrupt:
            return
        except Exception as error:  # noqa: BLE001  whatever it is, the process that asked is told
            answer = ("raised", error)
        try:
            connection.send(answer)
        except OSError:
            return


if __name__ == "__main__":
    # As the module that jobs were pickled from, not as __main__.
    import_module("tito_fast.md.crew")._serve(int(sys.argv[1]))
