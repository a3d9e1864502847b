"""Importance weights: they remove a known bias, and say how much they can be trusted."""

import numpy as np
import pytest

from tito_fast.analysis.reweighting import (
    clip_log_weights,
    effective_sample_size,
    free_energy_difference,
    log_weights,
    normalized_weights,
    reduced_energies,
    weighted_mean,
)
from tito_fast.analysis.weighted_profiles import free_energy_profile, weighted_histogram

N = 20_000


def mixture_log_density(x, share):
    """Of two normal densities of standard deviation 0.5 at -1 and 1, the second with ``share``."""
    left, right = (np.exp(-0.5 * ((x - center) / 0.5) ** 2) for center in (-1.0, 1.0))
    return np.log(((1 - share) * left + share * right) / (0.5 * np.sqrt(2 * np.pi)))


def biased_samples(*, model=0.5, target=0.2, seed=0, n=N):
    """Samples of a model with the wrong populations, and their weights for the right ones."""
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(n) < model, 1.0, -1.0) + 0.5 * rng.standard_normal(n)
    weights = log_weights(mixture_log_density(x, model), -mixture_log_density(x, target) + 123.0)
    return x, weights


def test_a_model_equal_to_its_target_has_as_many_effective_samples_as_samples():
    x, _ = biased_samples()
    log_density = mixture_log_density(x, 0.5)
    assert effective_sample_size(log_weights(log_density, -log_density - 7.0)) == pytest.approx(N)


def test_the_effective_sample_size_is_that_of_the_exact_weights():
    # Of normal densities N(0, 1) for N(m, 1): the share is exp(-m²).
    x = np.random.default_rng(0).standard_normal(200_000)
    for shift in (0.3, 0.8):
        weights = log_weights(-0.5 * x**2, 0.5 * (x - shift) ** 2)
        share = effective_sample_size(weights) / len(x)
        assert share == pytest.approx(np.exp(-(shift**2)), rel=0.03)


def test_one_weight_is_one_sample():
    weights = np.full(10, -np.inf)
    weights[3] = 5.0
    assert effective_sample_size(weights) == 1.0
    assert normalized_weights(weights)[3] == 1.0


def test_weights_remove_a_known_bias():
    x, weights = biased_samples()
    exact = 0.2 * 1.0 - 0.8 * 1.0
    plain, corrected = weighted_mean(x, np.zeros(N)), weighted_mean(x, weights)
    assert abs(plain.value - exact) > 20 * plain.standard_error
    assert abs(corrected.value - exact) < 4 * corrected.standard_error
    assert corrected.low < exact < corrected.high
    # Half-widths of 95 % are 1.96 standard errors.
    assert (corrected.high - corrected.low) / 2 == pytest.approx(
        1.96 * corrected.standard_error, rel=0.25
    )


def test_the_standard_error_is_the_scatter_of_repetitions():
    means = [
        weighted_mean(*biased_samples(seed=seed, n=500), n_resamples=20) for seed in range(200)
    ]
    scatter = np.std([each.value for each in means])
    expected = np.mean([each.standard_error for each in means])
    assert scatter == pytest.approx(expected, rel=0.2)


def test_equal_weights_give_plain_averages_of_any_shape():
    values = np.random.default_rng(1).standard_normal((50, 2, 3))
    found = weighted_mean(values, np.full(50, -3.0))
    np.testing.assert_allclose(found.value, values.mean(axis=0))
    np.testing.assert_allclose(found.standard_error, values.std(axis=0) / np.sqrt(50))
    assert found.low.shape == found.high.shape == (2, 3)
    assert (found.low < found.high).all()


def test_huge_energies_are_no_problem_and_constants_do_not_matter():
    _, weights = biased_samples(n=1000)
    for constant in (-1e5, 1e5):
        np.testing.assert_allclose(
            normalized_weights(weights + constant), normalized_weights(weights), rtol=1e-8
        )
    assert log_weights(np.zeros(3), np.array([4e5, 4e5 + 1, np.inf])).tolist() == [0, -1, -np.inf]


