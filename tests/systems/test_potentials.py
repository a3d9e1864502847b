"""Potentials are their formulas, and forces their slopes."""

import numpy as np
import pytest

from tito_fast.systems import (
    MULLER_BROWN,
    PRINZ,
    HarmonicPotential,
    MullerBrownPotential,
    PrinzPotential,
)

POTENTIALS = [PRINZ, MULLER_BROWN, HarmonicPotential(3.0)]
KINDS = [type(potential).__name__ for potential in POTENTIALS]


@pytest.mark.parametrize("potential", POTENTIALS, ids=KINDS)
def test_force_is_minus_the_slope_of_the_energy(potential):
    rng = np.random.default_rng(0)
    low, high = np.array(potential.bounds).T
    x = low + (high - low) * rng.random((200, potential.n_dims)) * 0.8
    step = 1e-5
    for dim in range(potential.n_dims):
        shift = step * np.eye(potential.n_dims)[dim]
        slope = (potential.energy(x + shift) - potential.energy(x - shift)) / (2 * step)
        force = potential.force(x)[:, dim]
        np.testing.assert_allclose(force, -slope, rtol=1e-6, atol=1e-6 * np.abs(force).max())


def test_prinz_wells_lie_where_published():
    minima = np.array([[-0.7394], [-0.2237], [0.2691], [0.6733]])
    assert np.all(np.abs(PRINZ.force(minima)) < 0.05)
    assert np.all(PRINZ.energy(minima) < PRINZ.energy(minima + 0.02))
    assert np.all(PRINZ.energy(minima) < PRINZ.energy(minima - 0.02))
    assert PRINZ.frame_time == pytest.approx(0.005)


def test_muller_brown_stationary_points_have_their_published_energies():
    # Three minima, then the two saddles between them.
    points = np.array(
        [[-0.558, 1.442], [0.623, 0.028], [-0.050, 0.467], [-0.822, 0.624], [0.212, 0.293]]
    )
    energies = [-146.70, -108.17, -80.77, -40.66, -72.25]
    np.testing.assert_allclose(MULLER_BROWN.energy(points), energies, atol=0.01)
    assert np.all(np.abs(MULLER_BROWN.force(points)) < 3)


@pytest.mark.parametrize("potential", POTENTIALS, ids=KINDS)
def test_nothing_of_weight_lies_outside_the_bounds(potential):
    sides = [np.linspace(low, high, 301) for low, high in potential.bounds]
    grid = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)
    energy = potential.energy(grid.reshape(-1, potential.n_dims)).reshape(grid.shape[:-1])
    inside = energy.min()
    for dim in range(potential.n_dims):
        border = np.take(energy, [0, -1], axis=dim).min()
        assert (border - inside) / potential.thermal_energy > 29


def test_potentials_of_equal_values_are_equal():
    assert PrinzPotential() == PRINZ
    assert MullerBrownPotential(thermal_energy=15.0) != MULLER_BROWN
    assert {PRINZ: 1}[PrinzPotential()] == 1


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 1\), got \(3,\)"):
        PRINZ.energy(np.zeros(3))
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 2\), got \(3, 1\)"):
        MULLER_BROWN.force(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="stiffness: expected a value above zero, got -1"):
        HarmonicPotential(-1.0)
    for thermal_energy in (0.0, 26.0, np.nan):
        with pytest.raises(ValueError, match=f"thermal_energy: expected .*got {thermal_energy:g}"):
            MullerBrownPotential(thermal_energy=thermal_energy)
