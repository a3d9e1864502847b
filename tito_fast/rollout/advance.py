"""Trajectories advanced chunk by chunk in one process, and how they are shared among several."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tito_fast.data.molecule import FloatArray
from tito_fast.models.tito.model import TitoModel
from tito_fast.rollout.chunk import Chunk, Row, rows_per_chunk
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.frames import host_frames


@dataclass(frozen=True, eq=False)
class Task:
    """One trajectory to advance to the end.

    Parameters
    ----------
    row : Row
    first_step : int
        Steps taken already.
    scaled_positions : ndarray, shape (n_atoms, 3), float64
        Where it is, model units.
    """

    row: Row
    first_step: int
    scaled_positions: FloatArray


@dataclass(frozen=True, eq=False)
class Advanced:
    """Consecutive tasks after one step.

    Parameters
    ----------
    tasks : slice
        Into the tasks that were given.
    step : int
        Numbered from 1.
    scaled_positions : Tensor, shape (n_atoms, 3)
        On the host, in the model's dtype.
    """

    tasks: slice
    step: int
    scaled_positions: Tensor


def advance(model: TitoModel, tasks: Sequence[Task], config: RolloutConfig) -> Iterator[Advanced]:
    """Yield every step of every task, as many tasks together as fit."""
    for span in _chunks(model, tasks, config):
        together = tasks[span]
        chunk = Chunk(model, [task.row for task in together], config)
        state = np.concatenate([task.scaled_positions for task in together])
        first_step = together[0].first_step
        steps = chunk.run(
            torch.from_numpy(state).to(model.device, model.dtype),
            first_step=first_step,
            last_step=config.n_rollout_steps,
        )
        for step, scaled in enumerate(host_frames(steps), start=first_step + 1):
            yield Advanced(span, step, scaled)


def _chunks(model: TitoModel, tasks: Sequence[Task], config: RolloutConfig) -> Iterator[slice]:
    """Yield consecutive tasks that are equally far, as many as fit."""
    start = 0
    while start < len(tasks):
        step = tasks[start].first_step
        alike = start
        while alike < len(tasks) and tasks[alike].first_step == step:
            alike += 1
        largest = max(task.row.molecule.n_atoms for task in tasks[start:alike])
        end = min(start + rows_per_chunk(model, config, largest), alike)
        yield slice(start, end)
        start = end


def task_cost(task: Task, n_rollout_steps: int) -> int:
    """Return the work in a task: edges of all pairs of atoms, times the steps that are left."""
    n_atoms = task.row.molecule.n_atoms
    return max(n_atoms * (n_atoms - 1), 1) * (n_rollout_steps - task.first_step)


def shares(costs: Sequence[int], n_shares: int) -> list[slice]:
    """Cut ``costs`` into ``n_shares`` runs of neighbors, such that the most expensive run is the cheapest possible.

    Parameters
    ----------
    costs : sequence of int
        Above zero.
    n_shares : int

    Returns
    -------
    list of slice
        Of length ``n_shares``; late ones may be empty.

    Examples
    --------
    >>> [(share.start, share.stop) for share in shares([2, 2, 2, 6], 2)]
    [(0, 3), (3, 4)]
    """
    low, high = max(costs, default=0), sum(costs)
    while low < high:
        limit = (low + high) // 2
        if len(_cut(costs, limit)) <= n_shares:
            high = limit
        else:
            low = limit + 1
    stops = _cut(costs, high)
    stops += [len(costs)] * (n_shares - len(stops))
    return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def _cut(costs: Sequence[int], limit: int) -> list[int]:
    """Return the ends of the longest runs of at most ``limit``, taken one after another."""
    stops, total = [], 0
    for index, cost in enumerate(costs):
        if total + cost > limit:
            stops.append(index)
            total = 0
        total += cost
    return [*stops, len(costs)] if costs else []
