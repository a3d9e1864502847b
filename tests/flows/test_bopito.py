import math

import pytest
import torch

from tito_fast.flows.bopito import (
    LagSchedule,
    LagStep,
    capped_lag,
    decay_of_timescale,
    dynamic_weight,
    separate,
)


def test_weight_is_the_power_in_float64_even_of_long_lags():
    lag_steps = torch.tensor([0, 1, 1_000, 100_000])
    weight = dynamic_weight(lag_steps, 0.9996)
    assert weight.dtype == torch.float64
    expected = [math.exp(n * math.log(0.9996)) for n in lag_steps.tolist()]
    torch.testing.assert_close(
        weight, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=0
    )


def test_weight_of_an_infinite_lag_is_zero():
    assert dynamic_weight(math.inf, 0.9996) == 0


def test_gradients_reach_the_decay():
    decay = torch.tensor(0.99, dtype=torch.float64, requires_grad=True)
    dynamic_weight(torch.tensor([10.0]), decay).sum().backward()
    assert decay.grad.item() == pytest.approx(10 * 0.99**9)


def test_decay_of_a_timescale_falls_by_e_in_that_time():
    assert decay_of_timescale(81.5) ** 81.5 == pytest.approx(math.exp(-1))


def test_only_lags_above_the_longest_are_capped():
    assert capped_lag(torch.tensor([1, 9, 10, 11, 1000]), 10).tolist() == [1, 9, 10, 10, 10]


def test_terms_are_summed_row_by_row():
    equilibrium, dynamic = torch.randn(
        2, 3, 4, 2, generator=torch.Generator().manual_seed(0)
    ).unbind()
    weight = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    result = separate(equilibrium, dynamic, weight)
    assert result.dtype == torch.float32
    for i, w in enumerate(weight.tolist()):
        torch.testing.assert_close(result[i], equilibrium[i] + w * dynamic[i])
    torch.testing.assert_close(separate(equilibrium, dynamic, 1.0), equilibrium + dynamic)


def test_a_schedule_mixes_interpolated_and_plain_steps():
    schedule = LagSchedule.of([(1000, 2500.0), 10, LagStep(5, 0.0)])
    assert [step.power for step in schedule] == [2500.0, 10.0, 0.0]
    assert len(schedule) == 3
    assert schedule.total_power == 2510.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dynamic_weight(1, 1.0), "decay: expected a value above 0 and below 1, got 1"),
        (lambda: dynamic_weight(1, math.nan), "decay: expected .*, got nan"),
        (lambda: dynamic_weight(-1, 0.5), "lag_steps: expected zero or more, got -1"),
        (lambda: decay_of_timescale(0.0), "timescale: expected a value above zero, got 0"),
        (lambda: capped_lag(torch.ones(1), 0), "max_lag_steps: expected at least 1, got 0"),
        (
            lambda: separate(torch.ones(2, 1), torch.ones(3, 1), 0.5),
            r"dynamic: expected shape \(2, 1\), got \(3, 1\)",
        ),
        (
            lambda: separate(torch.ones(2, 1), torch.ones(2, 1), torch.ones(3)),
            r"weight: expected the first sizes of \(2, 1\), got \(3,\)",
        ),
        (lambda: LagStep(0), "lag_steps: expected at least 1, got 0"),
        (lambda: LagStep(1, -2.0), "interpolation: expected zero or more, got -2"),
        (lambda: LagSchedule(()), "steps: expected at least one, got none"),
    ],
)
def test_values_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
