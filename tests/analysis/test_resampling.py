"""Intervals and blocks against closed forms."""

import numpy as np
import pytest

from tito_fast.analysis.resampling import (
    autocorrelation_frames,
    block_length,
    bootstrap,
    interval_about,
    lagged_products,
    unit_weights,
)
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.torsions import jsd


def test_the_interval_of_a_mean_is_that_of_the_normal_law(mean_difference, units_of_values):
    rng = np.random.default_rng(0)
    reference, model = rng.standard_normal(200), 3 * rng.standard_normal(400) + 1
    interval = bootstrap(
        mean_difference, units_of_values(reference), units_of_values(model), n_resamples=2000
    )
    error = np.sqrt(1 / 200 + 9 / 400)
    np.testing.assert_allclose(interval.high - interval.low, 2 * 1.96 * error, rtol=0.1)
    np.testing.assert_allclose(interval.value, model.mean() - reference.mean())
    again = bootstrap(
        mean_difference, units_of_values(reference), units_of_values(model), n_resamples=2000
    )
    assert (again.low, again.high) == (interval.low, interval.high)


def test_a_resampled_divergence_brackets_its_value():
    rng = np.random.default_rng(1)
    counts = rng.multinomial(40, np.full(300, 1 / 300), size=(2, 50))
    reference, model = (UnitSums(sums=one, series_idx=np.arange(50)) for one in counts)
    interval = bootstrap(jsd, reference, model, bounds=(0, np.log(2)))
    assert 0 <= interval.low < interval.value < interval.high
    # What a plain percentile interval would have said.
    weights = [unit_weights(50, seed=side) for side in range(2)]
    plain = jsd(reference.total(weights[0]), model.total(weights[1]))
    assert np.quantile(plain, 0.025) > interval.value


def test_one_unit_has_no_interval_and_undefined_resamples_are_left_out(
    mean_difference, units_of_values
):
    one = units_of_values(np.ones(1))
    interval = bootstrap(mean_difference, one, one)
    assert np.isnan(interval.low)
    half = interval_about(1.0, np.array([0.0, 2.0, np.nan, np.inf]))
    np.testing.assert_allclose([half.low, half.high], [0.05, 1.95])
    few = interval_about(1.0, np.array([0.0, np.nan, np.nan]))
    assert np.isnan(few.low)

    def picky(reference, model):
        if model[1] == 3:
            raise ValueError("undefined")
        return model[1]

    model = units_of_values(np.array([0.0, 1, 2, 3]))
    interval = bootstrap(picky, one, model)
    assert np.isfinite(interval.low)


def test_frames_that_count_as_one():
    rng = np.random.default_rng(2)
    for rho in (0.0, 0.9):
        chains = []
        for length in (20_000, 10_000):
            noise, state, chain = rng.standard_normal(length), 0.0, np.empty(length)
            for frame in range(length):
                state = rho * state + noise[frame]
                chain[frame] = state
            chains.append(chain + 100)
        np.testing.assert_allclose(autocorrelation_frames(chains), (1 + rho) / (1 - rho), rtol=0.15)
    lengths = block_length([chains[0][:12_000]])
    assert lengths.block_frames == np.ceil(5 * lengths.autocorrelation_frames)
    assert not lengths.is_limited
    short = block_length([chains[0][:500]])
    assert short.block_frames == 50
    assert short.is_limited
    long = block_length([rng.standard_normal(100_000)])
    assert long.block_frames == 500
    assert not long.is_limited
    values = rng.standard_normal(63)
    direct = [values[: 63 - lag] @ values[lag:] for lag in range(63)]
    np.testing.assert_allclose(lagged_products(values), direct, atol=1e-12)
    with pytest.raises(
        ValueError, match="series: expected a coordinate that varies, got a constant"
    ):
        autocorrelation_frames([np.full(9, 0.1)])
