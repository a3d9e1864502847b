"""One rollout step of 20 Euler evaluations: eager against the released formulation.

Run with ``OMP_NUM_THREADS=1`` on a quiet machine; both backends are timed in turn in one run, and the ratio of their
best times is kept with microseconds per directed edge and the rate of sgemm.
"""

import time

import pytest
import torch

from benchmarks.systems import sgemm_gflops, system
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.noise import CounterNoise
from tito_fast.rollout.engine import FlowSettings, transition
from tito_fast.solvers import uniform_grid

N_ODE_STEPS = 20
CASES = {
    "18 atoms x 1": (system("mdqm9-like", 1), 10),
    "18 atoms x 16": (system("mdqm9-like", 16), 4),
    "68 atoms x 8": (system("tetrapeptide", 8), 1),
}


class Rollout:
    """One transition, ready to be timed on each backend."""

    def __init__(self, case, n_ode_steps):
        self.model = TitoModel.create(TitoConfig(), ModelInfo(length_unit_nm=0.2), seed=0)
        # Untrained weights on crowded atoms make a chaotic flow, where rounding alone decides the end; a
        # weak readout tames it at the same cost, so that the two results can be compared.
        self.model.network.velocity.readout.v.weight.data *= 1e-3
        molecule, n = case.molecule(), case.n_replicas
        self.batch = case.batch()
        self.positions = torch.as_tensor(molecule.positions, dtype=torch.float32).repeat(n, 1) / 0.2
        self.lag = torch.full((n,), 100.0)
        self.noise = CounterNoise(
            0, [molecule.noise_hash] * n, range(n), sizes=[case.n_atoms] * n, n_features=64
        )
        self.settings = FlowSettings(time_grid=uniform_grid(n_ode_steps))
        self.prepared = {
            backend: self.model.prepare(self.batch, backend=backend)
            for backend in ("reference", "eager")
        }

    def __call__(self, backend):
        return transition(
            self.model,
            self.prepared[backend],
            self.positions,
            lag_time_ps=self.lag,
            noise=self.noise,
            rollout_step=0,
            settings=self.settings,
        )


@pytest.mark.parametrize("name", CASES)
def test_rollout_step(benchmark, name):
    case, n_rounds = CASES[name]
    n_ode_steps = 2 if benchmark.disabled else N_ODE_STEPS
    rollout = Rollout(case, n_ode_steps)

    expected, reference_s = None, float("inf")
    for _ in range(1 if benchmark.disabled else max(2, n_rounds // 2)):
        start = time.perf_counter()
        expected = rollout("reference")
        reference_s = min(reference_s, time.perf_counter() - start)

    result = benchmark.pedantic(
        rollout, args=("eager",), rounds=max(3, n_rounds), iterations=1, warmup_rounds=1
    )
    assert (result - expected).abs().max() <= 5e-5 * expected.abs().max()

    n_evaluations = case.n_edges * n_ode_steps
    benchmark.extra_info |= {
        "device": "cpu",
        "dtype": "float32",
        "n_threads": torch.get_num_threads(),
        "n_atoms": case.n_atoms,
        "n_replicas": case.n_replicas,
        "n_edges": case.n_edges,
        "n_ode_steps": n_ode_steps,
        "sgemm_gflops": round(sgemm_gflops(), 1),
        "reference_us_per_edge": round(reference_s / n_evaluations * 1e6, 2),
    }
    if not benchmark.disabled:
        eager_s = benchmark.stats.stats.min
        benchmark.extra_info |= {
            "eager_us_per_edge": round(eager_s / n_evaluations * 1e6, 2),
            "times_reference": round(reference_s / eager_s, 2),
        }
