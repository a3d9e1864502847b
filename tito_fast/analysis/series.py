"""Trajectories as series of features: checks, chunks, lags."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from numpy.typing import NDArray

Series = NDArray[Any]
"""(n_frames, n_features) of one trajectory; a memory map or an array, of any real type."""

CHUNK_VALUES: Final = 1 << 20
"""Values looked at together: 8 MB in float64, whatever the length of a trajectory."""

_WHOLE: Final = 1e-6


def lag_in_frames(lag_ps: float, *, interval_ps: float) -> int:
    """Return a lag as a number of frames.

    Parameters
    ----------
    lag_ps : float
    interval_ps : float
        Time between two frames.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If either is not positive, or the lag is no whole number of intervals.

    Examples
    --------
    >>> lag_in_frames(100.0, interval_ps=0.5)
    200
    """
    if not interval_ps > 0:
        raise ValueError(f"interval_ps: expected above 0, got {interval_ps}")
    lag_frames = round(lag_ps / interval_ps)
    if lag_frames < 1 or abs(lag_ps / interval_ps - lag_frames) > _WHOLE * lag_frames:
        raise ValueError(
            f"lag_ps: expected a whole number of frames {interval_ps} ps apart, got {lag_ps} ps"
        )
    return lag_frames


def check_series(series: Sequence[Series], *, name: str = "series") -> int:
    """Return the number of features that all ``series`` have.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_frames, n_features)
    name : str
        Argument that the error speaks of.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If there is none, one has another number of dimensions or features, or there is no frame.
    """
    if not len(series):
        raise ValueError(f"{name}: expected at least one trajectory, got none")
    for one in series:
        if one.ndim != 2:
            raise ValueError(f"{name}: expected shape (n_frames, n_features), got {one.shape}")
        if one.shape[1] != series[0].shape[1]:
            raise ValueError(
                f"{name}: expected {series[0].shape[1]} features as in the first, got {one.shape[1]}"
            )
    if not series[0].shape[1]:
        raise ValueError(f"{name}: expected at least one feature, got none")
    if not any(len(one) for one in series):
        raise ValueError(f"{name}: expected at least one frame, got none")
    return int(series[0].shape[1])


def check_lag(series: Sequence[Series], lag_frames: int, *, name: str = "series") -> None:
    """Check that there are two frames ``lag_frames`` apart.

    Raises
    ------
    ValueError
        If the lag is below 1, or the longest of ``series`` has no more than that many frames.
    """
    if lag_frames < 1:
        raise ValueError(f"lag_frames: expected at least 1, got {lag_frames}")
    longest = max((len(one) for one in series), default=0)
    if longest <= lag_frames:
        raise ValueError(
            f"{name}: expected more than {lag_frames} frames for a lag of {lag_frames} frames, got at "
            f"most {longest}; take a shorter lag or a longer trajectory"
        )


def chunk_slices(start: int, stop: int, *, n_features: int) -> Iterator[slice]:
    """Yield slices of frames that cover start to stop, a few MB of features each."""
    size = max(1, CHUNK_VALUES // max(1, n_features))
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))
