"""Pairs are a lag apart, whatever the schedule, and no pair is lost."""

import numpy as np
import pytest

from tito_fast.analysis.moments import lagged_moments
from tito_fast.analysis.steps import steps_of
from tito_fast.data.run_directory import cumulative_times_ps


def test_equal_lags_are_one_stretch():
    steps = steps_of([100.0 * np.arange(1, 6), 100.0 * np.arange(1, 4)])
    assert steps.lag_ps == 100.0
    assert steps.note == ""
    assert steps.n_pairs == 4 + 2
    assert [one.tolist() for one in steps.cut([np.arange(5), np.arange(3)])] == [
        [0, 1, 2, 3, 4],
        [0, 1, 2],
    ]


def test_of_a_schedule_the_most_frequent_lag_is_taken():
    times = cumulative_times_ps([1000.0, 1000.0, 10.0], 8)[1:]
    steps = steps_of([times, times[:1]])
    assert steps.lag_ps == 1000.0
    assert [one.tolist() for one in steps.cut([times, times[:1]])] == [
        [1000.0, 2000.0],
        [2010.0, 3010.0, 4010.0],
        [4020.0, 5020.0, 6020.0],
    ]
    assert "the 5 steps of 1 ns only; the run has others (10 ps)" in steps.note


def test_of_equally_frequent_lags_the_longest_is_taken():
    assert steps_of([np.array([0.0, 1.0, 6.0, 7.0, 12.0])]).lag_ps == 5.0


def test_rounding_of_times_makes_no_other_lag():
    times = 1e6 + 0.1 * np.arange(50)
    steps = steps_of([times])
    assert steps.note == ""
    assert steps.lag_ps == pytest.approx(0.1)


def test_stretches_of_one_trajectory_are_one_unit(walks):
    series = walks(40, 30)
    times = cumulative_times_ps([2.0, 2.0, 1.0], 39)
    steps = steps_of([times, times[:30]])
    moments = lagged_moments(steps.cut(series), lag_frames=1)
    units = steps.by_trajectory(moments)
    assert units.n_units == 2
    assert units.series_idx.tolist() == [0, 1]
    np.testing.assert_allclose(units.total(), moments.total())
    assert units.sums[:, 0, 0, 0].sum() == steps.n_pairs


def test_one_frame_has_no_step():
    with pytest.raises(ValueError, match="run: expected at least two frames after the start"):
        steps_of([np.zeros(1), np.zeros(0)])
