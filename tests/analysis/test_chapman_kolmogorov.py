"""Chapman–Kolmogorov tests of a known chain, and of runs that are none."""

import numpy as np
import pytest

from tito_fast.analysis.chapman_kolmogorov import (
    chapman_kolmogorov,
    chapman_kolmogorov_error,
    compare_lags,
)
from tito_fast.analysis.markov import transition_counts


def test_a_markov_chain_passes_chapman_kolmogorov(chain, simulate_chain):
    states = list(simulate_chain(100, 300, seed=2))
    test = chapman_kolmogorov(states, n_states=3, lag_frames=2, multiples=(1, 2, 5))
    exact = np.stack([np.diag(np.linalg.matrix_power(chain.matrix, 2 * k)) for k in (1, 2, 5)])
    for interval in (test.estimated, test.predicted):
        assert interval.value.shape == (3, 3)
        assert (interval.low < interval.value).all()
        assert (interval.value < interval.high).all()
        # 95 % intervals, widened to 99.99 % about the value.
        assert (np.abs(interval.value - exact) < interval.high - interval.low).all()
    np.testing.assert_array_equal(test.estimated.value[0], test.predicted.value[0])
    assert test.multiples == (1, 2, 5)


def test_hidden_memory_fails_chapman_kolmogorov(simulate_chain):
    # States 1 and 2 in one: what is left of state 1's and 2's difference is memory.
    lumped = [one // 2 for one in simulate_chain(100, 400, seed=3)]
    period = [np.tile([0, 0, 1, 1], 100)[phase:] for phase in range(4)]
    for states, is_markov in ((lumped, True), (period, False)):
        test = chapman_kolmogorov(states, n_states=2, lag_frames=1, multiples=(2,))
        distance = np.abs(test.estimated.value - test.predicted.value).max()
        assert (distance < 0.1) == is_markov
    # 0 0 1 1 …: never the same state after two frames, where a chain would be half of the time.
    np.testing.assert_allclose(test.estimated.value, 0.0, atol=1e-12)
    np.testing.assert_allclose(test.predicted.value, 0.5, atol=0.01)


def test_one_long_step_against_many_short_ones(chain, simulate_chain):
    many, one = simulate_chain(400, 101, seed=4), simulate_chain(400, 21, seed=5, power=5)
    result = compare_lags(list(many), list(one), n_states=3, multiple=5)
    exact = np.diag(np.linalg.matrix_power(chain.matrix, 5))
    for interval in (result.one_step, result.many_steps, result.predicted):
        assert (np.abs(interval.value - exact) < interval.high - interval.low).all()
    assert result.distance < 0.03
    wrong = compare_lags(list(many), list(one), n_states=3, multiple=1)
    assert wrong.distance > 0.1


def test_states_that_were_never_left_are_unknown():
    test = chapman_kolmogorov([np.zeros(9, dtype=np.int64)] * 3, n_states=2, lag_frames=1)
    assert (test.estimated.value[:, 0] == 1).all()
    assert np.isnan(test.estimated.value[:, 1]).all()
    assert np.isnan(test.predicted.high[:, 1]).all()
    single = chapman_kolmogorov([np.array([0, 1] * 9)], n_states=2, lag_frames=1)
    assert np.isnan(single.estimated.low).all()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="model: expected a state that the reference was in, too"):
        compare_lags([np.array([0, 0])], [np.array([1, 1])], n_states=2, multiple=1)
    with pytest.raises(ValueError, match="states: expected more than 4 frames for a lag of 4"):
        chapman_kolmogorov([np.array([0, 1, 0, 1])], n_states=2, lag_frames=1)


def test_the_error_is_that_of_the_test():
    states = [np.random.default_rng(0).integers(0, 3, size=200)]
    multiples = (1, 2, 4)
    test = chapman_kolmogorov(states, n_states=3, lag_frames=1, multiples=multiples)
    counts = [transition_counts(states, n_states=3, lag_frames=k).total() for k in multiples]
    expected = np.abs(test.estimated.value - test.predicted.value)[1:].mean()
    assert chapman_kolmogorov_error(np.array(counts), multiples) == pytest.approx(expected)
    assert np.isnan(chapman_kolmogorov_error(np.zeros((2, 3, 3)), (1, 2)))