def test_samples_without_weight_may_have_any_value():
    found = weighted_mean(np.array([1.0, np.nan]), np.array([0.0, -np.inf]), n_resamples=20)
    assert found.value == 1.0


def test_clipping_makes_the_largest_weights_equal_and_keeps_the_others():
    weights = np.random.default_rng(2).standard_normal(1000) * 3
    clipped = clip_log_weights(weights, share=0.01)
    order = np.argsort(weights)
    assert len(set(clipped[order[-10:]])) == 1
    np.testing.assert_allclose(np.diff(clipped[order[:-9]]), np.diff(weights[order[:-9]]))
    assert effective_sample_size(clipped) > effective_sample_size(weights)
    for share in (0.0, 0.0005):
        unchanged = clip_log_weights(weights, share=share)
        np.testing.assert_allclose(unchanged, weights - weights.max())


def test_free_energy_differences_are_those_of_the_target():
    x, weights = biased_samples()
    # Populations of x < 0 and x > 0: tails overlap by 2.3 %.
    inside = 0.5 * (1 + 0.9544997361036416)
    exact = -np.log((0.2 * inside + 0.8 * (1 - inside)) / (0.8 * inside + 0.2 * (1 - inside)))
    found = free_energy_difference(x < 0, x > 0, weights)
    assert abs(found.value - exact) < 4 * found.standard_error
    assert found.standard_error < 0.05
    assert found.low < exact < found.high
    unweighted = free_energy_difference(x < 0, x > 0, np.zeros(N))
    assert abs(unweighted.value) < 0.1


def test_the_error_of_a_difference_is_the_scatter_of_repetitions():
    found = [
        free_energy_difference(x < 0, x > 0, weights, n_resamples=20)
        for x, weights in (biased_samples(seed=seed, n=1000) for seed in range(150))
    ]
    scatter = np.std([each.value for each in found])
    assert scatter == pytest.approx(np.mean([each.standard_error for each in found]), rel=0.2)


EDGES = np.linspace(-2.5, 2.5, 26)


def test_histograms_are_those_of_the_target():
    x, weights = biased_samples()
    found = weighted_histogram(x, weights, edges=EDGES)
    fine = np.linspace(-2.5, 2.5, 2501)
    density = np.exp(mixture_log_density((fine[:-1] + fine[1:]) / 2, 0.2))
    exact = density.reshape(25, -1).mean(axis=1)
    assert (np.abs(found.value - exact) < 4.5 * found.standard_error).all()
    assert ((found.low <= exact) & (exact <= found.high)).mean() > 0.8
    # As the mean of indicators is.
    inside = ((x >= EDGES[7]) & (x < EDGES[8])).astype(float)
    indicator = weighted_mean(inside, weights)
    width = EDGES[8] - EDGES[7]
    np.testing.assert_allclose(found.value[7] * width, indicator.value)
    np.testing.assert_allclose(found.standard_error[7] * width, indicator.standard_error)


def test_what_is_outside_of_the_bins_keeps_its_probability():
    found = weighted_histogram(np.array([0.0, 1.0, 2.0, 9.0]), np.zeros(4), edges=np.arange(3.0))
    assert found.value.tolist() == [0.25, 0.5]


@pytest.mark.parametrize("bandwidth", [None, 0.1])
def test_free_energy_profiles_are_those_of_the_target(bandwidth):
    x, weights = biased_samples()
    found = free_energy_profile(x, weights, edges=EDGES, bandwidth=bandwidth)
    std = np.hypot(0.5, bandwidth or 0.2 / np.sqrt(12))
    exact = -np.log(
        sum(
            share * np.exp(-0.5 * ((found.centers - center) / std) ** 2)
            for share, center in ((0.8, -1.0), (0.2, 1.0))
        )
    )
    exact -= exact.min()
    assert found.free_energy.min() == 0.0
    near = exact < 3
    standard_error = (found.high - found.low) / (2 * 1.96)
    assert (np.abs(found.free_energy - exact) < 4 * standard_error)[near].all()
    assert standard_error[near].max() < 0.2
    assert ((found.low <= exact + 0.05) & (exact - 0.05 <= found.high))[near].mean() > 0.8
    assert (found.low <= found.free_energy)[near].all()


