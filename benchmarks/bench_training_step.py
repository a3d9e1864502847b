"""One training step (forward, backward, Adam) of the default network, on each backend.

Run with ``OMP_NUM_THREADS=1`` on a quiet machine. Every round starts from the same weights, so that the loss and the
gradient norm that were timed can be compared with the reference in float64.
"""

import copy
import math

import pytest
import torch

from benchmarks.systems import sgemm_gflops, system
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.training.batches import TrainingBatch, batch_loss
from tito_fast.training.config import OptimizerConfig
from tito_fast.training.optimization import clip_gradients, make_optimizer

CASES = {
    "18 atoms x 16": (system("mdqm9-like", 16), 8),
    "68 atoms x 2": (system("tetrapeptide", 2), 5),
}


def training_batch(case, n_features):
    """Return random pairs of ``case``, all noise drawn, in float32."""
    generator = torch.Generator().manual_seed(0)
    n_atoms, n = case.n_atoms * case.n_replicas, case.n_replicas
    positions = torch.as_tensor(case.molecule().positions, dtype=torch.float32).repeat(n, 1) / 0.2
    return TrainingBatch(
        batch=case.batch(),
        scaled_current=positions,
        x_0=torch.randn(n_atoms, 3, generator=generator),
        x_1=positions + 0.3 * torch.randn(n_atoms, 3, generator=generator),
        flow_time=torch.rand(n, generator=generator),
        lag_time_ps=1000 * torch.rand(n, generator=generator),
        temperature_k=None,
        epsilon=torch.randn(n_atoms, 3, generator=generator),
        vectors=torch.randn(n_atoms, 3, n_features, generator=generator),
        share=1.0,
    )


class Step:
    """A training step that can be taken again and again from the same weights."""

    def __init__(self, case, backend, *, dtype=torch.float32):
        self.backend = backend
        self.model = TitoModel.create(TitoConfig(), ModelInfo(length_unit_nm=0.2), seed=0)
        drawn = training_batch(case, self.model.config.n_features)
        values = {
            name: value.to(dtype) if isinstance(value, torch.Tensor) else value
            for name, value in vars(drawn).items()
        }
        self.drawn = TrainingBatch(**values)
        self.model.to(dtype=dtype)
        self.optimizer = make_optimizer(OptimizerConfig(), self.model.network.parameters())
        self.start = copy.deepcopy(self.model.network.state_dict())

    def reset(self):
        self.model.network.load_state_dict(self.start)
        self.optimizer.zero_grad(set_to_none=True)

    def __call__(self):
        loss = batch_loss(self.model, self.drawn, sigma=0.001, backend=self.backend)
        loss.backward()
        norm = clip_gradients(self.model.network.parameters(), limit=10.0)
        self.optimizer.step()
        return loss.item(), norm.item()


@pytest.mark.parametrize("backend", ["reference", "eager"])
@pytest.mark.parametrize("name", CASES)
def test_training_step(benchmark, name, backend):
    case, n_rounds = CASES[name]
    step = Step(case, backend)
    loss, norm = benchmark.pedantic(
        step, setup=step.reset, rounds=n_rounds, iterations=1, warmup_rounds=1
    )

    expected_loss, expected_norm = Step(case, "reference", dtype=torch.float64)()
    assert math.isclose(loss, expected_loss, rel_tol=2e-5)
    assert math.isclose(norm, expected_norm, rel_tol=1e-4)
    benchmark.extra_info.update(
        device="cpu",
        dtype="float32",
        threads=torch.get_num_threads(),
        n_atoms=case.n_atoms * case.n_replicas,
        n_edges=case.n_edges,
        sgemm_gflops=sgemm_gflops(),
    )
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_edge"] = benchmark.stats.stats.min / case.n_edges * 1e6
