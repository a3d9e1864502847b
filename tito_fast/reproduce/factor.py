"""How many times more data one method needs to be as good as another."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tito_fast.validation import check_at_least

_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True)
class DataFactor:
    """The factor k at which the other method with ``k · n`` trajectories is as good as this one with ``n``.

    Parameters
    ----------
    n_trajectories : int
        n.
    k : float
        Of the means over seeds; infinite if the other method is worse at every measured number, zero if it is better
        at the smallest already.
    low, high : float
        2.5th and 97.5th percentile of a bootstrap over seeds, infinite or zero in the same way.
    largest, smallest : float
        The factors of the largest and smallest measured number: what infinite and zero stand for.
    """

    n_trajectories: int
    k: float
    low: float
    high: float
    largest: float
    smallest: float

    def text(self) -> str:
        """Return the factor with its interval, ``>`` and ``<`` where it lies outside what was measured."""
        return f"{self._one(self.k)} ({self._one(self.low)} to {self._one(self.high)})"

    def _one(self, value: float) -> str:
        if math.isinf(value):
            return f">{self.largest:.3g}"
        return f"<{self.smallest:.3g}" if value == 0 else f"{value:.2g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON: None stands for a factor outside what was measured, as ``text`` says."""
        values = asdict(self)
        for name in ("k", "low", "high"):
            if math.isinf(values[name]) or values[name] == 0:
                values[name] = None
        return values | {"text": self.text()}


def crossing(
    numbers: Sequence[int], errors: NDArray[np.float64], target: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return the number at which errors first fall to the target, log-log between measured ones.

    Parameters
    ----------
    numbers : sequence of int, rising
    errors : ndarray, shape (..., n_numbers)
        Above zero.
    target : float or ndarray, shape (...)

    Returns
    -------
    ndarray, shape (...), float64
        Infinite where no error is as low; zero where the first already is.
    """
    wanted = np.asarray(target, dtype=np.float64)[..., None]
    is_low = errors <= wanted
    first = np.argmax(is_low, axis=-1)
    after = np.clip(first, 1, None)
    x = np.log(np.asarray(numbers, dtype=np.float64))
    y = np.log(errors)
    y_after = np.take_along_axis(y, after[..., None], axis=-1)[..., 0]
    y_before = np.take_along_axis(y, after[..., None] - 1, axis=-1)[..., 0]
    drop = y_before - y_after
    share = (y_before - np.log(wanted[..., 0])) / np.where(drop > 0, drop, 1.0)
    found = np.exp(x[after - 1] + share * (x[after] - x[after - 1]))
    found = np.where(first == 0, 0.0, found)
    return np.asarray(np.where(is_low.any(axis=-1), found, np.inf))


def data_factor(
    n_trajectories: int,
    errors: NDArray[np.float64],
    other_numbers: Sequence[int],
    other_errors: NDArray[np.float64],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> DataFactor:
    """Return the factor k(n) with a bootstrap over seeds.

    Parameters
    ----------
    n_trajectories : int
    errors : ndarray, shape (n_seeds,)
        Of this method with that many trajectories.
    other_numbers : sequence of int, rising; at least two
    other_errors : ndarray, shape (n_seeds, n_numbers)
        Of the other method; seeds have data of their own, and the same seed means the same data.
    n_resamples, seed : int
        Of the bootstrap, which draws seeds for both methods together.

    Returns
    -------
    DataFactor

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    n_seeds = len(errors)
    check_at_least("other_numbers", len(other_numbers), 2)
    if other_errors.shape != (n_seeds, len(other_numbers)):
        raise ValueError(
            f"other_errors: expected shape {(n_seeds, len(other_numbers))}, got {other_errors.shape}"
        )
    drawn = np.random.default_rng(seed).integers(n_seeds, size=(n_resamples, n_seeds))
    resampled = crossing(
        other_numbers, other_errors[drawn].mean(axis=1), errors[drawn].mean(axis=1)
    )
    best = float(crossing(other_numbers, other_errors.mean(axis=0), float(errors.mean())))
    # Not interpolated: between a number and infinity there is nothing.
    low = np.percentile(resampled, _PERCENTILES[0], method="lower")
    high = np.percentile(resampled, _PERCENTILES[1], method="higher")
    return DataFactor(
        n_trajectories=n_trajectories,
        k=best / n_trajectories,
        low=float(low) / n_trajectories,
        high=float(high) / n_trajectories,
        largest=other_numbers[-1] / n_trajectories,
        smallest=other_numbers[0] / n_trajectories,
    )
