"""Metrics of correlation functions of the slowest coordinate and of torsions."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from tito_fast.analysis.baselines import ideal_rollouts
from tito_fast.analysis.comparison import Comparison, Findings
from tito_fast.analysis.correlation import correlation_function, correlation_sums
from tito_fast.analysis.drawn_rollouts import DrawnRollouts
from tito_fast.analysis.features import torsion_features
from tito_fast.analysis.kinetic_metrics import interval_arrays, listed
from tito_fast.analysis.metric import Metric, measure
from tito_fast.analysis.resampling import bootstrap
from tito_fast.analysis.series import Series
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.molecule import FloatArray, IntArray

_MAX_LAGS: Final = 24
_N_LAGS_COMPARED: Final = 5


def correlation_metrics(comparison: Comparison) -> Findings:
    """Return correlation functions of the slowest coordinate and of every torsion."""
    found = Findings(metrics={"correlation_error": Metric(value=None)})
    steps, lag_frames = comparison.steps, comparison.lag_frames
    longest = int((steps.stops - steps.starts).max()) - 1
    in_reference = (max(comparison.reference.n_frames) - 1) // lag_frames
    run_lags = np.arange(min(longest, in_reference, _MAX_LAGS) + 1)
    shared = run_lags * lag_frames
    # Finer at the start, where the reference has frames between the run's.
    fine = np.unique(np.geomspace(1, max(shared[-1], 2), 2 * _MAX_LAGS).astype(np.int64))
    reference_lags = np.unique(np.concatenate([shared, fine[fine <= shared[-1]]]))
    times = {
        "reference": (reference_lags * comparison.interval_ps).tolist(),
        "run": (run_lags * steps.lag_ps).tolist(),
    }
    sections: dict[str, Any] = {"times_ps": times, "tica_1": None, "torsions": []}
    if comparison.slow is not None:
        sides = (
            [one[:, :1] for one in comparison.slow.reference],
            steps.cut([one[:, :1] for one in comparison.slow.run]),
        )
        sums = _correlation_sums(comparison, sides, reference_lags, run_lags)
        sections["tica_1"] = _correlations(comparison, sums)
        n_compared = min(len(run_lags), _N_LAGS_COMPARED + 1)
        columns = np.searchsorted(reference_lags, shared[:n_compared])
        if n_compared > 1:
            short = UnitSums(sums=sums[0].sums[:, columns], series_idx=sums[0].series_idx)
            of_run = UnitSums(sums=sums[1].sums[:, :n_compared], series_idx=sums[1].series_idx)
            found.metrics["correlation_error"] = measure(
                _correlation_error,
                short,
                of_run,
                ideal=_ideal_correlation_error(comparison, sides[0], short.total()),
                bounds=(0.0, np.inf),
                n_resamples=comparison.config.n_resamples,
                seed=comparison.config.seed,
            )
    for column in range(len(comparison.run.torsion_atoms)):
        sides = (
            _torsion_series(comparison.reference.torsion_angles, column),
            steps.cut(_torsion_series(comparison.run.torsion_angles, column)),
        )
        sums = _correlation_sums(comparison, sides, reference_lags, run_lags)
        sections["torsions"].append(_correlations(comparison, sums, n_resamples=None))
    found.arrays["correlations"] = sections
    return found


def _torsion_series(angles: Sequence[Series], column: int) -> list[FloatArray]:
    return [torsion_features(one[:, column : column + 1]) for one in angles]


def _correlation_sums(
    comparison: Comparison,
    sides: tuple[Sequence[Series], Sequence[Series]],
    reference_lags: IntArray,
    run_lags: IntArray,
) -> tuple[UnitSums, UnitSums]:
    reference = correlation_sums(
        sides[0], lags_frames=reference_lags.tolist(), block_frames=comparison.reference_block
    )
    run = correlation_sums(
        sides[1], lags_frames=run_lags.tolist(), block_frames=comparison.run_block
    )
    return reference, comparison.steps.by_trajectory(run)


def _correlations(
    comparison: Comparison, sums: tuple[UnitSums, UnitSums], *, n_resamples: int | None = 0
) -> dict[str, Any]:
    """Return both functions, with intervals unless ``n_resamples`` is None; null where constant."""
    found: dict[str, Any] = {}
    for side, each in zip(("reference", "run"), sums, strict=True):
        try:
            if n_resamples is None:
                found[side] = {"value": listed(correlation_function(each.total()))}
            else:
                interval = bootstrap(
                    correlation_function,
                    each,
                    n_resamples=comparison.config.n_resamples,
                    seed=comparison.config.seed,
                )
                found[side] = interval_arrays(interval)
        except ValueError:
            found[side] = None
    return found


def _correlation_error(reference: FloatArray, run: FloatArray) -> float:
    try:
        difference = correlation_function(run) - correlation_function(reference)
    except ValueError:
        return float("nan")
    return float(np.abs(difference[1:]).mean())


def _ideal_correlation_error(
    comparison: Comparison, reference: Sequence[FloatArray], total: FloatArray
) -> FloatArray:
    """Return the error of rollouts cut from the reference, whose sums at the lags are ``total``."""
    n_lags = len(total)

    def score(rollouts: DrawnRollouts) -> float:
        values = rollouts.take(reference)[..., 0]
        if values.shape[1] < n_lags:
            return float("nan")
        sums = []
        for lag in range(n_lags):
            first, last = values[:, : values.shape[1] - lag].ravel(), values[:, lag:].ravel()
            products = [len(first), np.vdot(first, last), np.vdot(first, first)]
            sums.append([*products, first.sum(), last.sum()])
        return _correlation_error(total, np.array(sums))

    return ideal_rollouts(
        score,
        [len(one) for one in reference],
        lag_frames=comparison.lag_frames,
        **comparison.rollouts,
        seed=comparison.config.seed,
    )
