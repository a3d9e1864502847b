"""Spectra of transfer operators against closed forms, and against themselves on other grids."""

from dataclasses import dataclass

import numpy as np
import pytest

from tito_fast.systems import MULLER_BROWN, PRINZ, HarmonicPotential, transfer_spectrum


@dataclass(frozen=True)
class ThreeDimensional:
    n_dims: int = 3


@pytest.fixture(scope="module")
def prinz():
    return transfer_spectrum(PRINZ, lag_time=PRINZ.frame_time)


@pytest.fixture(scope="module")
def muller_brown():
    return transfer_spectrum(MULLER_BROWN, lag_time=1e-3, n_bins=120)


def test_harmonic_rates_are_multiples_of_the_stiffness():
    spectrum = transfer_spectrum(HarmonicPotential(3.0), lag_time=0.1, n_eigenvalues=6)
    np.testing.assert_allclose(spectrum.rates, 3.0 * np.arange(6), rtol=2e-4, atol=1e-9)
    np.testing.assert_allclose(spectrum.eigenvalues, np.exp(-0.3 * np.arange(6)), rtol=2e-4)
    np.testing.assert_allclose(spectrum.timescales, 1 / (3.0 * np.arange(1, 6)), rtol=2e-4)
    # ψ_1 is the first Hermite function: x over its standard deviation.
    x = spectrum.centers[:, 0]
    middle = np.abs(x) < 1.5
    np.testing.assert_allclose(spectrum.eigenfunctions[middle, 1], x[middle] * 3**0.5, atol=2e-3)


def test_harmonic_correlation_decays_with_its_rate():
    spectrum = transfer_spectrum(HarmonicPotential(3.0), lag_time=0.1)
    lags = np.array([0.0, 0.1, 0.5])
    x = spectrum.centers[:, 0]
    np.testing.assert_allclose(spectrum.correlation(x, lags), np.exp(-3 * lags), rtol=2e-4)
    covariance = spectrum.correlation(x, lags, is_normalized=False)
    np.testing.assert_allclose(covariance, np.exp(-3 * lags) / 3, rtol=4e-4)
    both = spectrum.correlation(np.stack((x, x**2), axis=1), lags, is_normalized=False)
    # x² has the variance 2/9 and the second rate.
    np.testing.assert_allclose(both, np.exp(-3 * lags) / 3 + np.exp(-6 * lags) * 2 / 9, rtol=1e-3)


def test_prinz_slowest_eigenvalue_is_the_published_one(prinz):
    # 0.994 for a lag of one frame, doi:10.48550/arXiv.2410.10605; 166.8 frames.
    assert prinz.eigenvalues[1] == pytest.approx(0.99402, abs=1e-5)
    assert prinz.timescales[0] / PRINZ.frame_time == pytest.approx(166.8, abs=0.1)


def test_eigenvalues_converge_with_the_square_of_the_width():
    coarse, middle, fine = (
        transfer_spectrum(PRINZ, lag_time=0.005, n_bins=n, n_eigenvalues=5).rates[1:]
        for n in (250, 500, 1000)
    )
    np.testing.assert_allclose((coarse - middle) / (middle - fine), 4.0, rtol=0.05)
    a, b, c = (
        transfer_spectrum(MULLER_BROWN, lag_time=1e-3, n_bins=n, n_eigenvalues=3).rates[1:]
        for n in (60, 90, 135)
    )
    # The ratio of two differences when the width falls by 2/3.
    np.testing.assert_allclose((a - b) / (b - c), 2.25, rtol=0.25)


@pytest.mark.parametrize("name", ["prinz", "muller_brown"])
def test_eigenfunctions_are_orthonormal_at_equilibrium(name, request):
    spectrum = request.getfixturevalue(name)
    some = spectrum.eigenfunctions[:, :8]
    overlap = some.T @ (spectrum.stationary[:, None] * some)
    np.testing.assert_allclose(overlap, np.eye(some.shape[1]), atol=1e-8)
    np.testing.assert_allclose(some[spectrum.stationary > 1e-6, 0], 1.0, atol=1e-6)
    assert spectrum.stationary.sum() == pytest.approx(1.0)
    assert np.all(np.diff(spectrum.rates) > 0)
    assert spectrum.rates[0] == 0


def test_stationary_probabilities_follow_the_energy(muller_brown):
    energy = MULLER_BROWN.energy(muller_brown.centers)
    ratio = np.log(muller_brown.stationary) + energy / MULLER_BROWN.thermal_energy
    np.testing.assert_allclose(ratio, ratio[0], atol=1e-9)


def test_transition_probabilities_are_a_reversible_markov_chain(prinz):
    once = prinz.transition_probabilities(0.005)
    twice = prinz.transition_probabilities(0.01)
    assert np.all(once >= 0)
    np.testing.assert_allclose(once.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(once @ once, twice, atol=1e-9)
    flux = prinz.stationary[:, None] * once
    np.testing.assert_allclose(flux, flux.T, atol=1e-12)
    late = prinz.transition_probabilities(100.0)
    np.testing.assert_allclose(late, np.broadcast_to(prinz.stationary, late.shape), atol=1e-9)


def test_a_truncated_spectrum_refuses_lags_that_it_cannot_give(muller_brown):
    with pytest.raises(ValueError, match=r"lag_time: expected at least 0\.0\d+ for 10 eigenvalues"):
        muller_brown.transition_probabilities(1e-3)


def test_wrong_arguments_are_named(prinz):
    with pytest.raises(ValueError, match="lag_time: expected a value above zero, got 0"):
        transfer_spectrum(PRINZ, lag_time=0.0)
    with pytest.raises(ValueError, match="lag_time: expected a value above zero, got -1"):
        prinz.transition_probabilities(-1.0)
    with pytest.raises(ValueError, match="n_bins: expected at least 3, got 2"):
        transfer_spectrum(PRINZ, lag_time=1.0, n_bins=2)
    with pytest.raises(ValueError, match=r"n_eigenvalues: expected 2 to \d+.*, got 1"):
        transfer_spectrum(PRINZ, lag_time=1.0, n_eigenvalues=1)
    with pytest.raises(ValueError, match="potential: expected one or two dimensions, got 3"):
        transfer_spectrum(ThreeDimensional(), lag_time=1.0)
    with pytest.raises(ValueError, match=r"observable_values: expected shape \(918,\).*got \(3,\)"):
        prinz.correlation(np.zeros(3), np.zeros(1))
    with pytest.raises(ValueError, match="lag_times: expected shape"):
        prinz.correlation(prinz.centers[:, 0], np.array([-1.0]))
