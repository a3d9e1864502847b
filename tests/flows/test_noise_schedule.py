"""Noise schedules: published values, indices, and the released tables written out by other formulas."""

import math

import numpy as np
import pytest
import torch

from tito_fast.flows import NOISE_SCHEDULES, NoiseSchedule


@pytest.mark.parametrize("n_steps", [2, 17, 500, 1000])
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_levels_fall_from_one_and_stay_above_zero(name, n_steps):
    levels = NoiseSchedule(name, n_steps).alpha_bar
    assert levels.shape == (n_steps + 1,)
    assert levels.dtype == torch.float64
    assert levels[0] == 1
    assert (levels.diff() < 0).all()
    assert levels[-1] > 0


def test_sigmoid_steps_lose_the_published_shares():
    levels = NoiseSchedule("sigmoid", 1000).alpha_bar
    losses = 1 - levels[1:] / levels[:-1]
    wanted = torch.sigmoid(torch.linspace(-8, -4, 1000, dtype=torch.float64))
    torch.testing.assert_close(losses, wanted, rtol=1e-10, atol=0)
    assert losses[0].item() == pytest.approx(3.35e-4, rel=2e-3)
    assert losses[-1].item() == pytest.approx(1.80e-2, rel=2e-3)


def test_polynomial_is_the_published_formula_where_no_ratio_is_clipped():
    levels = NoiseSchedule("polynomial", 100).alpha_bar
    u = torch.arange(1, 100, dtype=torch.float64) / 100
    torch.testing.assert_close(levels[1:-1], 0.9998 * (1 - u**2) ** 2 + 1e-4)
    # At u = 1 the formula is zero and the ratio to the step before is clipped.
    assert levels[-1].item() == pytest.approx(0.9998 * 1e-3 * (1 - 0.99**2) ** 2 + 1e-4)


def test_cosine_is_the_published_formula_where_no_ratio_is_clipped():
    levels = NoiseSchedule("cosine", 10).alpha_bar
    for step in range(10):
        angle = math.pi / 2 * (step / 10 + 0.008) / 1.008
        share = math.cos(angle) ** 2 / math.cos(math.pi / 2 * 0.008 / 1.008) ** 2
        assert levels[step].item() == pytest.approx(share)
    assert levels[10].item() == pytest.approx(levels[9].item() * 1e-3)


def test_the_first_steps_of_a_short_schedule_by_hand():
    kept_first, kept_last = 1 / (1 + math.exp(-8)), 1 / (1 + math.exp(-4))
    levels = NoiseSchedule("sigmoid", 2).alpha_bar.tolist()
    assert levels == pytest.approx([1.0, kept_first, kept_first * kept_last])


def test_levels_between_steps_are_log_linear_and_exact_at_steps():
    schedule = NoiseSchedule("cosine", 20)
    table = schedule.alpha_bar
    assert torch.equal(schedule.alpha_bar_at(torch.arange(21)), table)
    assert torch.equal(schedule.alpha_bar_at(torch.arange(21.0)), table)
    between = schedule.alpha_bar_at(torch.tensor([3.25, 19.5], dtype=torch.float64))
    wanted = table[[3, 19]].log() * torch.tensor([0.75, 0.5], dtype=torch.float64)
    wanted += table[[4, 20]].log() * torch.tensor([0.25, 0.5], dtype=torch.float64)
    torch.testing.assert_close(between.log(), wanted, rtol=1e-12, atol=0)
    host = [schedule.solver_level(step) for step in (3.25, 19.5, 20)]
    assert host == pytest.approx([*between.tolist(), table[20].item()])


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_training_and_solvers_agree_on_every_index(name):
    schedule = NoiseSchedule(name, 40)
    for step in range(1, 41):
        assert schedule.solver_level(step) == pytest.approx(schedule.alpha_bar[step].item())
        assert schedule.network_step(step) == step
    assert schedule.last_training_step == 40


def test_released_sigmoid_is_shifted_by_one_step_between_training_and_solver():
    n_steps = 8
    betas = 1 / (1 + np.exp(-np.linspace(-8, -4, n_steps)))
    exclusive = np.concatenate([[1.0], np.cumprod(1 - betas)[:-1]])
    inclusive = np.exp(np.cumsum(np.log(1 - betas)))
    schedule = NoiseSchedule("sigmoid", n_steps, released=True)
    assert schedule.last_training_step == n_steps - 1
    np.testing.assert_allclose(schedule.alpha_bar[:n_steps], exclusive, rtol=1e-12)
    for index in range(n_steps):
        # Time (index + 1) / n_steps in the released solver has the label index, in thousandths.
        assert schedule.solver_level(index + 1) == pytest.approx(inclusive[index])
        assert schedule.network_step(index + 1) == pytest.approx(1000 * index / n_steps)


def test_released_polynomial_starts_at_one_minus_its_offset():
    n_steps = 50
    raw = (1 - np.linspace(0, 1, n_steps + 1) ** 2) ** 2
    ratios = np.clip(raw[1:] / raw[:-1], 1e-3, 1)
    table = (1 - 2e-4) * np.concatenate([[1.0], np.cumprod(ratios)]) + 1e-4
    schedule = NoiseSchedule("polynomial", n_steps, released=True)
    np.testing.assert_allclose(schedule.alpha_bar, table, rtol=1e-12)
    assert schedule.solver_level(1) == pytest.approx(table[1] / table[0])


def test_released_cosine_stops_at_three_quarters():
    levels = NoiseSchedule("cosine", 1000, released=True).alpha_bar
    assert levels[-1].item() == pytest.approx(math.cos(0.5) ** 2)
    assert levels[-1].item() == pytest.approx(0.77, abs=2e-3)


def test_invalid_arguments():
    with pytest.raises(ValueError, match="noise_schedule: expected one of sigmoid, polynomial"):
        NoiseSchedule("linear")
    with pytest.raises(ValueError, match="n_diffusion_steps: expected at least 2, got 1"):
        NoiseSchedule("cosine", 1)
