import math

import numpy as np
import pytest

from tito_fast.analysis.interpolation import Observables, Target, fit_interpolation

DECAY = 0.99
LAGS = np.array([0.5, 1.0, 2.0])
TRUTH = 120.0


def exact(n_int):
    """Return correlations of a two-state process and its relaxation rate, without noise."""
    correlations = DECAY ** (n_int * LAGS)
    return Observables(samples=np.append(correlations, -n_int * math.log(DECAY))[None, :])


def ornstein_uhlenbeck(n_samples, seed):
    """Return a model that samples pairs of an exactly known process with common random numbers."""
    start, noise = np.random.default_rng(seed).standard_normal((2, n_samples))

    def observables(n_int):
        correlation = DECAY**n_int
        end = correlation * start + math.sqrt(1 - correlation**2) * noise
        return Observables(
            samples=np.stack([start * end, start**2, end**2], axis=1),
            estimate=lambda m: m[..., :1] / np.sqrt(m[..., 1:2] * m[..., 2:]),
        )

    return observables


def targets_of(values, errors, rng=None):
    noise = np.zeros(len(values)) if rng is None else rng.standard_normal(len(values)) * errors
    return [Target(value=v, standard_error=e) for v, e in zip(values + noise, errors, strict=True)]


def test_a_held_back_interpolation_is_recovered():
    values = exact(TRUTH).values()
    fit = fit_interpolation(exact, targets_of(values, 0.01 * values), bounds=(1.0, 2000.0))
    assert fit.n_int == pytest.approx(TRUTH, rel=1e-3)
    assert fit.chi_square < 1e-2
    assert fit.low < TRUTH < fit.high
    assert fit.n_degrees_of_freedom == 3
    assert not fit.is_at_bound
    assert fit.n_evaluations < 40


def test_the_interval_covers_the_truth_in_the_stated_share_of_repeats():
    rng = np.random.default_rng(1)
    values, errors = exact(TRUTH).values(), np.array([0.03, 0.02, 0.02, 0.1])
    n_repeats, n_covered, pulls = 100, 0, []
    for repeat in range(n_repeats):
        targets = targets_of(values, errors, rng)
        fit = fit_interpolation(exact, targets, bounds=(20.0, 800.0), n_resamples=150, seed=repeat)
        n_covered += fit.low < TRUTH < fit.high
        pulls.append((fit.n_int - TRUTH) / fit.standard_error)
    # 95 of 100; a correct interval is outside these limits once in a thousand times.
    assert 87 <= n_covered <= 100
    assert 0.8 < np.std(pulls) < 1.25


def test_samples_of_the_model_add_their_own_uncertainty():
    rng = np.random.default_rng(2)
    n_covered, widths, errors = 0, [], []
    for repeat in range(60):
        targets = targets_of(np.array([DECAY**TRUTH]), np.array([0.005]), rng)
        model = ornstein_uhlenbeck(400, seed=repeat)
        fit = fit_interpolation(model, targets, bounds=(20.0, 800.0), n_resamples=100, seed=repeat)
        n_covered += fit.low < TRUTH < fit.high
        widths.append(fit.high - fit.low)
        errors.append(fit.standard_error)
    assert 50 <= n_covered <= 60
    # Curvature knows the target's uncertainty alone, which is small here.
    assert np.median(widths) > 2 * 3.92 * np.median(errors)


def test_more_precise_targets_weigh_more():
    wrong, right = exact(60.0).values()[1], exact(TRUTH).values()[0]

    def two(n_int):
        return Observables(samples=exact(n_int).samples[:, [1, 0]])

    for errors, expected in (((0.5, 0.001), TRUTH), ((0.001, 0.5), 60.0)):
        fit = fit_interpolation(
            two, targets_of(np.array([wrong, right]), np.array(errors)), bounds=(1.0, 2000.0)
        )
        assert fit.n_int == pytest.approx(expected, rel=0.02)


def test_targets_out_of_reach_end_at_a_bound():
    fit = fit_interpolation(
        lambda n: Observables(samples=np.array([[DECAY**n]])),
        [Target(value=0.9999, standard_error=0.001)],
        bounds=(10.0, 100.0),
    )
    assert fit.is_at_bound
    assert fit.n_int == pytest.approx(10.0, rel=2e-3)


def test_observables_that_do_not_depend_on_it_leave_it_open():
    fit = fit_interpolation(
        lambda _: Observables(samples=np.ones((1, 1))),
        [Target(value=1.1, standard_error=0.1)],
        bounds=(10.0, 100.0),
    )
    assert fit.standard_error == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: fit_interpolation(exact, t, bounds=(0.0, 5.0)), "bounds: expected 0 < low"),
        (lambda _: fit_interpolation(exact, [], bounds=(1.0, 5.0)), "targets: expected at least"),
        (
            lambda t: fit_interpolation(exact, t[:1], bounds=(1.0, 5.0)),
            r"model_observables: expected 1 observables .* got shape \(4,\)",
        ),
        (
            lambda t: fit_interpolation(exact, t, bounds=(1.0, 5.0), n_resamples=1),
            "n_resamples: expected at least 2, got 1",
        ),
        (
            lambda t: fit_interpolation(
                lambda n: Observables(samples=np.ones((1 + int(n > 2), 4))), t, bounds=(1.0, 5.0)
            ),
            r"model_observables: expected samples of shape \(1, 4\) at every call, got \(2, 4\)",
        ),
        (
            lambda t: fit_interpolation(
                lambda _: Observables(samples=np.ones((1, 4)), estimate=lambda m: m * np.nan),
                t,
                bounds=(1.0, 5.0),
            ),
            "model_observables: expected finite observables at 1, got",
        ),
        (lambda _: Observables(samples=np.ones(3)), r"samples: expected shape \(n_samples"),
        (lambda _: Observables(samples=np.full((1, 1), np.nan)), "samples: expected finite"),
        (lambda _: Target(value=math.nan, standard_error=1.0), "value: expected a finite number"),
        (lambda _: Target(value=1.0, standard_error=0.0), "standard_error: expected a value above"),
    ],
)
def test_values_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call(targets_of(np.ones(4), np.ones(4)))


def test_a_model_that_draws_anew_at_every_call_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="expected the same samples from two calls"):
        fit_interpolation(
            lambda _: Observables(samples=rng.standard_normal((5, 1))),
            [Target(value=0.0, standard_error=1.0)],
            bounds=(1.0, 2.0),
        )
