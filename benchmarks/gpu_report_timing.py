"""Times of calls on a GPU by its own clock, and on a CPU by the wall's."""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch

Call = Callable[[], Any]

# A call below this is launched as a replayed graph: else the host is what is timed.
GRAPH_BELOW_S = 3e-4
CALLS_IN_GRAPH = 20
FEWEST_ROUNDS, MOST_ROUNDS = 3, 100


class Timing(NamedTuple):
    """Seconds of one call.

    Parameters
    ----------
    median_s, best_s : float
    n_rounds : int
    how : str
    launched_s : float
        The median without a graph.
    """

    median_s: float
    best_s: float
    n_rounds: int
    how: str
    launched_s: float

    def figures(self) -> dict[str, Any]:
        """Return what a report keeps."""
        figures = {"median_s": self.median_s, "best_s": self.best_s, "n_rounds": self.n_rounds}
        return figures | {"how": self.how, "launched_s": self.launched_s}


class Clock:
    """Times calls.

    Parameters
    ----------
    device : torch.device
    seconds : float
        About how long one timing may take; 0: each call is made once, and that is timed.
    """

    def __init__(self, device: torch.device, *, seconds: float) -> None:
        self._is_cuda, self._seconds = device.type == "cuda", seconds

    def time(self, calls: Sequence[Call], *, can_capture: bool = False) -> Timing:
        """Return the time of one of ``calls``, which differ in their inputs alone and are made in turn.

        Each is made once before. With ``can_capture`` short calls are captured and replayed.
        """
        if self._seconds == 0:
            (seconds,) = self._rounds(calls[:1], 1)
            return Timing(seconds, seconds, 1, "once", seconds)
        for call in calls:
            call()
        first = self._rounds(calls, 2)
        n_rounds = self._n_rounds(min(first))
        launched = self._rounds(calls, n_rounds)
        median = statistics.median(launched)
        how = "CUDA events" if self._is_cuda else "wall clock"
        if can_capture and self._is_cuda and median < GRAPH_BELOW_S:
            replay = self._captured(calls)
            times = [each / CALLS_IN_GRAPH for each in self._rounds([replay], 20)]
            how = f"CUDA events, graph of {CALLS_IN_GRAPH} calls"
            return Timing(statistics.median(times), min(times), 20, how, median)
        return Timing(median, min(launched), n_rounds, how, median)

    def _n_rounds(self, seconds_of_one: float) -> int:
        fitting = int(self._seconds / max(seconds_of_one, 1e-9))
        return min(max(fitting, FEWEST_ROUNDS), MOST_ROUNDS)

    def _rounds(self, calls: Sequence[Call], n_rounds: int) -> list[float]:
        turns = [calls[index % len(calls)] for index in range(n_rounds)]
        if not self._is_cuda:
            return [_by_the_wall(call) for call in turns]
        torch.cuda.synchronize()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(n_rounds + 1)]
        marks[0].record()
        for call, mark in zip(turns, marks[1:], strict=True):
            call()
            mark.record()
        torch.cuda.synchronize()
        return [1e-3 * before.elapsed_time(after) for before, after in pairwise(marks)]

    @staticmethod
    def _captured(calls: Sequence[Call]) -> Call:
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for index in range(CALLS_IN_GRAPH):
                calls[index % len(calls)]()
        return graph.replay


def _by_the_wall(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
