"""Equilibrium samples follow the Boltzmann density."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from tito_fast.systems import (
    MULLER_BROWN,
    PRINZ,
    HarmonicPotential,
    equilibrium_cdf,
    equilibrium_samples,
)


@dataclass(frozen=True)
class ThreeDimensional:
    n_dims: int = 3


def test_distribution_function_is_the_integral_of_the_density():
    def density(x):
        return np.exp(-PRINZ.energy(np.array([[x]])))[0]

    edges = [-1.4, -0.7, -0.45, 0.0, 0.2, 0.7, 1.4]
    pieces = [quad(density, a, b, epsabs=1e-13)[0] for a, b in pairwise(edges)]
    expected = np.concatenate(([0.0], np.cumsum(pieces))) / sum(pieces)
    np.testing.assert_allclose(equilibrium_cdf(PRINZ, np.array(edges)), expected, atol=1e-8)
    x = np.linspace(-2, 2, 41)
    normal = stats.norm(scale=0.5).cdf(x)
    np.testing.assert_allclose(equilibrium_cdf(HarmonicPotential(4.0), x), normal, atol=1e-8)


@pytest.mark.parametrize("potential", [PRINZ, HarmonicPotential(4.0)], ids=["prinz", "harmonic"])
def test_samples_follow_the_distribution_function(potential):
    x = equilibrium_samples(potential, 100_000, seed=3)
    assert x.shape == (100_000, 1)
    assert stats.kstest(x[:, 0], lambda v: equilibrium_cdf(potential, v)).pvalue > 1e-3


def test_samples_in_two_dimensions_follow_both_marginals():
    x = equilibrium_samples(MULLER_BROWN, 100_000, seed=5)
    sides = [np.linspace(low, high, 601) for low, high in MULLER_BROWN.bounds]
    grid = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)
    energy = MULLER_BROWN.energy(grid.reshape(-1, 2)).reshape(601, 601)
    density = np.exp(-(energy - energy.min()) / MULLER_BROWN.thermal_energy)
    for dim in (0, 1):
        marginal = np.cumsum(density.sum(axis=1 - dim))
        middles = sides[dim] + (sides[dim][1] - sides[dim][0]) / 2
        cdf = lambda v, m=marginal / marginal[-1], e=middles: np.interp(v, e, m)  # noqa: E731
        assert stats.kstest(x[:, dim], cdf).pvalue > 1e-3
    product = (density / density.sum()).ravel() @ np.prod(grid.reshape(-1, 2), axis=1)
    sampled = np.prod(x, axis=1)
    assert abs(sampled.mean() - product) < 4 * sampled.std() / np.sqrt(len(x))


@pytest.mark.parametrize("potential", [PRINZ, MULLER_BROWN], ids=["prinz", "muller-brown"])
def test_a_longer_draw_begins_with_a_shorter_one(potential):
    longer = equilibrium_samples(potential, 100, seed=7)
    assert np.array_equal(longer[:37], equilibrium_samples(potential, 37, seed=7))
    assert not np.array_equal(longer, equilibrium_samples(potential, 100, seed=8))
    assert equilibrium_samples(potential, 0, seed=7).shape == (0, potential.n_dims)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="n: expected at least 0, got -1"):
        equilibrium_samples(PRINZ, -1, seed=0)
    with pytest.raises(ValueError, match=r"seed: expected 0 to 2\*\*64 - 1, got -1"):
        equilibrium_samples(PRINZ, 1, seed=-1)
    with pytest.raises(ValueError, match="potential: expected one dimension, got 2"):
        equilibrium_cdf(MULLER_BROWN, np.zeros(1))
    with pytest.raises(ValueError, match="potential: expected one or two dimensions, got 3"):
        equilibrium_samples(ThreeDimensional(), 1, seed=0)
