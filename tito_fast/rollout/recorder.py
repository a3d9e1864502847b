"""Takes the frames of all molecules from wherever they come, and writes them on a second thread."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from tito_fast.data.molecule import FloatArray
from tito_fast.data.writers import FrameSink
from tito_fast.rollout.advance import Advanced, Task
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.molecule_run import MoleculeRun, StepFrames

# A kill loses at most this much work; writing the state costs milliseconds.
SECONDS_BETWEEN_CHECKPOINTS = 10.0


@dataclass(frozen=True, kw_only=True)
class RolloutProgress:
    """What a progress display is told after a rollout step of a chunk."""

    n_done: int  # transitions, this call
    n_total: int
    transitions_per_s: float
    simulated_ps: float  # summed over replicas, this call
    n_lost: int  # replicas that became NaN or infinite


@dataclass(frozen=True)
class _Item:
    """Frames of one step, by molecule; whether their chunk is at its end."""

    frames: list[tuple[MoleculeRun, StepFrames]]
    is_last: bool


class Recorder:
    """The one place that changes the runs while they are sampled. Use it as a context manager.

    Parameters
    ----------
    runs : sequence of MoleculeRun
    config : RolloutConfig
    n_total : int
        Transitions to come.
    on_progress : callable, optional
        Called by :meth:`tell`.
    """

    def __init__(
        self,
        runs: Sequence[MoleculeRun],
        config: RolloutConfig,
        *,
        n_total: int,
        on_progress: Callable[[RolloutProgress], None] | None,
    ) -> None:
        self._runs, self._config, self._n_total = runs, config, n_total
        self._on_progress = on_progress
        self._n_done = self._n_told = 0
        self._simulated_ps = 0.0
        self._lock = threading.Lock()
        self._is_open = True
        self._unsaved: dict[int, MoleculeRun] = {}
        self._started = self._last_checkpoint = time.monotonic()
        self._sink: FrameSink[_Item] = FrameSink(self._consume)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        try:
            self._sink.close()
        except Exception as own:
            # A step that was half written is in no state; the one recorded last stands.
            if error is None:
                raise
            if own is not error:
                error.add_note(f"and while writing: {own}")
            return
        # Also after Ctrl-C: what was sampled is kept.
        self._save(list(self._unsaved.values()))

    def put(self, tasks: Sequence[Task], advanced: Advanced) -> None:
        """Queue the frames of one step; from any thread.

        Raises
        ------
        RuntimeError
            If this recorder is closed.
        Exception
            What writing earlier frames raised.
        """
        if not self._is_open:
            raise RuntimeError("recorder: expected an open one, got a closed one")
        together = tasks[advanced.tasks]
        host = advanced.scaled_positions.double().numpy()
        frames = self._by_molecule(together, advanced.step, host)
        self._sink.put(_Item(frames, advanced.step == self._config.n_rollout_steps))
        with self._lock:
            self._n_done += len(together)
            self._simulated_ps += len(together) * self._config.lag_time_ps(advanced.step - 1)

    def tell(self) -> None:
        """Tell the display, if there is news."""
        if self._on_progress is None or self._n_done == self._n_told:
            return
        with self._lock:
            self._n_told = self._n_done
            progress = RolloutProgress(
                n_done=self._n_done,
                n_total=self._n_total,
                transitions_per_s=self._n_done / self._elapsed_s(),
                simulated_ps=self._simulated_ps,
                n_lost=sum(len(run.lost) for run in self._runs),
            )
        self._on_progress(progress)

    def _by_molecule(
        self, tasks: Sequence[Task], step: int, positions: FloatArray
    ) -> list[tuple[MoleculeRun, StepFrames]]:
        """Cut ``positions`` (n_atoms, 3) of ``tasks``, which are sorted by molecule."""
        found = []
        start = 0
        for molecule_idx in dict.fromkeys(task.row.molecule_idx for task in tasks):
            mine = [task.row for task in tasks if task.row.molecule_idx == molecule_idx]
            end = start + sum(row.molecule.n_atoms for row in mine)
            replicas = np.array([row.replica for row in mine], dtype=np.int64)
            frames = StepFrames(step, replicas, positions[start:end])
            found.append((self._runs[molecule_idx], frames))
            start = end
        return found

    def _consume(self, item: _Item) -> None:
        for run, frames in item.frames:
            run.add(frames)
            self._unsaved[id(run)] = run
        if item.is_last:
            self._save([run for run, _ in item.frames])
        elif time.monotonic() - self._last_checkpoint >= SECONDS_BETWEEN_CHECKPOINTS:
            self._checkpoint(list(self._unsaved.values()), sync=False)

    def _save(self, runs: Sequence[MoleculeRun]) -> None:
        """Checkpoint runs such that their files can be closed; frames that come later open them again."""
        self._checkpoint(runs, sync=True)
        for run in runs:
            run.close_files()
            del self._unsaved[id(run)]

    def _checkpoint(self, runs: Sequence[MoleculeRun], *, sync: bool) -> None:
        for run in runs:
            run.checkpoint(sync=sync)
            run.log(
                {
                    "elapsed_s": round(self._elapsed_s(), 1),
                    "transitions_this_call": self._n_done,
                    "transitions_per_s": round(self._n_done / self._elapsed_s(), 2),
                    "steps_of_all_replicas": int(run.n_steps_done.sum()),
                    "lost_replicas": len(run.lost),
                }
            )
        self._last_checkpoint = time.monotonic()

    def _elapsed_s(self) -> float:
        """Return the time since the start, above zero."""
        return max(time.monotonic() - self._started, 1e-9)