def test_a_periodic_profile_does_not_know_where_the_turn_begins():
    rng = np.random.default_rng(3)
    angles = 0.4 * rng.standard_normal(500) + np.pi
    options = {"bandwidth": 0.2, "period": 2 * np.pi, "n_resamples": 20}
    edges = np.linspace(-np.pi, np.pi, 37)
    one = free_energy_profile(angles, np.zeros(500), edges=edges, **options)
    wrapped = (angles + np.pi) % (2 * np.pi) - np.pi
    other = free_energy_profile(wrapped, np.zeros(500), edges=edges, **options)
    np.testing.assert_allclose(one.free_energy, other.free_energy, rtol=1e-7)
    np.testing.assert_allclose(one.free_energy[0], one.free_energy[-1], atol=0.2)


def test_empty_bins_are_infinitely_high():
    found = free_energy_profile(np.array([0.5]), np.zeros(1), edges=np.arange(3.0))
    assert found.free_energy.tolist() == [0.0, np.inf]
    assert np.isnan(found.high[1])


def test_reduced_energies_are_in_kt():
    # kT is 2.494 kJ/mol at 300 K.
    assert reduced_energies(np.array([2.4943387854]), 300.0)[0] == pytest.approx(1.0, rel=1e-8)


ZEROS = np.zeros(4)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: log_weights(ZEROS, np.zeros(3)), r"reduced_energies: expected shape \(4,\)"),
        (lambda: log_weights(ZEROS - np.inf, ZEROS), "log_density: expected finite values"),
        (
            lambda: log_weights(ZEROS, np.array([0, 0, np.nan, -np.inf])),
            "reduced_energies: .* minus infinity for 2 samples",
        ),
        (lambda: log_weights(ZEROS, ZEROS + np.inf), "expected a weight above zero, got none"),
        (lambda: reduced_energies(ZEROS, 0.0), "temperature_k: expected"),
        (lambda: normalized_weights(np.zeros((2, 2))), r"log_weights: expected shape"),
        (lambda: normalized_weights(ZEROS + np.nan), "log_weights: expected numbers below"),
        (lambda: effective_sample_size(np.zeros(0)), "expected a weight above zero"),
        (lambda: clip_log_weights(ZEROS, share=1.0), "share: expected 0 or more"),
        (lambda: weighted_mean(np.zeros(3), ZEROS), r"values: expected shape \(4, ...\)"),
        (lambda: weighted_mean(ZEROS + np.nan, ZEROS), "values: expected finite values"),
        (lambda: weighted_mean(ZEROS, ZEROS, n_resamples=5), "n_resamples: expected at least 20"),
        (
            lambda: free_energy_difference(ZEROS > 0, ZEROS == 0, ZEROS),
            "in_a: expected samples with a weight",
        ),
        (lambda: free_energy_difference(ZEROS, ZEROS == 0, ZEROS), "in_a: expected bools"),
        (lambda: weighted_histogram(ZEROS, ZEROS, edges=ZEROS), "edges: expected two or more"),
        (
            lambda: weighted_histogram(np.zeros(3), ZEROS, edges=EDGES),
            r"values: expected shape \(4,\)",
        ),
        (
            lambda: weighted_histogram(ZEROS + np.inf, ZEROS, edges=EDGES),
            "values: expected finite values",
        ),
        (
            lambda: free_energy_profile(ZEROS, ZEROS, edges=EDGES, period=6.0),
            "period: expected None without a bandwidth",
        ),
        (
            lambda: free_energy_profile(ZEROS, ZEROS, edges=EDGES, bandwidth=0.0),
            "bandwidth: expected",
        ),
        (
            lambda: free_energy_profile(ZEROS, ZEROS, edges=EDGES + 50),
            "edges: expected a sample between them",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
