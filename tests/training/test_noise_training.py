"""Models that predict noise: what a batch holds, the loss, and a run from training to a resumed trajectory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tito_fast.data.pairs import PairSampler
from tito_fast.data.store import open_store
from tito_fast.flows import NoiseSchedule
from tito_fast.models.load import load_model
from tito_fast.models.tito.config import ModelInfo
from tito_fast.models.tito.model import TitoModel
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.sample import sample
from tito_fast.training.batches import TRAIN_USE, BatchSource, batch_loss, diffusion_steps
from tito_fast.training.loop import train

# ITO's network, small.
NOISE = {
    "objective": "noise",
    "message": "source",
    "layer_norm": False,
    "first_rank": 0,
    "lag_in": "condition",
    "is_centered": False,
    "vector_start": "condition",
    "n_diffusion_steps": 20,
    "noise_schedule": "sigmoid",
}


@pytest.fixture
def make_noise_config(make_config):
    def make(*, data=None, model=None, **settings):
        return make_config(
            data={"coupling": "none", **(data or {})}, model={**NOISE, **(model or {})}, **settings
        )

    return make


def source_of(config):
    store = open_store(config.data.store)
    model = TitoModel.create(config.model, ModelInfo(length_unit_nm=0.2), seed=0)
    sampler = PairSampler(store, split="train", max_lag_ps=10.0)
    return model, BatchSource(store, sampler, model, config=config, use=TRAIN_USE)


def test_diffusion_steps_are_whole_and_equally_likely():
    schedule = NoiseSchedule("sigmoid", 5)
    uniform = (torch.arange(1000) + 0.5) / 1000
    steps = diffusion_steps(uniform, schedule)
    assert [int((steps == step).sum()) for step in range(1, 6)] == [200] * 5
    assert diffusion_steps(torch.tensor([0.0, 1 - 2**-24]), schedule).tolist() == [1, 5]
    released = diffusion_steps(uniform, NoiseSchedule("sigmoid", 5, released=True))
    assert sorted(set(released.tolist())) == [1, 2, 3, 4]


def test_a_batch_has_plain_noise_and_whole_steps(make_noise_config):
    _, source = source_of(make_noise_config())
    drawn = source.draw(200, step=0)
    assert set(drawn.flow_time.tolist()) == set(range(1, 21))
    assert drawn.vectors is None
    assert drawn.x_0.mean().abs() < 0.06
    assert drawn.x_0.std().item() == pytest.approx(1.0, abs=0.05)
    # Means of molecules are not taken out, as published.
    assert drawn.x_0[: drawn.batch.sizes[0]].mean(0).abs().max() > 1e-3


def test_noise_is_mean_free_where_the_output_is_centered(make_noise_config):
    _, source = source_of(make_noise_config(model={"is_centered": True}))
    drawn = source.draw(5, step=0)
    for start, end in zip(drawn.batch.batch_ptr[:-1], drawn.batch.batch_ptr[1:], strict=True):
        assert drawn.x_0[start:end].mean(0).abs().max() < 1e-6


def test_a_pair_does_not_depend_on_its_process(make_noise_config):
    model, source = source_of(make_noise_config())
    whole = source.draw(6, step=2)
    parts = [source.draw(6, step=2, part=part) for part in (slice(0, 2), slice(2, 6))]
    for name in ("x_0", "x_1", "flow_time", "lag_time_ps"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name)), name
    losses = [batch_loss(model, part, sigma=0.0).item() for part in parts]
    assert sum(losses) == pytest.approx(batch_loss(model, whole, sigma=0.0).item(), rel=1e-5)


def test_the_loss_is_the_mean_squared_error_of_the_noise(make_noise_config):
    model, source = source_of(make_noise_config())
    drawn = source.draw(4, step=0)
    prepared = model.prepare(drawn.batch)
    step = drawn.flow_time.long()
    share = NoiseSchedule("sigmoid", 20).alpha_bar[step][drawn.batch.batch_idx, None].float()
    x_d = share.sqrt() * drawn.x_1 + (1 - share).sqrt() * drawn.x_0
    found = model.noise(
        prepared,
        model.condition(prepared, drawn.scaled_current, drawn.lag_time_ps),
        x_d,
        drawn.flow_time,
        drawn.lag_time_ps,
    )
    wanted = ((found - drawn.x_0) ** 2).sum() / drawn.x_0.shape[0]
    # The noise on a flow's interpolant has no part in it.
    assert batch_loss(model, drawn, sigma=0.5).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_coupling_is_refused(make_noise_config):
    with pytest.raises(ValueError, match=r"data.coupling: expected none .* got 'r'; set"):
        make_noise_config(data={"coupling": "r"})


def test_a_step_down_the_gradient_lowers_the_loss_by_its_squared_norm(make_noise_config):
    model, source = source_of(make_noise_config())
    model.to(dtype=torch.float64)
    drawn = source.draw(4, step=0)
    parameters = list(model.network.parameters())
    loss = batch_loss(model, drawn, sigma=0.0)
    gradients = torch.autograd.grad(loss, parameters)
    squared_norm = sum(gradient.square().sum().item() for gradient in gradients)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=1e-5)
        lowered = loss - batch_loss(model, drawn, sigma=0.0)
    assert lowered.item() == pytest.approx(1e-5 * squared_norm, rel=0.01)


def test_from_training_to_a_resumed_trajectory(make_noise_config, make_molecule, tmp_path):
    config = make_noise_config(n_steps=3, optimizer={"schedule": "constant"})
    whole = train(config)
    in_parts = replace(config, out=str(tmp_path / "parts"), n_steps=2)
    train(in_parts)
    resumed = train(replace(in_parts, n_steps=3))
    model = load_model(whole.model_path)
    assert model.info.coupling == "none"
    assert model.info.flow_sigma == 0
    weights = load_model(resumed.model_path).network.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in model.network.state_dict().items())
    # The averaged weights are what is sampled.
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert any(not torch.equal(state["network"][k], v) for k, v in weights.items())

    molecule = make_molecule(5, seed=5)
    rollout = RolloutConfig(lag_times_ps=(5.0,), n_rollout_steps=2, n_replicas=2, n_ode_steps=4)
    sample(molecule, rollout, out=tmp_path / "whole", model=model)
    for n_steps in (1, 2):
        part = replace(rollout, n_rollout_steps=n_steps, batch_size=1)
        sample(molecule, part, out=tmp_path / "resumed", model=model)
    states = [np.load(tmp_path / name / "state.npz")["positions"] for name in ("whole", "resumed")]
    assert np.isfinite(states[0]).all()
    assert np.array_equal(*states)
