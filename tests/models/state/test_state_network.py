import math

import pytest
import torch

from tito_fast.models.state.config import StateConfig
from tito_fast.models.state.network import StateNetwork, encode

SMALL = {"n_features": 8, "n_state_features": 6, "n_lag_features": 4, "n_diffusion_features": 4}


def network_of(seeds, kind="ito", **settings):
    settings = {"max_lag_steps": 0 if kind == "equilibrium" else 100} | SMALL | settings
    config = StateConfig(kind=kind, **settings)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return StateNetwork(config, generators=generators).double()


def test_encoding_is_cosines_then_sines_of_ranks_from_zero():
    values = torch.tensor([0.3, -2.0], dtype=torch.float64)
    encoded = encode(values, n_features=6, length=5.0)
    for value, row in zip(values.tolist(), encoded.tolist(), strict=True):
        angles = [k * math.pi * value / 5.0 for k in range(3)]
        assert row == pytest.approx([*map(math.cos, angles), *map(math.sin, angles)])


def test_models_side_by_side_are_the_models_alone():
    generator = torch.Generator().manual_seed(0)
    noised, current = torch.randn(2, 3, 7, 2, generator=generator, dtype=torch.float64).unbind()
    step, lag = torch.full((1, 1), 17.0), torch.full((1, 1), 40.0)
    together = network_of([1, 2, 3], n_dims=2)
    result = together(noised, step, together.condition(current, lag))
    assert result.shape == (3, 7, 2)
    for index, seed in enumerate([1, 2, 3]):
        alone = network_of([seed], n_dims=2)
        own = slice(index, index + 1)
        expected = alone(noised[own], step, alone.condition(current[own], lag))
        torch.testing.assert_close(result[own], expected)


def test_what_is_shared_may_be_given_once():
    network = network_of([1, 2])
    noised = torch.randn(2, 4, 5, 1, generator=torch.Generator().manual_seed(0)).double()
    steps, lags = torch.arange(4.0).view(1, 4, 1), torch.arange(1.0, 6.0).view(1, 1, 5)
    once = network(noised, steps, network.condition(noised, lags))
    every = network(noised, steps.expand(2, 4, 5), network.condition(noised, lags.expand(2, 4, 5)))
    torch.testing.assert_close(once, every)


def test_the_output_depends_on_every_input():
    network = network_of([1])
    noised = torch.full((1, 1, 1), 0.3, dtype=torch.float64)

    def value(*, current=0.1, lag=40.0, step=17.0):
        condition = network.condition(torch.full_like(noised, current), torch.full((1, 1), lag))
        return network(noised, torch.full((1, 1), step), condition).item()

    assert len({value(), value(current=0.2), value(lag=41.0), value(step=18.0)}) == 4
