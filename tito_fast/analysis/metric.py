"""A metric with the numbers that it must be read beside."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tito_fast.analysis.baselines import md_floor
from tito_fast.analysis.resampling import N_RESAMPLES, Statistic, bootstrap
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.molecule import FloatArray


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of an evaluation; None where it is undefined.

    Parameters
    ----------
    value : float or None
    low, high : float or None
        95 % interval by resampling units.
    md_floor : float or None
        The metric of the reference against itself: replicates, or halves of one trajectory.
    ideal : float or None
        What an exact sampler with as many frames as the model would score.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    md_floor: float | None = None
    ideal: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Return the five numbers, ready for JSON."""
        return asdict(self)


def measure(
    statistic: Statistic,
    reference: UnitSums,
    model: UnitSums,
    *,
    ideal: FloatArray | float | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Metric:
    """Return a metric with its interval and its noise floor.

    Parameters
    ----------
    statistic : callable
        Of two totals; a number, NaN where it is undefined.
    reference, model : UnitSums
    ideal : float or ndarray, shape (), optional
        Of :func:`~tito_fast.analysis.baselines.ideal_static` or ``ideal_kinetic``.
    bounds : tuple of float
        What the statistic can be at all.
    n_resamples, seed : int

    Returns
    -------
    Metric
    """
    interval = bootstrap(
        statistic, reference, model, bounds=bounds, n_resamples=n_resamples, seed=seed
    )
    return Metric(
        value=finite_or_none(interval.value),
        low=finite_or_none(interval.low),
        high=finite_or_none(interval.high),
        md_floor=finite_or_none(md_floor(statistic, reference, seed=seed).value),
        ideal=finite_or_none(ideal),
    )


def measure_all(
    statistic: Statistic,
    reference: UnitSums,
    model: UnitSums,
    *,
    names: Sequence[str],
    ideal: FloatArray | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, Metric]:
    """Return several metrics of the same totals, in one pass over resamples.

    Parameters
    ----------
    statistic : callable
        Of two totals; an array with one number for each of ``names``, NaN where it is undefined, also
        where the totals allow none of them.
    reference, model : UnitSums
    names : sequence of str
    ideal : ndarray, shape (n_names,), optional
    bounds : mapping, optional
        What a metric can be at all, by name.
    n_resamples, seed : int

    Returns
    -------
    dict of Metric, by name
    """
    interval = bootstrap(statistic, reference, model, n_resamples=n_resamples, seed=seed)
    floor = md_floor(statistic, reference, seed=seed).value
    if floor is not None:
        # One NaN where parts are too short for all of them.
        floor = np.broadcast_to(floor, (len(names),))
    found = {}
    for row, name in enumerate(names):
        low, high = (bounds or {}).get(name, (-np.inf, np.inf))
        found[name] = Metric(
            value=finite_or_none(interval.value[row]),
            low=finite_or_none(np.clip(interval.low[row], low, high)),
            high=finite_or_none(np.clip(interval.high[row], low, high)),
            md_floor=None if floor is None else finite_or_none(floor[row]),
            ideal=None if ideal is None else finite_or_none(ideal[row]),
        )
    return found


def finite_or_none(value: FloatArray | float | None) -> float | None:
    """Return ``value`` as a float, None where it is None, NaN or infinite."""
    return None if value is None or not np.isfinite(value) else float(value)
