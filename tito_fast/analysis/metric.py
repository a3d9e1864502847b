"""A metric with the numbers that it must be read beside."""

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


def finite_or_none(value: FloatArray | float | None) -> float | None:
    """Return ``value`` as a float, None where it is None, NaN or infinite."""
    return None if value is None or not np.isfinite(value) else float(value)
