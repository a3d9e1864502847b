"""One training step (forward, backward, clipping, Adam) of the default network: every backend side by side.

Run with ``OMP_NUM_THREADS=1`` and with 2, each with ``OMP_WAIT_POLICY=passive``, on a quiet machine. A case is timed
where one step is estimated below the limits here (``benchmarks/network.py``). Every round starts from the same weights,
so that the loss and the gradient norm that were timed can be compared with the reference in float64; above
``MOST_EDGES_OF_REFERENCE`` with ``eager`` in float64, as the reference takes too much memory there.

Beside the time: what autograd keeps for the backward, and for two systems the peak of the memory of a step that is
taken in a process of its own.
"""

import json
import math
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from benchmarks.network import Plan, record, record_speed
from benchmarks.systems import System, system
from benchmarks.training_step import Step

PLAN = Plan(
    us_per_edge={"reference": 60.0, "eager": 35.0, "compiled-eager": 35.0, "native": 20.0},
    most_seconds={"reference": 2.0, "eager": 2.3, "compiled-eager": 0.2, "native": 2.3},
    compiled=(),
    why_not_compiled="compiling a training step takes more than a minute per system",
)
# At 64 features.
MOST_EDGES_OF_REFERENCE = 30_000
# Networks of one edge's layers keep their inputs for the backward.
N_LAYERS = 7
MEMORY_OF = (system("mdqm9-like", 64), system("octapeptide", 1))


@lru_cache(maxsize=1)
def expected_of(system: System, n_features: int) -> tuple[str, tuple[float, float]]:
    """Return who judges, and its loss and gradient norm in float64."""
    most = MOST_EDGES_OF_REFERENCE * (64 / n_features) ** 2
    judge = "reference" if system.n_edges <= most else "eager"
    return judge, Step(system, n_features, judge, dtype=torch.float64)()


def flops_of_step(system: System, n_features: int) -> float:
    """Return what a step's matrix products need, in flop: forward, and twice that backward.

    Forward, with exact filters: 138 F² per edge (102 in the velocity network, 36 in the conditioning), 196 F² per atom.
    What a backend computes again in its backward is not counted.
    """
    n_atoms = system.n_atoms * system.n_replicas
    return 3 * n_features**2 * (138 * system.n_edges + 196 * n_atoms)


def memory_of(case) -> dict[str, float]:
    """Return the peak of one step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training_step", "--system", case.system.name]
    command += ["--replicas", str(case.system.n_replicas), "--features", str(case.n_features)]
    command += ["--backend", case.model_backend]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603  our own program
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", PLAN.cases(), ids=str)
def test_training_step(benchmark, case):
    PLAN.skip_unless_it_runs(benchmark, case)
    step = Step(case.system, case.n_features, case.model_backend)
    rounds = PLAN.rounds(benchmark, case)
    loss, norm = benchmark.pedantic(step, setup=step.reset, **rounds)

    judge, (expected_loss, expected_norm) = expected_of(case.system, case.n_features)
    assert math.isclose(loss, expected_loss, rel_tol=2e-5)
    assert math.isclose(norm, expected_norm, rel_tol=1e-4)
    record(benchmark, case, compared_with=f"{judge} in float64")
    step.reset()
    kept = step.saved_bytes() / (case.system.n_edges * N_LAYERS)
    benchmark.extra_info["saved_bytes_per_edge_layer"] = round(kept, 1)
    flops = flops_of_step(case.system, case.n_features)
    record_speed(benchmark, case, what="training step", flops=flops)
    if benchmark.disabled:
        return
    rate = case.system.n_replicas / benchmark.stats.stats.min
    benchmark.extra_info["pairs_per_s"] = round(rate, 2)
    if case.system in MEMORY_OF and case.n_features == 64:
        memory = memory_of(case)
        assert math.isclose(memory["loss"], expected_loss, rel_tol=2e-5)
        benchmark.extra_info["peak_mb"] = round(memory["peak_bytes"] / 1e6, 1)
