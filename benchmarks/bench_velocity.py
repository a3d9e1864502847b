"""One evaluation of the network, conditioning done before: every backend side by side.

Run with ``OMP_NUM_THREADS=1`` and with 2, each with ``OMP_WAIT_POLICY=passive``, on a quiet machine. A case is timed
where one call is estimated below the limits here (``benchmarks/network.py``); the whole file takes about three minutes
on one thread. The reference computes the conditioning at every evaluation, as the released code does.
"""

from functools import lru_cache

import pytest
import torch

from benchmarks.network import (
    COMPILER_WARNINGS,
    Plan,
    compiling,
    flops_per_evaluation,
    model_of,
    precision_of,
    record,
    record_speed,
    run_or_skip,
    scaled_positions,
)
from benchmarks.systems import System, system
from tito_fast.data.batch import MoleculeBatch

PLAN = Plan(
    us_per_edge={
        "reference": 40.0,
        "eager": 8.0,
        "compiled-eager": 5.0,
        "native": 2.5,
        "native-bf16": 2.5,
    },
    most_seconds={
        "reference": 2.0,
        "eager": 1.9,
        "compiled-eager": 0.5,
        "native": 2.6,
        "native-bf16": 2.6,
    },
    compiled=(system("mdqm9-like", 16), system("tetrapeptide", 1)),
)

# Of the largest element of what the network adds to x_t.
BOUNDS = {"float32": 5e-5, "bf16": 5e-2}
# Replicas do not see each other: as many are compared as the reference does within about half a second.
MOST_EDGES_COMPARED = 12000


class Evaluation:
    """The inputs of one evaluation, and what the reference makes of the first replicas."""

    def __init__(self, system: System, n_features: int) -> None:
        self.system, self.n_features = system, n_features
        generator = torch.Generator().manual_seed(1)
        n_atoms = system.n_atoms * system.n_replicas
        self.positions = scaled_positions(system)
        self.x_t = torch.randn(n_atoms, 3, generator=generator)
        self.vectors = torch.randn(n_atoms, 3, n_features, generator=generator)
        self.flow_time = torch.rand(system.n_replicas, generator=generator)
        self.lag_time_ps = 1000 * torch.rand(system.n_replicas, generator=generator)
        most = max(1, MOST_EDGES_COMPARED * system.n_replicas // system.n_edges)
        self.n_compared = min(system.n_replicas, most)
        self.expected = self.call("reference", self.n_compared)()

    def call(self, backend, n_replicas, compiled=False):
        """Return the call to be timed, over the first replicas."""
        model, n_atoms = model_of(self.n_features), n_replicas * self.system.n_atoms
        batch = MoleculeBatch.from_molecules([self.system.molecule()] * n_replicas)
        prepared = model.prepare(batch, backend=backend)
        velocity = torch.compile(model.velocity, dynamic=False) if compiled else model.velocity
        with torch.no_grad():
            conditioning = model.condition(prepared, self.positions[:n_atoms])
        x_t, vectors = self.x_t[:n_atoms], self.vectors[:n_atoms]
        flow_time, lag_time_ps = self.flow_time[:n_replicas], self.lag_time_ps[:n_replicas]

        def call():
            with torch.no_grad():
                return velocity(
                    prepared, conditioning, x_t, flow_time, lag_time_ps, vectors=vectors
                )

        return call

    def check(self, result, bound):
        n_atoms = len(self.expected)
        x_t = self.x_t[:n_atoms].view(self.n_compared, -1, 3)
        start = (x_t - x_t.mean(dim=1, keepdim=True)).view(-1, 3)
        largest = (self.expected - start).abs().max()
        assert (result[:n_atoms] - self.expected).abs().max() <= bound * largest
        assert result.isfinite().all()


@lru_cache(maxsize=1)
def evaluation_of(system: System, n_features: int) -> Evaluation:
    """Return the inputs; the backends of one system follow each other."""
    return Evaluation(system, n_features)


@pytest.mark.filterwarnings(*COMPILER_WARNINGS)
@pytest.mark.parametrize("case", PLAN.cases(), ids=str)
def test_velocity(benchmark, case):
    PLAN.skip_unless_it_runs(benchmark, case)
    evaluation = evaluation_of(case.system, case.n_features)
    with precision_of(case), compiling(case):
        call = evaluation.call(case.model_backend, case.system.n_replicas, case.is_compiled)
        run_or_skip(case, call)
        result = benchmark.pedantic(call, **PLAN.rounds(benchmark, case))
    evaluation.check(result, BOUNDS[case.dtype])
    record(benchmark, case)
    record_speed(benchmark, case, what="velocity", flops=flops_per_evaluation(case))
