"""Correlation functions of a known chain."""

import numpy as np
import pytest

from tito_fast.analysis.correlation import correlation_function, correlation_sums
from tito_fast.analysis.resampling import unit_weights


def test_an_eigenfunction_of_the_chain_decays_by_its_eigenvalue(chain):
    # Exact: sums are probabilities.
    for mode in (1, 2):
        values = chain.eigenvectors[:, mode]
        total = []
        for lag in range(5):
            joint = chain.populations[:, None] * np.linalg.matrix_power(chain.matrix, lag)
            mean = chain.populations @ values
            total.append(
                [
                    1.0,
                    values @ joint @ values,
                    chain.populations @ values**2,
                    mean,
                    joint.sum(0) @ values,
                ]
            )
        found = correlation_function(np.array(total))
        np.testing.assert_allclose(found, chain.eigenvalues[mode] ** np.arange(5))


@pytest.mark.parametrize("is_from_start", [False, True])
def test_trajectories_of_the_chain_decay_likewise(chain, simulate_chain, is_from_start):
    states = simulate_chain(4000 if is_from_start else 200, 60, seed=0)
    series = [chain.eigenvectors[one, 1:2] for one in states]
    lags = [0, 1, 5, 20]
    sums = correlation_sums(series, lags_frames=lags, is_from_start=is_from_start)
    found = correlation_function(sums.total())
    resamples = correlation_function(sums.total(unit_weights(sums.n_units)))
    errors = resamples.std(axis=0)
    assert (np.abs(found - chain.eigenvalues[1] ** np.array(lags)) < 4 * errors + 1e-12).all()
    assert errors[1:].min() > 1e-4
    assert errors.max() < 0.06
    assert found[0] == 1.0
    n_pairs = [len(series) * (1 if is_from_start else 60 - lag) for lag in lags]
    assert sums.total()[:, 0].tolist() == n_pairs


def test_sums_are_those_of_the_definition(walks):
    series = walks(90, 40, 12)
    lags = [0, 3, 30]
    sums = correlation_sums(series, lags_frames=lags)
    found = correlation_function(sums.total())
    for lag, value in zip(lags, found, strict=True):
        first = np.concatenate([one[: len(one) - lag] for one in series if len(one) > lag])
        later = np.concatenate([one[lag:] for one in series if len(one) > lag])
        away = first - first.mean(axis=0)
        product = (away * (later - later.mean(axis=0))).sum(axis=1).mean()
        np.testing.assert_allclose(value, product / (away**2).sum(axis=1).mean())
    blocks = correlation_sums(series, lags_frames=lags, block_frames=7)
    np.testing.assert_allclose(blocks.total(), sums.total())
    batch = correlation_function(blocks.total(np.ones((2, blocks.n_units), dtype=int)))
    np.testing.assert_allclose(batch, [found, found])


def test_bad_input_is_refused(walks):
    series = walks(30)
    with pytest.raises(ValueError, match="series: expected more than 30 frames for a lag of 30"):
        correlation_sums(series, lags_frames=[0, 30])
    with pytest.raises(
        ValueError, match=r"lags_frames: expected lags at or above 0, got \[-1, 2\]"
    ):
        correlation_sums(series, lags_frames=[-1, 2])
    with pytest.raises(ValueError, match="lags_frames: expected lags at or above 0, got"):
        correlation_sums(series, lags_frames=[])
    with pytest.raises(ValueError, match="total: expected features that vary, got constant ones"):
        correlation_function(correlation_sums([np.ones((9, 2))], lags_frames=[1]).total())
    with pytest.raises(ValueError, match="total: expected a pair of frames at every lag, got none"):
        correlation_function(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="series: expected finite features, got NaN"):
        correlation_sums([np.full((9, 2), np.nan)], lags_frames=[1])
