"""VAMP-2 scores against deeptime; time scales of a chain and of the Prinz potential."""

import numpy as np
import pytest
from deeptime.data import prinz_potential
from deeptime.decomposition import VAMP

from tito_fast.analysis.markov import grid_states
from tito_fast.analysis.moments import covariances, lagged_moments
from tito_fast.analysis.resampling import bootstrap
from tito_fast.analysis.vamp import (
    fit_vamp,
    slowest_timescales_ps,
    timescale_error,
    timescales_ps,
    vamp2,
)


def pairs_of(series, lag_frames):
    return covariances(lagged_moments(series, lag_frames=lag_frames).total())


@pytest.mark.parametrize(("lag_reference", "lag_model"), [(6, 1), (10, 3)])
def test_the_gap_is_that_of_deeptime(walks, lag_reference, lag_model):
    reference = walks(900, seed=1)
    model = [one[::2] * 1.1 for one in walks(63, 129, 70, seed=2)]
    # Called by hand as in the authors' code; a constant and a repeated feature are in both.
    expected = VAMP(lagtime=lag_reference).fit(reference).fetch_model()
    predicted = VAMP(lagtime=lag_model).fit(model).fetch_model()
    found = vamp2(pairs_of(reference, lag_reference), pairs_of(model, lag_model))
    np.testing.assert_allclose(found.score_reference, expected.score(2, expected), rtol=1e-9)
    np.testing.assert_allclose(found.score_model, expected.score(2, predicted), rtol=1e-9)
    gap = expected.score(2, expected) - expected.score(2, predicted)
    np.testing.assert_allclose(found.gap, gap, rtol=1e-8)
    assert found.gap_model_minus_reference == -found.gap
    np.testing.assert_allclose(
        timescales_ps(fit_vamp(pairs_of(reference, lag_reference)).singular_values, lag_ps=5.0),
        expected.timescales(lagtime=5.0),
        rtol=1e-8,
    )


def test_a_slower_model_has_a_negative_gap(walks):
    series = walks(2000)
    slow, fast = pairs_of(series, 1), pairs_of(series, 20)
    assert vamp2(fast, slow).gap < 0 < vamp2(slow, fast).gap
    assert vamp2(slow, slow).gap == 0


@pytest.mark.parametrize("power", [1, 5])
def test_time_scales_of_a_chain_are_exact(chain, exact_total, power):
    fit = fit_vamp(covariances(exact_total(power)))
    assert len(fit.singular_values) == 2  # one-hot features sum to 1
    expected = -1 / np.log(chain.eigenvalues[1:])
    np.testing.assert_allclose(timescales_ps(fit.singular_values, lag_ps=power), expected)
    score = 1 + (chain.eigenvalues[1:] ** (2 * power)).sum()
    np.testing.assert_allclose(fit.score(covariances(exact_total(power))), score)


def test_time_scales_of_the_prinz_potential():
    # Exact: the slow eigenvalues of the generator on a fine grid, diffusion constant 1.
    x = np.linspace(-1.3, 1.3, 200)
    bumps = 0.8 * np.exp(-80 * x**2) + 0.2 * np.exp(-80 * (x - 0.5) ** 2)
    energy = 4 * (x**8 + bumps + 0.5 * np.exp(-40 * (x + 0.5) ** 2))
    hop = np.exp(-np.diff(energy) / 2) / (x[1] - x[0]) ** 2
    back = np.exp(np.diff(energy) / 2) / (x[1] - x[0]) ** 2
    generator = np.diag(hop, 1) + np.diag(back, -1)
    generator -= np.diag(generator.sum(axis=1))
    exact = -1 / np.sort(np.linalg.eigvals(generator).real)[::-1][1:4]

    system = prinz_potential(h=1e-4, n_steps=50)
    trajectories = list(system.trajectory(np.zeros((4, 1)), 20_000, seed=1, n_jobs=1))
    states = grid_states(trajectories, n_states=30)
    one_hot = [np.eye(30, dtype=np.float32)[states.assign(one)] for one in trajectories]
    fit = fit_vamp(pairs_of(one_hot, 10))
    found = timescales_ps(fit.singular_values[:3], lag_ps=10 * 50 * 1e-4)
    np.testing.assert_allclose(found, exact, rtol=0.1)
    error = timescale_error(exact, found, lag_ps=0.05)
    assert error.n_processes == 3
    assert error.value < 0.1


def test_the_error_of_time_scales_counts_what_a_lag_resolves():
    reference = np.array([100.0, 40.0, 11.0, 9.0])
    model = np.array([50.0, 50.0, 11.0, 1.0])
    error = timescale_error(reference, model, lag_ps=10.0)
    assert error.n_processes == 3
    np.testing.assert_allclose(error.value, (0.5 + 0.25 + 0.0) / 3)
    assert timescale_error(reference, model, lag_ps=10.0, n=1).value == 0.5
    none = timescale_error(reference, model, lag_ps=100.0)
    assert none.value is None
    assert none.n_processes == 0
    # A process that the model lacks is missed wholly.
    assert timescale_error(reference, model[:0], lag_ps=10.0).value == 1.0


def test_time_scales_have_intervals(chain, simulate_chain):
    series = [np.eye(3)[one] for one in simulate_chain(300, 100, seed=0)]
    moments = lagged_moments(series, lag_frames=2)
    interval = bootstrap(lambda total: slowest_timescales_ps(total, lag_ps=2.0, n=3), moments)
    exact = -1 / np.log(chain.eigenvalues[1:])
    assert (interval.low[:2] < interval.value[:2]).all()
    assert (interval.value[:2] < interval.high[:2]).all()
    assert (np.abs(interval.value[:2] - exact) < (interval.high - interval.low)[:2]).all()
    # Three states have two processes beside the equilibrium.
    assert np.isnan([interval.value[2], interval.low[2], interval.high[2]]).all()


def test_time_scales_at_the_ends_of_the_range():
    found = timescales_ps(np.array([1.0, 0.0, -np.exp(-1)]), lag_ps=2.0)
    np.testing.assert_allclose(found, [np.inf, 0.0, 2.0])


def test_bad_input_is_refused(walks):
    series = walks(60)
    pairs = pairs_of(series, 1)
    with pytest.raises(ValueError, match="pairs: expected 7 features as in the fit, got 6"):
        vamp2(pairs, pairs_of([series[0][:, 1:]], 1))
    with pytest.raises(ValueError, match="pairs: expected more than 6 pairs of frames for 5 feat"):
        fit_vamp(pairs_of([series[0][:7]], 1))
    with pytest.raises(ValueError, match="features: expected at least one that varies"):
        fit_vamp(pairs_of([np.ones((20, 2))], 1))
    with pytest.raises(ValueError, match="reference_ps: expected finite time scales, got infinity"):
        timescale_error(np.array([np.inf]), np.array([1.0]), lag_ps=1.0)
    with pytest.raises(ValueError, match="lag_ps: expected above 0, got 0"):
        timescales_ps(np.ones(1), lag_ps=0.0)
