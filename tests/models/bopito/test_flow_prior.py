from dataclasses import replace

import pytest
import torch

from tito_fast.flows import NoiseSchedule
from tito_fast.models.bopito.flow_prior import flow_point, noise_of_velocity
from tito_fast.models.bopito.model import BopitoModel
from tito_fast.models.load import load_model, save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel

SCHEDULE = NoiseSchedule("polynomial", 50)


@pytest.mark.parametrize("base_std", [1.0, 0.7])
def test_the_noise_of_a_known_density_is_exact(base_std):
    """Of normal data the velocity and the noise are known: both are conditional means."""
    mean, std = 0.4, 1.3
    steps = torch.tensor([1.0, 7.0, 20.5, 49.0, 50.0], dtype=torch.float64)
    x_d = torch.linspace(-3, 3, 15, dtype=torch.float64).view(5, 3)
    alpha_bar = SCHEDULE.alpha_bar_at(steps).unsqueeze(-1)
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    expected = noise * (x_d - signal * mean) / (signal**2 * std**2 + noise**2)

    point = flow_point(SCHEDULE, steps, base_std=base_std)
    t = point.flow_time.unsqueeze(-1)
    x_t = x_d / point.scale.unsqueeze(-1)
    excess = (x_t - t * mean) / (((1 - t) * base_std) ** 2 + (t * std) ** 2)
    velocity = mean + t * std**2 * excess - (1 - t) * base_std**2 * excess
    found = noise_of_velocity(velocity, x_t, point.flow_time, base_std=base_std)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_a_flow_is_the_equilibrium_term_of_a_diffusion(make_batch, tmp_path):
    info = ModelInfo(length_unit_nm=0.2, coupling="none", base_std=0.8)
    flow = TitoConfig(
        n_features=16,
        n_embedding_layers=0,
        n_model_layers=1,
        vector_start="zeros",
        is_conditional=False,
    )
    prior = TitoModel.create(flow, info, seed=0).to(dtype=torch.float64)
    diffusion = TitoConfig.bopito_dynamic(n_features=16, n_model_layers=1, n_diffusion_steps=50)
    model = BopitoModel.from_equilibrium(
        prior,
        replace(diffusion, is_centered=True),
        replace(info, base_std=1.0),
        relaxation_time_ps=5.0,
        frame_interval_ps=1.0,
        seed=1,
    )
    save_model(model, tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors")
    batch = make_batch(4, 7)
    generator = torch.Generator().manual_seed(0)
    current, x_d = torch.randn((2, 11, 3), generator=generator, dtype=torch.float64).unbind()
    steps = torch.tensor([3.0, 40.0], dtype=torch.float64)
    lags = torch.full((2,), 1e6, dtype=torch.float64)
    prepared = model.prepare(batch, backend="eager")
    conditioning = model.condition(prepared, current, lags)
    found = model.noise(prepared, conditioning, x_d, steps, lags)

    point = flow_point(SCHEDULE, steps, base_std=0.8)
    t = point.flow_time[batch.batch_idx]
    x_t = x_d / point.scale[batch.batch_idx].unsqueeze(-1)
    here = prior.prepare(batch, backend="eager")
    velocity = prior.velocity(
        here,
        prior.condition(here, None),
        x_t,
        point.flow_time,
        None,
        vectors=torch.zeros(11, 3, 16, dtype=torch.float64),
    )
    assert torch.equal(found, noise_of_velocity(velocity, x_t, t, base_std=0.8))
