"""One rollout step of 20 Euler evaluations, conditioning and noise included: every backend side by side.

Run with ``OMP_NUM_THREADS=1`` and with 2, each with ``OMP_WAIT_POLICY=passive``, on a quiet machine. A case is timed
where one call is estimated below the limits here (``benchmarks/network.py``). The first replicas of each result are
compared with the reference; where one replica takes the reference too long, with ``eager``, which ``bench_velocity.py``
compares with the reference for the same molecule.
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
from tito_fast.models.tito.model import TitoModel
from tito_fast.noise import CounterNoise
from tito_fast.rollout.engine import FlowSettings, transition
from tito_fast.solvers import uniform_grid

N_ODE_STEPS = 20
US_PER_EDGE = {
    "reference": 40.0,
    "eager": 8.0,
    "compiled-eager": 5.0,
    "native": 2.5,
    "native-bf16": 2.5,
}
PLAN = Plan(
    us_per_edge={backend: N_ODE_STEPS * us for backend, us in US_PER_EDGE.items()},
    most_seconds={
        "reference": 4.0,
        "eager": 4.5,
        "compiled-eager": 0.5,
        "native": 4.0,
        "native-bf16": 4.0,
    },
    compiled=(system("mdqm9-like", 16),),
    why_not_compiled="compiling takes half a minute or more: one system must do",
)
# Untrained weights on crowded atoms make a chaotic flow, where rounding alone decides the end; a weak
# readout tames it at the same cost. With these the network moves the atoms by 0.02 to 0.3 units.
READOUTS = {18: 0.1, 22: 0.1, 68: 1e-3, 166: 3e-5, 250: 1e-5}
# Of the largest coordinate of what the network adds to the flow.
BOUNDS = {"float32": 5e-4, "bf16": 0.1}
# Edges, at 64 features, that the reference rolls out in about 4 s.
MOST_EDGES_OF_REFERENCE = 5000


class Rollout:
    """One transition, and what another backend makes of the first replicas."""

    def __init__(self, system: System, n_features: int, n_ode_steps: int) -> None:
        self.system, self.n_features = system, n_features
        self.settings = FlowSettings(time_grid=uniform_grid(n_ode_steps))
        self.positions = scaled_positions(system)
        most = int(MOST_EDGES_OF_REFERENCE * (64 / n_features) ** 2)
        edges_of_one = system.n_edges // system.n_replicas
        self.judge = "reference" if edges_of_one <= most else "eager"
        self.model = model_of(n_features, readout=READOUTS[system.n_atoms])
        self.expected = self.call(self.model, self.judge, 1)()
        # Without the network the velocity is the position.
        x_0 = self.noise(1).base(0)
        alone = (x_0 - x_0.mean(dim=0)) * (1 + 1 / n_ode_steps) ** n_ode_steps
        self.scale = (self.expected - alone).abs().max()

    def noise(self, n_replicas: int) -> CounterNoise:
        """Return the noise of the first replicas."""
        return CounterNoise(
            0,
            [self.system.molecule().noise_hash] * n_replicas,
            range(n_replicas),
            sizes=[self.system.n_atoms] * n_replicas,
            n_features=self.n_features,
        )

    def call(self, model: TitoModel, backend: str, n_replicas: int):
        """Return the call to be timed, over the first replicas."""
        molecule, n_atoms = self.system.molecule(), self.system.n_atoms
        prepared = model.prepare(
            MoleculeBatch.from_molecules([molecule] * n_replicas), backend=backend
        )
        positions = self.positions[: n_replicas * n_atoms]
        noise = self.noise(n_replicas)
        lag_time_ps = torch.full((n_replicas,), 100.0)
        return lambda: transition(
            model,
            prepared,
            positions,
            lag_time_ps=lag_time_ps,
            noise=noise,
            rollout_step=0,
            settings=self.settings,
        )

    def check(self, result, bound):
        error = (result[: len(self.expected)] - self.expected).abs().max()
        assert error <= bound * self.scale
        assert result.isfinite().all()


@lru_cache(maxsize=1)
def rollout_of(system: System, n_features: int, n_ode_steps: int) -> Rollout:
    """Return the inputs; the backends of one system follow each other."""
    return Rollout(system, n_features, n_ode_steps)


class CompiledModel(TitoModel):
    """A model whose velocity is compiled."""

    def __init__(self, model: TitoModel) -> None:
        super().__init__(model.config, model.info, model.network)
        self.velocity = torch.compile(model.velocity, dynamic=False)


@pytest.mark.filterwarnings(*COMPILER_WARNINGS)
@pytest.mark.parametrize("case", PLAN.cases(), ids=str)
def test_rollout_step(benchmark, case):
    PLAN.skip_unless_it_runs(benchmark, case)
    n_ode_steps = 2 if benchmark.disabled else N_ODE_STEPS
    rollout = rollout_of(case.system, case.n_features, n_ode_steps)
    with precision_of(case), compiling(case):
        model = CompiledModel(rollout.model) if case.is_compiled else rollout.model
        call = rollout.call(model, case.model_backend, case.system.n_replicas)
        run_or_skip(case, call)
        result = benchmark.pedantic(call, **PLAN.rounds(benchmark, case))
    rollout.check(result, BOUNDS[case.dtype])
    record(benchmark, case, n_ode_steps=n_ode_steps, compared_with=rollout.judge)
    flops = n_ode_steps * flops_per_evaluation(case)
    record_speed(benchmark, case, what="rollout", flops=flops, n_evaluations=n_ode_steps)
    if not benchmark.disabled:
        rate = case.system.n_replicas / benchmark.stats.stats.min
        benchmark.extra_info["transitions_per_s"] = round(rate, 2)
