"""How far a call is: for the display, and for the logs of its runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tito_fast.md.config import SimulationConfig
from tito_fast.md.contexts import ns_per_day
from tito_fast.md.crew import Job
from tito_fast.md.molecule_simulation import MoleculeSimulation
from tito_fast.md.replica import ReplicaProgress

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS_BETWEEN_LOGS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class SimulationProgress:
    """What a progress display is told, about all molecules and replicas of a call."""

    simulated_ps: float  # written, this call
    total_ps: float  # to write, this call
    ns_per_day: float  # of all replicas together, equilibration included
    temperature_k: float | None  # mean over replicas and frames
    n_lost: int


class Board:
    """Sums up what the replicas say, for the display and for ``log.csv``."""

    def __init__(
        self,
        runs: Sequence[MoleculeSimulation],
        jobs: Sequence[tuple[MoleculeSimulation, Job]],
        config: SimulationConfig,
        on_progress: Callable[[SimulationProgress], None] | None,
    ) -> None:
        self._runs, self._config, self._on_progress = runs, config, on_progress
        self._before = {
            (run.path, job.payload.replica): self._n_recorded(run, job.payload.replica)
            for run, job in jobs
        }
        self._latest: dict[tuple[Path, int], ReplicaProgress] = {}
        self._n_steps = dict.fromkeys((run.path for run in runs), 0)
        self._started = self._last_log = time.monotonic()

    def hear(self, message: ReplicaProgress) -> None:
        """Take in what a replica says."""
        self._latest[message.path, message.replica] = message
        self._n_steps[message.path] += message.n_new_steps
        if self._on_progress is not None:
            self._on_progress(self._progress())
        if time.monotonic() - self._last_log >= _SECONDS_BETWEEN_LOGS:
            self.log()

    def log(self) -> None:
        """Add a line to the log of each run that was worked on."""
        self._last_log = time.monotonic()
        elapsed_s = self._last_log - self._started
        for run in self._runs:
            latest = [m for (path, _), m in self._latest.items() if path == run.path]
            if not latest:
                continue
            frames = {r: s.n_measured - 1 for r, s in run.states.items()}
            frames |= {message.replica: message.n_frames for message in latest}
            temperatures = [m.temperature_k for m in latest if m.temperature_k is not None]
            n_frames = sum(frames.values())
            run.directory.append_log(
                {
                    "elapsed_s": round(elapsed_s, 1),
                    "frames_of_all_replicas": n_frames,
                    "simulated_ns": round(1e-3 * n_frames * self._config.save_every_ps, 6),
                    "ns_per_day": round(self._speed(self._n_steps[run.path], elapsed_s), 1),
                    "mean_temperature_k": round(float(np.mean(temperatures)), 2)
                    if temperatures
                    else "",
                }
            )

    def _progress(self) -> SimulationProgress:
        latest = self._latest.values()
        temperatures = [m.temperature_k for m in latest if m.temperature_k is not None]
        done = sum(
            message.n_frames - self._before[message.path, message.replica] for message in latest
        )
        total = sum(self._config.n_frames - before for before in self._before.values())
        return SimulationProgress(
            simulated_ps=done * self._config.save_every_ps,
            total_ps=total * self._config.save_every_ps,
            ns_per_day=self._speed(sum(self._n_steps.values()), time.monotonic() - self._started),
            temperature_k=float(np.mean(temperatures)) if temperatures else None,
            n_lost=sum(s.lost_at_frame >= 0 for run in self._runs for s in run.states.values()),
        )

    def _speed(self, n_steps: int, seconds: float) -> float:
        return ns_per_day(1e-3 * n_steps * self._config.resolved_preset.step_fs, seconds)

    @staticmethod
    def _n_recorded(run: MoleculeSimulation, replica: int) -> int:
        return run.states[replica].n_measured - 1 if replica in run.states else 0
