import numpy as np
import pytest

from tito_fast.data.convert.time_grid import integer_steps, regular_grid


def logarithmic(n_windows, *, window=10_000):
    """Return the steps at which the logarithmic reporter writes: five frames a window."""
    offsets = np.array([1, 10, 100, 1000, 10_000])
    return (np.arange(n_windows)[:, None] * window + offsets).reshape(-1)


def windowed(n_windows, *, window=10_000, seed=0):
    """Return the steps of the windowed reporter: each multiple, and ten at random around it."""
    rng = np.random.default_rng(seed)
    around = np.setdiff1d(np.arange(-100, 100), [0])
    rows = [
        k * window + np.sort(np.append(rng.choice(around, 10, replace=False), 0))
        for k in range(1, n_windows + 1)
    ]
    return np.concatenate(rows)


@pytest.mark.parametrize("n_frames", [2, 3, 500, 5000])
def test_regular_frames_are_all_kept(n_frames):
    grid = regular_grid(7 + 20 * np.arange(n_frames))
    assert grid.spacing_steps == 20
    assert [run.tolist() for run in grid.runs] == [list(range(n_frames))]


@pytest.mark.parametrize("n_windows", [3, 40, 3000])
def test_logarithmic_frames_keep_every_fifth_from_the_first(n_windows):
    grid = regular_grid(logarithmic(n_windows))
    assert grid.spacing_steps == 10_000
    assert [run.tolist() for run in grid.runs] == [list(range(0, 5 * n_windows, 5))]


def test_windowed_frames_keep_the_multiples_of_the_window():
    steps = windowed(60)
    grid = regular_grid(steps)
    assert grid.spacing_steps == 10_000
    (run,) = grid.runs
    assert steps[run].tolist() == [10_000 * k for k in range(1, 61)]


def test_a_missing_frame_splits_the_grid_and_loses_nothing_else():
    steps = np.delete(logarithmic(100), 30 * 5)
    grid = regular_grid(steps)
    # All five grids of the reporter were 100 long; the one with the gap is no longer the longest.
    assert [steps[run][0] for run in grid.runs] == [10]
    grid = regular_grid(np.delete(5 * np.arange(100), 30))
    assert grid.spacing_steps == 5
    assert [run.shape[0] for run in grid.runs] == [30, 69]


def test_a_spacing_that_is_asked_for_is_taken():
    steps = 10 * np.arange(101)
    grid = regular_grid(steps, spacing_steps=30)
    assert grid.spacing_steps == 30
    assert [steps[run].tolist() for run in grid.runs] == [list(range(0, 1001, 30))]


def test_every_run_is_regular_and_in_order():
    rng = np.random.default_rng(2)
    steps = np.sort(rng.choice(2000, 700, replace=False))
    grid = regular_grid(steps)
    assert len(grid.runs) >= 1
    for run in grid.runs:
        assert (np.diff(steps[run]) == grid.spacing_steps).all()
        assert (np.diff(run) > 0).all()
    starts = [run[0] for run in grid.runs]
    assert starts == sorted(starts)


def test_bad_steps_are_refused():
    with pytest.raises(ValueError, match=r"steps: expected rising times, got frame 2 at step 5"):
        regular_grid(np.array([0, 5, 5, 6]))
    with pytest.raises(ValueError, match=r"steps: expected at least two frames, got 1"):
        regular_grid(np.array([0]))
    with pytest.raises(ValueError, match=r"steps: expected frames 7 steps apart, got none"):
        regular_grid(np.array([0, 5, 10]), spacing_steps=7)
    with pytest.raises(ValueError, match=r"spacing_steps: expected at least 1, got 0"):
        regular_grid(np.array([0, 5, 10]), spacing_steps=0)


def test_the_time_of_a_step_comes_from_time_and_step():
    steps = logarithmic(50) + 2_000_000
    found, step_ps = integer_steps(steps * 0.0005, steps)
    assert step_ps == 0.0005
    np.testing.assert_array_equal(found, steps)


def test_without_step_numbers_times_are_counted_in_quanta():
    found, step_ps = integer_steps(np.array([0.0005, 0.005, 5.0005]), None)
    assert (found.tolist(), step_ps) == ([5, 50, 50_005], 1e-4)


def test_time_and_step_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"time: expected 0.5 ps for every step, got 1.5 ps"):
        integer_steps(np.array([0.0, 1.5, 1.0]), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=r"step: expected shape \(3,\) as time, got \(2,\)"):
        integer_steps(np.array([0.0, 1.0, 2.0]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"step: expected at least two rising steps, got 1 frames"):
        integer_steps(np.array([0.0]), np.array([0]))
