"""Metrics of dynamics: VAMP-2, time scales, transitions, Chapman–Kolmogorov."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.baselines import ideal_kinetic, ideal_rollouts, ideal_transitions
from tito_fast.analysis.chapman_kolmogorov import chapman_kolmogorov, chapman_kolmogorov_error
from tito_fast.analysis.comparison import Comparison, Findings
from tito_fast.analysis.drawn_rollouts import DrawnRollouts
from tito_fast.analysis.markov import (
    States,
    fit_states,
    stationary_distribution,
    transition_counts,
    transition_distance,
    transition_matrix,
)
from tito_fast.analysis.metric import Metric, finite_or_none, measure, measure_all
from tito_fast.analysis.moments import covariances, lagged_moments
from tito_fast.analysis.resampling import Interval, bootstrap
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.analysis.vamp import N_TIMESCALES, fit_vamp, timescale_error, timescales_ps
from tito_fast.data.molecule import FloatArray, IntArray

N_MULTIPLES: Final = 5
"""Multiples of the lag in Chapman–Kolmogorov tests."""

_VAMP: Final = ("vamp2_gap", "vamp2_score_reference", "vamp2_score_model", "timescale_error_top10")


def vamp_metrics(comparison: Comparison) -> Findings:
    """Return the VAMP-2 gap, scores, implied time scales and their error."""
    found = Findings()
    found.metrics = {
        name: Metric(value=None) for name in (*_VAMP, "vamp2_gap_model_minus_reference")
    }
    found.extras["timescale_error_top10"] = {"n_processes": None}
    if comparison.slow is None:
        return found
    steps, lag_frames = comparison.steps, comparison.lag_frames
    run_features = steps.cut(comparison.run.features)
    reference = lagged_moments(
        comparison.reference.features,
        lag_frames=lag_frames,
        block_frames=comparison.reference_block,
    )
    # Blocks of one trajectory; otherwise trajectories are units.
    run = steps.by_trajectory(
        lagged_moments(run_features, lag_frames=1, block_frames=comparison.run_block)
    )
    statistic = _VampStatistic(comparison.reference_lag_ps, steps.lag_ps)
    try:
        statistic.refused(reference.total(), run.total())
    except ValueError as error:
        found.notes.append(f"no VAMP-2 score and no time scales: {error}")
        return found
    config = comparison.config
    names = [*_VAMP, *(f"t{side}{k}" for side in ("reference", "run") for k in range(N_TIMESCALES))]
    ideal = ideal_kinetic(
        statistic,
        comparison.reference.features,
        reference.total(),
        lag_frames=lag_frames,
        **comparison.rollouts,
        seed=config.seed,
    )
    measured = measure_all(
        statistic,
        reference,
        run,
        names=names,
        ideal=ideal,
        bounds={"timescale_error_top10": (0.0, np.inf)} | dict.fromkeys(_VAMP[1:3], (1.0, np.inf)),
        n_resamples=config.n_resamples,
        seed=config.seed,
    )
    found.metrics |= {name: measured[name] for name in _VAMP}
    # The reference's own score knows of no run, and its parts are fitted to themselves.
    found.metrics["vamp2_score_reference"] = replace(
        measured["vamp2_score_reference"], md_floor=None, ideal=None
    )
    gap = measured["vamp2_gap"]
    found.metrics["vamp2_gap_model_minus_reference"] = Metric(
        value=_negative(gap.value),
        low=_negative(gap.high),
        high=_negative(gap.low),
        md_floor=gap.md_floor,
        ideal=_negative(gap.ideal),
    )
    scales = [
        [measured[f"t{side}{k}"] for k in range(N_TIMESCALES)] for side in ("reference", "run")
    ]
    slower = [each.value for each in scales[0] if each.value is not None]
    n_processes = sum(value > comparison.reference_lag_ps for value in slower)
    found.extras["timescale_error_top10"] = {"n_processes": n_processes}
    if not n_processes:
        # What noise in halves makes slower than the lag is no floor of a number that is not there.
        found.metrics["timescale_error_top10"] = Metric(value=None)
        found.notes.append(
            "no process of the reference is slower than the lag: timescale_error_top10 is null"
        )
    found.arrays["timescales_ps"] = {
        side: [{key: one.to_dict()[key] for key in ("value", "low", "high")} for one in each]
        for side, each in zip(("reference", "run"), scales, strict=True)
    }
    return found


class _VampStatistic:
    """Gap, scores, error and time scales of two totals of lagged moments."""

    def __init__(self, reference_lag_ps: float, lag_ps: float) -> None:
        self._reference_lag_ps, self._lag_ps = reference_lag_ps, lag_ps
        self._n = 4 + 2 * N_TIMESCALES

    def __call__(self, reference: FloatArray, run: FloatArray) -> FloatArray:
        try:
            return self.refused(reference, run)
        except ValueError:
            return np.full(self._n, np.nan)

    def refused(self, reference: FloatArray, run: FloatArray) -> FloatArray:
        """Return the numbers; ``ValueError`` where they are undefined."""
        of_reference, of_run = covariances(reference), covariances(run)
        fit, own = fit_vamp(of_reference), fit_vamp(of_run)
        # Its functions are white on the reference itself.
        score_reference = 1.0 + float(np.square(fit.singular_values).sum())
        score_run = fit.score(of_run)
        scales = timescales_ps(fit.singular_values, lag_ps=self._reference_lag_ps)
        run_scales = timescales_ps(own.singular_values, lag_ps=self._lag_ps)
        finite = np.where(np.isfinite(run_scales), run_scales, np.finfo(np.float64).max)
        try:
            error = timescale_error(scales, finite, lag_ps=self._reference_lag_ps).value
        except ValueError:
            error = None
        numbers = [score_reference - score_run, score_reference, score_run]
        numbers.append(np.nan if error is None else error)
        return np.concatenate([numbers, _padded(scales), _padded(run_scales)])


def transition_metrics(comparison: Comparison) -> tuple[Findings, States | None]:
    """Return transition probabilities at the lag, populations, and Chapman–Kolmogorov tests.

    Returns
    -------
    Findings
    States or None
        By which the slow coordinates were cut; None without any.
    """
    found = Findings()
    names = ("transition_distance", "chapman_kolmogorov_error")
    found.metrics = {name: Metric(value=None) for name in names}
    if comparison.slow is None:
        return found, None
    config, steps = comparison.config, comparison.steps
    states = fit_states(comparison.slow.reference, n_states=config.n_states, seed=config.seed)
    reference_states = [states.assign(one) for one in comparison.slow.reference]
    run_states = [states.assign(one) for one in steps.cut(comparison.slow.run)]
    options = {"n_states": config.n_states}
    reference = transition_counts(
        reference_states,
        lag_frames=comparison.lag_frames,
        block_frames=comparison.reference_block,
        **options,
    )
    run = steps.by_trajectory(
        transition_counts(run_states, lag_frames=1, block_frames=comparison.run_block, **options)
    )
    found.metrics["transition_distance"] = measure(
        _distance,
        reference,
        run,
        ideal=ideal_transitions(
            _distance,
            reference_states,
            reference.total(),
            lag_frames=comparison.lag_frames,
            **comparison.rollouts,
            seed=config.seed,
        ),
        bounds=(0.0, 1.0),
        n_resamples=config.n_resamples,
        seed=config.seed,
    )
    found.arrays["transitions"] = _transition_arrays(states, reference, run, comparison)
    _add_chapman_kolmogorov(found, comparison, reference_states, run_states)
    return found, states


def _transition_arrays(
    states: States, reference: UnitSums, run: UnitSums, comparison: Comparison
) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "lag_ps": comparison.steps.lag_ps,
        "centers": states.centers.tolist(),
    }
    for side, counts in (("reference", reference), ("run", run)):
        interval = bootstrap(
            transition_matrix,
            counts,
            bounds=(0.0, 1.0),
            n_resamples=comparison.config.n_resamples,
            seed=comparison.config.seed,
        )
        arrays[side] = interval_arrays(interval)
        arrays[f"stationary_{side}"] = stationary_distribution(
            transition_matrix(counts.total())
        ).tolist()
    return arrays


def _add_chapman_kolmogorov(
    found: Findings,
    comparison: Comparison,
    reference_states: Sequence[IntArray],
    run_states: Sequence[IntArray],
) -> None:
    """Add the test of the run, and of the reference at the same lag beside it."""
    errors, arrays = {}, {}
    ends: tuple[float | None, float | None] = (None, None)
    ideal = None
    sides = (
        ("reference", reference_states, comparison.lag_frames, comparison.reference_block),
        ("run", run_states, 1, comparison.run_block),
    )
    for side, states, lag_frames, block in sides:
        longest = max(len(one) for one in states)
        multiples = [k for k in range(1, N_MULTIPLES + 1) if k * lag_frames < longest]
        if len(multiples) < 2:
            found.notes.append(f"{side}: too few frames for a Chapman–Kolmogorov test")
            continue
        test = chapman_kolmogorov(
            states,
            n_states=comparison.config.n_states,
            lag_frames=lag_frames,
            multiples=multiples,
            block_frames=block,
            seed=comparison.config.seed,
        )
        arrays[side] = {
            "multiples": multiples,
            "estimated": interval_arrays(test.estimated),
            "predicted": interval_arrays(test.predicted),
        }
        difference = np.abs(test.estimated.value - test.predicted.value)[1:]
        if np.isfinite(difference).any():
            errors[side] = float(np.nanmean(difference))
        if side == "run":
            ends, ideal = _chapman_kolmogorov_beside(
                comparison, reference_states, run_states, multiples
            )
    found.arrays["chapman_kolmogorov"] = {"lag_ps": comparison.steps.lag_ps, **arrays}
    found.metrics["chapman_kolmogorov_error"] = Metric(
        value=errors.get("run"),
        low=ends[0],
        high=ends[1],
        md_floor=errors.get("reference"),
        ideal=ideal,
    )


def _chapman_kolmogorov_beside(
    comparison: Comparison,
    reference_states: Sequence[IntArray],
    run_states: Sequence[IntArray],
    multiples: list[int],
) -> tuple[tuple[float | None, float | None], float | None]:
    """Return the interval of the error of the run, and the error of rollouts cut from the reference."""
    n_states, seed = comparison.config.n_states, comparison.config.seed
    each = [
        comparison.steps.by_trajectory(
            transition_counts(
                run_states, n_states=n_states, lag_frames=k, block_frames=comparison.run_block
            )
        )
        for k in multiples
    ]
    units = UnitSums(
        sums=np.stack([one.sums for one in each], axis=1), series_idx=each[0].series_idx
    )

    def error(counts: FloatArray) -> float:
        return chapman_kolmogorov_error(counts, multiples)

    def score(rollouts: DrawnRollouts) -> float:
        states = rollouts.take(reference_states)
        if states.shape[1] <= multiples[-1]:
            return float("nan")
        pairs = [states[:, :-k] * n_states + states[:, k:] for k in multiples]
        counts = [np.bincount(one.ravel(), minlength=n_states * n_states) for one in pairs]
        return error(np.reshape(counts, (-1, n_states, n_states)))

    interval = bootstrap(
        error, units, bounds=(0.0, 1.0), n_resamples=comparison.config.n_resamples, seed=seed
    )
    ideal = ideal_rollouts(
        score,
        [len(one) for one in reference_states],
        lag_frames=comparison.lag_frames,
        **comparison.rollouts,
        seed=seed,
    )
    return (finite_or_none(interval.low), finite_or_none(interval.high)), finite_or_none(ideal)


def _distance(reference: FloatArray, run: FloatArray) -> float:
    try:
        return transition_distance(reference, run)
    except ValueError:
        return float("nan")


def _padded(scales: FloatArray) -> FloatArray:
    kept = scales[:N_TIMESCALES]
    return np.append(kept, np.full(N_TIMESCALES - len(kept), np.nan))


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def interval_arrays(interval: Interval) -> dict[str, Any]:
    """Return an interval as lists, ready for JSON."""
    return {name: listed(getattr(interval, name)) for name in ("value", "low", "high")}


def listed(values: NDArray[Any]) -> list[Any]:
    """Return nested lists of floats, None for what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim > 1:
        return [listed(row) for row in array]
    return [finite_or_none(value) for value in array.tolist()]
