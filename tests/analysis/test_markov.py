"""States, and transition matrices of a known chain."""

import numpy as np
import pytest
from deeptime.markov import TransitionCountEstimator

from tito_fast.analysis.markov import (
    fit_states,
    grid_states,
    stationary_distribution,
    transition_counts,
    transition_distance,
    transition_matrix,
)


def test_exact_probabilities_give_the_chain_back(chain):
    counts = 1e6 * chain.populations[:, None] * chain.matrix
    np.testing.assert_allclose(transition_matrix(counts), chain.matrix)
    np.testing.assert_allclose(stationary_distribution(chain.matrix), chain.populations)
    # A batch is a loop, and a state that was never seen stays.
    both = transition_matrix(np.stack([counts, np.zeros((3, 3))]))
    np.testing.assert_allclose(both, [chain.matrix, np.eye(3)])


def test_counts_are_those_of_deeptime(simulate_chain):
    states = list(simulate_chain(5, 200, seed=0))
    found = transition_counts(states, n_states=3, lag_frames=4)
    count_model = TransitionCountEstimator(lagtime=4, count_mode="sliding").fit_fetch(states)
    np.testing.assert_array_equal(found.total(), count_model.count_matrix)
    blocks = transition_counts(states, n_states=3, lag_frames=4, block_frames=33)
    np.testing.assert_array_equal(blocks.total(), found.total())
    assert blocks.n_units == 30


def test_a_long_run_finds_the_chain(chain, simulate_chain):
    states = list(simulate_chain(200, 1000, seed=1))
    counts = transition_counts(states, n_states=3, lag_frames=1).total()
    found = transition_matrix(counts)
    error = np.sqrt(chain.matrix * (1 - chain.matrix) / counts.sum(axis=1, keepdims=True))
    assert (np.abs(found - chain.matrix) < 4 * error).all()
    np.testing.assert_allclose(stationary_distribution(found), chain.populations, atol=0.01)


@pytest.mark.parametrize("matrix", [np.eye(2), [[0.0, 1.0], [1.0, 0.0]]])
def test_a_chain_that_never_mixes_still_has_a_distribution(matrix):
    np.testing.assert_allclose(stationary_distribution(np.array(matrix)), [0.5, 0.5])


def test_the_distance_of_transition_matrices_is_a_weighted_total_variation(chain):
    counts = 1000 * chain.populations[:, None] * chain.matrix
    np.testing.assert_allclose(transition_distance(counts, 7 * counts), 0.0, atol=1e-15)
    moved = np.array([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
    away = [1 - chain.matrix[0, 1], 1 - chain.matrix[2, 2]]
    # State 1 is left out: the model never was in it.
    expected = (0.5 * away[0] + 0.2 * away[1]) / 0.7
    np.testing.assert_allclose(transition_distance(counts, moved), expected)
    with pytest.raises(ValueError, match=r"model: expected the shape of reference, \(3, 3\), got"):
        transition_distance(counts, np.ones((2, 2)))


def test_k_means_states_are_those_of_the_nearest_center_and_seeded():
    rng = np.random.default_rng(0)
    wells = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    frames = wells[rng.integers(3, size=600)] + 0.3 * rng.standard_normal((600, 2))
    states = fit_states([frames[:400], frames[400:]], n_states=3, seed=7)
    assert states.n_states == 3
    np.testing.assert_allclose(states.centers, wells[[0, 2, 1]], atol=0.2)
    distances = np.linalg.norm(frames[:, None] - states.centers, axis=-1)
    np.testing.assert_array_equal(states.assign(frames), distances.argmin(axis=1))
    again = fit_states([frames[:400], frames[400:]], n_states=3, seed=7)
    np.testing.assert_array_equal(again.centers, states.centers)


def test_grid_states_are_equal_cells():
    states = grid_states([np.array([[0.0], [4.0]]), np.array([[1.0]])], n_states=4)
    np.testing.assert_allclose(states.centers[:, 0], [0.5, 1.5, 2.5, 3.5])
    assert states.assign(np.array([[-9.0], [0.9], [1.1], [9.0]])).tolist() == [0, 0, 1, 3]


def test_bad_input_is_refused():
    labels = [np.array([0, 1, 2, 1])]
    with pytest.raises(ValueError, match="states: expected more than 4 frames for a lag of 4"):
        transition_counts(labels, n_states=3, lag_frames=4)
    with pytest.raises(ValueError, match="states: expected 0 to 1, got others"):
        transition_counts(labels, n_states=2, lag_frames=1)
    with pytest.raises(ValueError, match="matrix: expected rows that sum to 1, got others"):
        stationary_distribution(np.ones((2, 2)))
    with pytest.raises(ValueError, match="n_states: expected 1 to 1, the number of different"):
        fit_states([np.ones((9, 2))], n_states=2)
    with pytest.raises(ValueError, match="reference: expected one feature, got 2"):
        grid_states([np.ones((9, 2))], n_states=2)
    with pytest.raises(ValueError, match="reference: expected a feature that varies, got 1"):
        grid_states([np.ones((9, 1))], n_states=2)
    with pytest.raises(ValueError, match=r"features: expected shape \(n_frames, 1\), got \(3, 2\)"):
        grid_states([np.array([[0.0], [1.0]])], n_states=2).assign(np.ones((3, 2)))
