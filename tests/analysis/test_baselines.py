"""The noise floor of MD and the ideal sampler against closed forms."""

import numpy as np
import pytest

from tito_fast.analysis.baselines import (
    ideal_kinetic,
    ideal_rollouts,
    ideal_static,
    ideal_transitions,
    md_floor,
)
from tito_fast.analysis.drawn_rollouts import drawn_pairs, drawn_rollouts
from tito_fast.analysis.markov import transition_counts, transition_distance
from tito_fast.analysis.moments import covariances, lagged_moments
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.analysis.vamp import vamp2
from tito_fast.data.torsions import jsd


def test_the_floor_of_independent_frames_is_counting_noise():
    rng = np.random.default_rng(3)
    shares = np.full((400, 36), 1 / 36)
    blocks = np.stack([rng.multinomial(250, shares) for _ in range(8)])
    expected = 35 / 8 * 2 / 1000
    one = md_floor(jsd, UnitSums(sums=blocks, series_idx=np.zeros(8, dtype=np.int64)))
    assert one.replicates is None
    np.testing.assert_allclose(one.halves.mean(), expected, rtol=0.05)
    assert one.value is one.halves
    four = md_floor(jsd, UnitSums(sums=blocks, series_idx=np.repeat(np.arange(4), 2)))
    np.testing.assert_allclose(four.halves.mean(), expected, rtol=0.05)
    np.testing.assert_allclose(four.replicates.mean(), expected, rtol=0.05)
    assert four.value is four.replicates
    eight = md_floor(jsd, UnitSums(sums=blocks, series_idx=np.arange(8)))
    assert eight.halves is None
    np.testing.assert_allclose(eight.value.mean(), expected, rtol=0.05)


def test_the_floor_divides_in_time_and_between_trajectories(mean_difference, units_of_values):
    # Trajectory 0 is at 0 then 2, trajectory 1 at 10 then 12.
    units = units_of_values(np.array([0.0, 2, 10, 12]), series_idx=np.array([0, 0, 1, 1]))
    floor = md_floor(mean_difference, units)
    assert floor.halves == 2
    assert floor.replicates == 10
    odd = md_floor(mean_difference, units_of_values(np.array([0.0, 0, 3]), np.zeros(3, dtype=int)))
    assert odd.halves == 3


def test_an_exact_sampler_scores_counting_noise():
    reference = np.tile([400.0, 300, 200, 100, 0], (500, 1))
    found = ideal_static(jsd, reference, n_frames=800)
    np.testing.assert_allclose(found.mean(), 3 / 8 / 800, rtol=0.05)
    with pytest.raises(ValueError, match="n_frames: expected at least 1, got 0"):
        ideal_static(jsd, reference, n_frames=0)


def test_drawn_rollouts_are_steps_within_trajectories():
    weights = drawn_pairs([100, 7, 50], lag_frames=5, n_replicas=30, n_steps=8, seed=0)
    assert [len(one) for one in weights] == [95, 2, 45]
    assert sum(one.sum() for one in weights) == 30 * 8
    # 8 steps of 5 frames do not fit into 7; two of the three start frames of 50 − 40 = 10 do into 50.
    assert weights[1].sum() == 0
    assert weights[2].sum() % 8 == 0
    starts = drawn_pairs([41], lag_frames=5, n_replicas=3, n_steps=8)[0]
    assert np.flatnonzero(starts).tolist() == list(range(0, 40, 5))
    assert set(starts[::5]) == {3}
    # Too short for the model's steps: more and shorter rollouts.
    short = drawn_pairs([23], lag_frames=5, n_replicas=3, n_steps=50)[0]
    assert short.sum() == 150


def test_rollouts_cut_from_the_reference_score_close_to_it(walks):
    series = [one[:, :5] for one in walks(4000, 3000)]
    total = lagged_moments(series, lag_frames=3).total()

    def gap(reference, model):
        return vamp2(covariances(reference), covariances(model)).gap

    gaps = [
        abs(
            ideal_kinetic(
                gap, series, total, lag_frames=3, n_replicas=n, n_steps=50, n_draws=5, seed=1
            )
        )
        for n in (2, 2000)
    ]
    assert gaps[1] < 0.02 < gaps[0]


def test_transitions_cut_from_the_reference_are_close_to_it(simulate_chain):
    states = [*simulate_chain(3, 2000, seed=0), np.zeros(2, dtype=np.int64)]
    total = transition_counts(states, n_states=3, lag_frames=4).total()
    seen = []

    def distance(reference, model):
        seen.append(model.sum())
        return transition_distance(reference, model)

    far, near = (
        ideal_transitions(distance, states, total, lag_frames=4, n_replicas=n, n_steps=20)
        for n in (2, 500)
    )
    assert set(seen) == {40, 10_000}
    assert near < 0.03 < far


def test_parts_too_short_for_a_metric_have_no_floor(units_of_values):
    def refuse(reference, model):
        raise ValueError("too short")

    floor = md_floor(refuse, units_of_values(np.arange(4.0), np.array([0, 0, 1, 1])))
    assert np.isnan(floor.halves)
    assert np.isnan(floor.value)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="reference: expected more than 9 frames for a lag of 9"):
        drawn_pairs([9, 3], lag_frames=9, n_replicas=1, n_steps=1)
    with pytest.raises(ValueError, match="n_steps: expected at least one replica and one step"):
        drawn_pairs([9], lag_frames=1, n_replicas=1, n_steps=0)


def test_rollouts_are_frames_a_lag_apart_of_one_trajectory():
    series = [np.arange(50) * 1.0, 1000 + np.arange(30)[:, None][:, 0] * 1.0]
    drawn = drawn_rollouts([50, 30], lag_frames=3, n_replicas=40, n_steps=5, seed=2)
    values = drawn.take(series)
    assert values.shape == (40, 6)
    assert (np.diff(values, axis=1) == 3).all()
    assert set(drawn.series_idx.tolist()) == {0, 1}
    assert values.max() <= 1029
    assert (values[drawn.series_idx == 0] <= 49).all()


def test_an_ideal_of_rollouts_that_do_not_fit_is_unknown():
    def length(drawn):
        return float(drawn.frames.shape[1])

    options = {"lag_frames": 5, "n_replicas": 3}
    assert ideal_rollouts(length, [41], n_steps=8, **options) == 9.0
    assert np.isnan(ideal_rollouts(length, [41], n_steps=9, **options))
