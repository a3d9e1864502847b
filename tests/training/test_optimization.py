from itertools import pairwise

import pytest
import torch
from torch import nn

from tito_fast.training.config import OptimizerConfig
from tito_fast.training.optimization import (
    MovingAverage,
    clip_gradients,
    learning_rate,
    make_optimizer,
)


def test_weight_decay_makes_adam_adamw():
    parameters = list(nn.Linear(2, 2).parameters())
    plain = make_optimizer(OptimizerConfig(), parameters)
    decayed = make_optimizer(OptimizerConfig(weight_decay=0.1), parameters)
    assert type(plain) is torch.optim.Adam
    assert type(decayed) is torch.optim.AdamW
    assert decayed.param_groups[0]["weight_decay"] == 0.1


def test_learning_rate_rises_linearly_and_falls_as_a_cosine():
    config = OptimizerConfig(learning_rate=2.0, n_warmup_steps=4, final_learning_rate_share=0.1)
    rates = [learning_rate(config, step, n_steps=24) for step in range(25)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[14] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert rates[24] == pytest.approx(0.2)
    assert all(a >= b for a, b in pairwise(rates[4:]))
    # A run that is prolonged past its end stays at the floor.
    assert learning_rate(config, 30, n_steps=24) == pytest.approx(0.2)


def test_constant_schedule_stays_after_the_warmup():
    config = OptimizerConfig(learning_rate=2.0, n_warmup_steps=0, schedule="constant")
    assert {learning_rate(config, step, n_steps=5) for step in range(9)} == {2.0}


def test_clipping_keeps_direction_and_returns_the_norm_before():
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([weight], limit=0.0).item() == 5.0
    assert weight.grad.tolist() == [3.0, 4.0]
    assert clip_gradients([weight], limit=1.0).item() == 5.0
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]))


def test_average_follows_its_formula_and_continues_from_its_state():
    network = nn.Linear(1, 1, bias=False)
    average = MovingAverage(network, decay=0.5)
    expected = network.weight.item()
    for update in range(20):
        if update == 7:
            saved = {
                k: v.clone() if k != "n_updates" else v for k, v in average.state_dict().items()
            }
            average = MovingAverage(nn.Linear(1, 1, bias=False), decay=0.5)
            average.load_state_dict(saved)
        nn.init.constant_(network.weight, update)
        average.update(network)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_no_decay_makes_the_average_the_network():
    network = nn.Linear(3, 3)
    average = MovingAverage(network, decay=0.0)
    nn.init.uniform_(network.weight)
    average.update(network)
    assert torch.equal(average.weights["weight"], network.weight)


def test_average_refuses_a_foreign_state():
    average = MovingAverage(nn.Linear(1, 1, bias=False), decay=0.5)
    with pytest.raises(TypeError, match=r"weights.weight: expected a tensor, got str"):
        average.load_state_dict({"n_updates": 1, "weights.weight": "a"})
