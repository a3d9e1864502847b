"""A thread that takes one process' frames to the recorder."""

import threading
from collections.abc import Sequence

import torch

from tito_fast.rollout.advance import Task
from tito_fast.rollout.crew import Crew
from tito_fast.rollout.recorder import Recorder


class Receiver:
    """Receives from process ``rank`` until that has no more; the first error is kept.

    Parameters
    ----------
    crew : Crew
    rank : int
    tasks : sequence of Task
        Those of that process.
    recorder : Recorder
    dtype : torch.dtype
        Of the positions that come.
    """

    def __init__(
        self,
        crew: Crew,
        rank: int,
        *,
        tasks: Sequence[Task],
        recorder: Recorder,
        dtype: torch.dtype,
    ) -> None:
        self._crew, self._rank, self._tasks, self._dtype = crew, rank, tasks, dtype
        self._recorder = recorder
        self._error: BaseException | None = None
        # A daemon: a process that ends of an error does not wait for what others might send.
        self._thread = threading.Thread(target=self._run, name=f"receiver-{rank}", daemon=True)
        self._thread.start()

    def is_done(self, *, wait_s: float = 0.0) -> bool:
        """Return whether all has come, after at most ``wait_s`` seconds.

        Raises
        ------
        ProcessLostError
            If the process failed or is gone.
        Exception
            What recording its frames raised.
        """
        self._thread.join(wait_s)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def _run(self) -> None:
        sizes = [task.row.molecule.n_atoms for task in self._tasks]
        try:
            while True:
                advanced = self._crew.receive(self._rank, sizes=sizes, dtype=self._dtype)
                if advanced is None:
                    return
                self._recorder.put(self._tasks, advanced)
        except BaseException as error:  # noqa: BLE001  raised again where it is asked for
            self._error = error
