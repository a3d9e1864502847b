"""Divergences in the plane of slow coordinates: two Gaussians, and the authors' histogram."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from tito_fast.analysis.divergence import (
    coverage_precision,
    fit_grid,
    grid_counts,
    histogram_counts,
    jsd_tica,
    jsd_tica_authors,
    torsion_counts,
)
from tito_fast.data.torsions import jsd, torsion_jsd


def gaussian_jsd(shift):
    def part(x, center, other):
        p, q = norm.pdf(x, center), norm.pdf(x, other)
        return 0.5 * p * np.log(2 * p / (p + q))

    terms = [
        quad(part, -8, 8 + shift, args=ends, limit=200)[0] for ends in ((0, shift), (shift, 0))
    ]
    return sum(terms)


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_two_gaussians_have_the_divergence_of_the_integral(shift):
    rng = np.random.default_rng(0)
    reference = [rng.standard_normal((300_000, 2))]
    model = [rng.standard_normal((300_000, 2)) + np.array([shift, 0])]
    grid = fit_grid(reference, n_bins=30)
    counts = [grid_counts(series, grid).total() for series in (reference, model)]
    # Bins blur a little, finite counts add a little.
    np.testing.assert_allclose(jsd_tica(*counts), gaussian_jsd(shift), rtol=0.03)
    # The sum over bins is exact: of the probabilities of the bins, and one for the outside.
    along = [np.diff(norm.cdf(edges)) for edges in grid.edges]
    moved = [np.diff(norm.cdf(grid.edges[0] - shift)), along[1]]
    exact = [np.outer(*pair).ravel() for pair in (along, moved)]
    exact = [np.append(one, 1 - one.sum()) for one in exact]
    noise = np.count_nonzero(counts[0] + counts[1]) / 8 * 2 / 300_000
    np.testing.assert_allclose(jsd_tica(*counts), jsd(*exact), atol=3 * noise)


def test_the_authors_histogram_is_that_of_numpy():
    rng = np.random.default_rng(1)
    reference = [rng.standard_normal((4000, 2)), rng.standard_normal((63, 2))]
    model = [1.3 * rng.standard_normal((500, 3))]
    grid = fit_grid(reference, n_bins=100)
    counts = [grid_counts(series, grid).total() for series in (reference, model)]
    joined = np.concatenate(reference)
    p, *edges = np.histogram2d(*joined.T, bins=100)
    limits = [[axis[0], axis[-1]] for axis in edges]
    q, *_ = np.histogram2d(*model[0][:, :2].T, bins=100, range=limits)
    np.testing.assert_array_equal(counts[0][:-1].reshape(100, 100), p)
    np.testing.assert_array_equal(counts[1][:-1].reshape(100, 100), q)
    assert counts[0][-1] == 0
    assert counts[1][-1] == 500 - q.sum() > 0
    np.testing.assert_allclose(jsd_tica_authors(*counts), jsd(p.ravel(), q.ravel()))
    # What lies outside counts as wrong in ours and is dropped in theirs.
    assert jsd_tica(*counts) > jsd_tica_authors(*counts)


def test_no_overlap_is_the_logarithm_of_two():
    reference, model = np.array([3.0, 1, 0]), np.array([0.0, 0, 7])
    np.testing.assert_allclose(jsd_tica(reference, model), np.log(2))
    np.testing.assert_allclose(jsd_tica_authors(reference, model), np.log(2))
    both = jsd_tica_authors(np.stack([reference] * 2), np.stack([model, reference]))
    np.testing.assert_allclose(both, [np.log(2), 0.0])


def test_counts_per_unit_add_up_and_ranges_are_of_all_trajectories():
    rng = np.random.default_rng(2)
    series = [rng.standard_normal((100, 2)), 2 * rng.standard_normal((41, 2)), np.zeros((0, 2))]
    grid = fit_grid(series, n_bins=7)
    whole = grid_counts(series, grid)
    blocks = grid_counts(series, grid, block_frames=10)
    assert whole.sums.sum(axis=1).tolist() == [100, 41, 0]
    assert whole.sums[:, -1].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(blocks.total(), whole.total())
    assert blocks.n_units == 10 + 4 + 1


def test_torsion_counts_are_those_of_torsion_jsd():
    rng = np.random.default_rng(3)
    a, b = (rng.uniform(-np.pi, np.pi, (n, 3)) for n in (129, 63))
    counts_a = torsion_counts([a[:70], a[70:]], block_frames=20)
    counts_b = torsion_counts([b])
    assert counts_a.sums.dtype == np.int64
    assert counts_a.sums.sum() == a.size
    np.testing.assert_allclose(jsd(counts_a.total(), counts_b.total()), torsion_jsd(a, b))


def test_values_outside_of_the_edges_are_counted_in_bins_of_their_own():
    values = [np.array([-1.0, 0.0, 0.5, 1.0]), np.array([2.0, 3.0, 2.5, 0.0])]
    edges = np.array([0.0, 1.0, 2.0])
    assert histogram_counts(values, edges).sums.tolist() == [[1, 2, 1, 0], [0, 1, 1, 2]]
    blocks = histogram_counts(values, edges, block_frames=2)
    assert blocks.sums.sum(axis=1).tolist() == [2] * 4
    with pytest.raises(
        ValueError, match="edges: expected at least two ascending numbers, got others"
    ):
        histogram_counts(values, edges[::-1])
    with pytest.raises(ValueError, match="values: expected finite numbers, got NaN"):
        histogram_counts([np.array([np.nan])], edges)


def test_coverage_and_precision_are_shares_on_bins_that_both_fill():
    reference, model = np.array([4.0, 3, 2, 1, 0]), np.array([0.0, 5, 5, 0, 10])
    coverage, precision = coverage_precision(reference, model)
    assert coverage == 0.5
    assert precision == 0.5
    same = coverage_precision(reference, reference)
    assert same.coverage == same.precision == 1.0
    apart = coverage_precision(np.array([1.0, 0]), np.array([0.0, 1]))
    assert apart.coverage == apart.precision == 0.0


def test_bad_input_is_refused():
    points = np.random.default_rng(4).standard_normal((9, 2))
    grid = fit_grid([points])
    with pytest.raises(ValueError, match="reference: expected two coordinates, got 1"):
        fit_grid([points[:, :1]])
    with pytest.raises(
        ValueError, match="reference: expected two coordinates that vary and are fin"
    ):
        fit_grid([points * [1, 0]])
    with pytest.raises(ValueError, match="n_bins: expected at least 1, got 0"):
        fit_grid([points], n_bins=0)
    with pytest.raises(ValueError, match="series: expected two coordinates, got 1"):
        grid_counts([points[:, :1]], grid)
    with pytest.raises(ValueError, match="points: expected finite coordinates, got NaN"):
        grid_counts([points * np.nan], grid)
    with pytest.raises(ValueError, match=r"model: expected the shape of reference, \(3,\), got"):
        coverage_precision(np.ones(3), np.ones(2))
    with pytest.raises(
        ValueError, match="model: expected frames in the reference and in the model"
    ):
        coverage_precision(np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match="angles: expected 2 features as in the first, got 3"):
        torsion_counts([points, np.zeros((2, 3))])
