"""Training steps at fixed addresses: the same loss and gradients as from tensors that come and go."""

import pytest
import torch

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.precision import matmul_precision
from tito_fast.training.batches import TrainingBatch, batch_loss
from tito_fast.training.step_plan import StepPlans, plans_problem

CONFIG = TitoConfig(n_features=32, n_embedding_layers=1, n_model_layers=1, max_lag_ps=100.0)
SIGMA = 0.05


def make_model(device, **changes):
    config = TitoConfig(**{**CONFIG.__dict__, **changes})
    return TitoModel.create(config, ModelInfo(length_unit_nm=0.2), seed=3).to(device=device)


@pytest.fixture
def make_drawn(make_molecule, triton_device):
    def make(*sizes, seed=0, share=1.0):
        molecules = [make_molecule(size, seed=seed + index) for index, size in enumerate(sizes)]
        batch = MoleculeBatch.from_molecules(molecules)
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(*shape, generator=generator).to(triton_device)

        n = len(sizes)
        return TrainingBatch(
            batch=batch.to(triton_device),
            scaled_current=normal(batch.n_atoms, 3),
            x_0=normal(batch.n_atoms, 3),
            x_1=normal(batch.n_atoms, 3),
            flow_time=torch.linspace(0.1, 0.9, n, device=triton_device),
            lag_time_ps=torch.linspace(5.0, 95.0, n, device=triton_device),
            temperature_k=None,
            epsilon=normal(batch.n_atoms, 3),
            vectors=normal(batch.n_atoms, 3, CONFIG.n_features),
            share=share,
        )

    return make


def plain(model, drawn):
    model.network.zero_grad(set_to_none=True)
    loss = batch_loss(model, drawn, sigma=SIGMA, backend="triton")
    loss.backward()
    return loss.detach(), [
        None if p.grad is None else p.grad.clone() for p in model.network.parameters()
    ]


def planned(plans, model, drawn):
    loss = plans.step(drawn)[0].clone()
    return loss, [None if p.grad is None else p.grad.clone() for p in model.network.parameters()]


def test_loss_and_gradients_are_those_of_the_batch(make_drawn, triton_device):
    model = make_model(triton_device)
    plans = StepPlans(model, sigma=SIGMA)
    # The second batch is smaller and meets what the first has left; the third is the first again.
    for drawn in (make_drawn(4, 3), make_drawn(4, seed=5, share=0.25), make_drawn(4, 3)):
        loss, gradients = planned(plans, model, drawn)
        expected_loss, expected = plain(model, drawn)
        torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
        for found, gradient in zip(gradients, expected, strict=True):
            if gradient is None:
                assert found is None or not found.any()
            else:
                torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_batches_of_one_shape_share_a_plan_and_repeat_bit_for_bit(make_drawn, triton_device):
    model = make_model(triton_device)
    plans = StepPlans(model, sigma=SIGMA)
    first = planned(plans, model, make_drawn(4, 2))
    planned(plans, model, make_drawn(3, 3, seed=2))
    again = planned(plans, model, make_drawn(4, 2))
    assert len(plans._plans) == 1
    assert torch.equal(first[0], again[0])
    for here, there in zip(first[1], again[1], strict=True):
        assert (here is None) == (there is None)
        assert here is None or torch.equal(here, there)


def test_the_update_follows_the_gradients(make_drawn, triton_device):
    model, other = make_model(triton_device), make_model(triton_device)
    weights = list(model.network.parameters())

    @torch.no_grad()
    def update():
        total = torch.zeros((), device=triton_device)
        for weight in weights:
            if weight.grad is not None:
                total += weight.grad.square().sum()
                weight.sub_(0.1 * weight.grad)
        return total.sqrt()

    plans = StepPlans(model, sigma=SIGMA, update=update, state=lambda: weights)
    drawn = make_drawn(4)
    for _ in range(2):
        told = plans.step(drawn).tolist()
        loss, gradients = plain(other, drawn)
        norm = torch.stack([g.norm() for g in gradients if g is not None]).norm()
        assert told == pytest.approx([float(loss), float(norm)], rel=1e-4)
        with torch.no_grad():
            for weight, gradient in zip(other.network.parameters(), gradients, strict=True):
                if gradient is not None:
                    weight.sub_(0.1 * gradient)
    for here, there in zip(weights, other.network.parameters(), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)


def test_bf16_has_float32_gradients(make_drawn, triton_device):
    model = make_model(triton_device)
    with matmul_precision("bf16"):
        loss, gradients = planned(StepPlans(model, sigma=SIGMA), model, make_drawn(4))
    exact, _ = plain(model, make_drawn(4))
    assert all(g is None or g.dtype == torch.float32 for g in gradients)
    assert float(loss) == pytest.approx(float(exact), rel=0.05)
    assert float(loss) != float(exact)


def test_a_cutoff_has_no_plan(triton_device):
    assert not plans_problem(make_model(triton_device))
    assert "cutoff" in plans_problem(make_model(triton_device, scaled_cutoff=1.0))
