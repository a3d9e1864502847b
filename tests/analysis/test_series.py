"""Lags in frames, and how trajectories are cut into units."""

import numpy as np
import pytest

from tito_fast.analysis.series import check_lag, check_series, chunk_slices, lag_in_frames
from tito_fast.analysis.unit_sums import UnitSums, units_of


def test_lags_are_whole_numbers_of_frames():
    assert lag_in_frames(100.0, interval_ps=1.0) == 100
    assert lag_in_frames(0.3, interval_ps=0.1) == 3
    with pytest.raises(
        ValueError, match=r"lag_ps: expected a whole number of frames 2\.0 ps apart"
    ):
        lag_in_frames(3.0, interval_ps=2.0)
    with pytest.raises(ValueError, match="lag_ps: expected a whole number of frames"):
        lag_in_frames(0.5, interval_ps=1.0)
    with pytest.raises(ValueError, match="interval_ps: expected above 0, got 0"):
        lag_in_frames(1.0, interval_ps=0)


def test_series_are_checked_by_name():
    assert check_series([np.zeros((2, 3)), np.zeros((0, 3))]) == 3
    assert check_series(np.zeros((4, 2, 3))) == 3
    with pytest.raises(ValueError, match="reference: expected at least one trajectory, got none"):
        check_series([], name="reference")
    with pytest.raises(ValueError, match=r"series: expected shape \(n_frames, n_features\), got"):
        check_series(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="series: expected 3 features as in the first, got 2"):
        check_series([np.zeros((2, 3)), np.zeros((2, 2))])
    with pytest.raises(ValueError, match="series: expected at least one feature, got none"):
        check_series([np.zeros((2, 0))])
    with pytest.raises(ValueError, match="series: expected at least one frame, got none"):
        check_series([np.zeros((0, 2))])
    with pytest.raises(ValueError, match="reference: expected more than 5 frames for a lag of 5"):
        check_lag([np.zeros((5, 1)), np.zeros((2, 1))], 5, name="reference")
    with pytest.raises(ValueError, match="lag_frames: expected at least 1, got 0"):
        check_lag([np.zeros((5, 1))], 0)


def test_chunks_cover_every_frame_once():
    slices = list(chunk_slices(3, 40, n_features=1 << 17))
    assert max(one.stop - one.start for one in slices) == 8
    assert np.concatenate([np.r_[one] for one in slices]).tolist() == list(range(3, 40))


@pytest.mark.parametrize(
    ("block_frames", "expected"),
    [
        (None, [(0, 0, 10), (1, 0, 0), (2, 0, 3)]),
        (4, [(0, 0, 4), (0, 4, 8), (0, 8, 10), (1, 0, 0), (2, 0, 3)]),
        (7, [(0, 0, 10), (1, 0, 0), (2, 0, 3)]),
    ],
)
def test_units_are_trajectories_or_blocks_of_them(block_frames, expected):
    units = units_of([10, 0, 3], block_frames=block_frames)
    assert [(unit.series_idx, unit.start, unit.stop) for unit in units] == expected


def test_totals_count_units_as_often_as_they_are_drawn():
    sums = np.arange(24).reshape(3, 2, 4)
    units = UnitSums(sums=sums, series_idx=np.arange(3))
    weights = np.array([[0, 2, 1], [3, 0, 0]])
    np.testing.assert_array_equal(units.total(), sums.sum(axis=0))
    np.testing.assert_array_equal(units.total(weights)[0], 2 * sums[1] + sums[2])
    np.testing.assert_array_equal(units.total(weights[1]), 3 * sums[0])
    with pytest.raises(ValueError, match="series_idx: expected one for each of 3 units"):
        UnitSums(sums=sums, series_idx=np.arange(2))
    with pytest.raises(ValueError, match="block_frames: expected at least 1, got 0"):
        units_of([3], block_frames=0)
