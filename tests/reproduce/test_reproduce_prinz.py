import numpy as np
import pytest

from tito_fast.reproduce.factor import crossing, data_factor
from tito_fast.reproduce.prinz import (
    Probe,
    exact_correlation,
    prinz_trajectories,
    slowest_timescale,
)
from tito_fast.reproduce.prinz_interpolate import root_on_grid
from tito_fast.systems.equilibrium import equilibrium_cdf
from tito_fast.systems.potentials import PRINZ


def test_trajectories_have_the_exact_density_and_correlations():
    x = prinz_trajectories(3000, 60, seed=1)[..., 0].astype(np.float64)
    edges = np.linspace(-1, 1, 9)
    for frame in (0, 59):
        counts = np.histogram(x[:, frame], edges)[0] / 3000
        expected = np.diff(equilibrium_cdf(PRINZ, edges))
        assert np.abs(counts - expected).max() < 4 * np.sqrt(expected.max() / 3000)
    start, end = x[:, 0] - x[:, 0].mean(), x[:, 50] - x[:, 50].mean()
    found = (start * end).mean() / (start**2).mean()
    assert found == pytest.approx(exact_correlation([50])[0], abs=0.06)


def test_trajectories_start_where_they_are_told_and_follow_their_seed():
    start = np.array([0.75, -0.7, 0.0])
    first, again, other = (prinz_trajectories(3, 5, seed=s, start=start) for s in (1, 1, 2))
    assert first[:, 0, 0] == pytest.approx(start, abs=0.01)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_correlations_fall_by_e_in_the_slowest_time():
    time = slowest_timescale()
    late = exact_correlation([5 * time, 6 * time])
    assert late[1] / late[0] == pytest.approx(np.exp(-1), rel=1e-6)


def test_a_probe_has_the_moments_of_equilibrium_and_of_noise():
    probe = Probe.of(1024, seed=0)
    assert probe.noise.std().item() == pytest.approx(1, abs=0.01)
    ranks = np.sort(equilibrium_cdf(PRINZ, probe.current.double().numpy().ravel()))
    assert np.abs(ranks - (np.arange(1024) + 0.5) / 1024).max() < 0.002


def test_crossing_is_exact_on_a_power_law():
    numbers = [10, 100, 1000]
    errors = 3 * np.array(numbers, dtype=float) ** -0.5
    assert crossing(numbers, errors, 3 * 55**-0.5) == pytest.approx(55)


def test_crossing_says_when_it_lies_outside():
    errors = np.array([[0.3, 0.2], [0.1, 0.1], [0.3, 0.3]])
    assert crossing([10, 100], errors, np.array([0.1, 0.2, 0.1])).tolist() == [np.inf, 0.0, np.inf]


def test_the_factor_of_a_power_law_is_its_offset():
    numbers = [10, 30, 100, 300]
    spread = np.array([0.9, 1.0, 1.1])
    other = np.array(numbers, dtype=float) ** -0.5 * spread[:, None]
    factor = data_factor(10, 80**-0.5 * spread, numbers, other)
    assert factor.k == pytest.approx(8)
    # The same seeds are drawn for both, and here they err alike.
    assert (factor.low, factor.high) == (pytest.approx(8), pytest.approx(8))


def test_a_factor_that_was_not_reached_is_censored():
    other = np.full((3, 2), 0.5)
    factor = data_factor(10, np.full(3, 0.1), [10, 100], other)
    assert factor.text() == ">10 (>10 to >10)"
    assert factor.to_dict()["k"] is None
    assert data_factor(10, np.full(3, 0.9), [10, 100], other).text() == "<1 (<1 to <1)"


def test_factors_check_their_shapes():
    with pytest.raises(ValueError, match=r"other_errors: expected shape \(3, 2\), got \(2, 2\)"):
        data_factor(10, np.ones(3), [1, 2], np.ones((2, 2)))


def test_a_root_is_found_between_points_and_at_the_ends():
    grid = np.geomspace(10, 1000, 9)
    curve = -np.log(grid)
    assert root_on_grid(grid, curve, -np.log(77.0)) == pytest.approx(77)
    assert root_on_grid(grid, curve, 0.0) == 10
    assert root_on_grid(grid, curve, -10.0) == pytest.approx(1000)
