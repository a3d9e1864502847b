"""How far two distributions of slow coordinates or torsions are apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from tito_fast.analysis.series import Series, check_series, chunk_slices
from tito_fast.analysis.unit_sums import UnitSums, series_idx_of, units_of
from tito_fast.data.molecule import FloatArray, IntArray
from tito_fast.data.torsions import N_TORSION_BINS, jsd, torsion_histograms

N_BINS: Final = 30
"""Bins along each slow coordinate for :func:`jsd_tica`."""

N_BINS_AUTHORS: Final = 100
"""Bins along each slow coordinate in the code of TITO, for :func:`jsd_tica_authors`."""


class CoveragePrecision(NamedTuple):
    """Shares of two distributions on the bins that both fill."""

    coverage: FloatArray
    precision: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """Equal bins along each of two coordinates.

    Parameters
    ----------
    edges : ndarray, shape (2, n_bins + 1), float64
        Ascending; the last edge of each belongs to the last bin.
    """

    edges: FloatArray

    @property
    def n_bins(self) -> int:
        """Bins along each coordinate."""
        return int(self.edges.shape[1]) - 1

    def bin_idx(self, points: FloatArray) -> IntArray:
        """Return the bin of each point.

        Parameters
        ----------
        points : ndarray, shape (n_frames, 2), float64

        Returns
        -------
        ndarray, shape (n_frames,), int64
            Row by row from 0; ``n_bins**2`` for a point outside of the grid.

        Raises
        ------
        ValueError
            If a point is not finite.
        """
        if not np.isfinite(points).all():
            raise ValueError("points: expected finite coordinates, got NaN or infinity")
        n_bins = self.n_bins
        result = np.zeros(len(points), dtype=np.int64)
        is_outside = np.zeros(len(points), dtype=bool)
        for axis, edges in enumerate(self.edges):
            column = np.ascontiguousarray(points[:, axis])
            found = np.searchsorted(edges, column, side="right") - 1
            found -= column == edges[-1]
            is_outside |= (found < 0) | (found >= n_bins)
            result = result * n_bins + found
        result[is_outside] = n_bins * n_bins
        return result


def fit_grid(reference: Sequence[Series], *, n_bins: int = N_BINS) -> Grid:
    """Return a grid over the range of the first two coordinates of the reference.

    Parameters
    ----------
    reference : sequence of ndarray, shape (n_frames, n_components)
        Slow coordinates, at least two.
    n_bins : int

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        If there is no frame, fewer than two coordinates, or one does not vary.
    """
    if check_series(reference, name="reference") < 2:
        raise ValueError(f"reference: expected two coordinates, got {reference[0].shape[1]}")
    if n_bins < 1:
        raise ValueError(f"n_bins: expected at least 1, got {n_bins}")
    filled = [one for one in reference if len(one)]
    low = np.min([one[:, :2].min(axis=0) for one in filled], axis=0)
    high = np.max([one[:, :2].max(axis=0) for one in filled], axis=0)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(
            f"reference: expected two coordinates that vary and are finite, got {low} to {high}"
        )
    return Grid(edges=np.linspace(low, high, n_bins + 1, axis=1).astype(np.float64))


def grid_counts(
    series: Sequence[Series], grid: Grid, *, block_frames: int | None = None
) -> UnitSums:
    """Count frames in each bin of a grid.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_frames, n_components)
        Slow coordinates; the first two are looked at.
    grid : Grid
    block_frames : int, optional
        Cut each trajectory into units of this many frames.

    Returns
    -------
    UnitSums
        ``sums`` (n_units, n_bins² + 1), int64; the last bin counts the frames outside.

    Raises
    ------
    ValueError
        If there is no frame, fewer than two coordinates, or one is not finite.
    """
    n_features = check_series(series)
    if n_features < 2:
        raise ValueError(f"series: expected two coordinates, got {n_features}")
    units = units_of([len(one) for one in series], block_frames=block_frames)
    sums = np.zeros((len(units), grid.n_bins**2 + 1), dtype=np.int64)
    for row, unit in enumerate(units):
        for chunk in chunk_slices(unit.start, unit.stop, n_features=n_features):
            points = series[unit.series_idx][chunk, :2].astype(np.float64, copy=False)
            sums[row] += np.bincount(grid.bin_idx(points), minlength=sums.shape[1])
    return UnitSums(sums=sums, series_idx=series_idx_of(units))


def torsion_counts(
    angles: Sequence[Series], *, n_bins: int = N_TORSION_BINS, block_frames: int | None = None
) -> UnitSums:
    """Count frames in each bin of each torsion.

    Parameters
    ----------
    angles : sequence of ndarray, shape (n_frames, n_torsions)
        In radians.
    n_bins : int
        Over the whole turn.
    block_frames : int, optional
        Cut each trajectory into units of this many frames.

    Returns
    -------
    UnitSums
        ``sums`` (n_units, n_torsions, n_bins), int64. The divergence of each torsion is
        :func:`tito_fast.data.torsions.jsd` of two totals.

    Raises
    ------
    ValueError
        If there is no frame, numbers of torsions differ, or an angle is not finite.
    """
    n_torsions = check_series(angles, name="angles")
    units = units_of([len(one) for one in angles], block_frames=block_frames)
    sums = np.zeros((len(units), n_torsions, n_bins), dtype=np.int64)
    for row, unit in enumerate(units):
        for chunk in chunk_slices(unit.start, unit.stop, n_features=n_torsions):
            part = angles[unit.series_idx][chunk].astype(np.float64, copy=False)
            shares = torsion_histograms(part, n_bins=n_bins)
            sums[row] += np.rint(shares * len(part)).astype(np.int64)
    return UnitSums(sums=sums, series_idx=series_idx_of(units))


def histogram_counts(
    values: Sequence[Series], edges: FloatArray, *, block_frames: int | None = None
) -> UnitSums:
    """Count frames in each bin of one number per frame, such as the energy.

    Parameters
    ----------
    values : sequence of ndarray, shape (n_frames,)
    edges : ndarray, shape (n_bins + 1,), float64
        Ascending; the last edge belongs to the last bin.
    block_frames : int, optional
        Cut each trajectory into units of this many frames.

    Returns
    -------
    UnitSums
        ``sums`` (n_units, n_bins + 2), int64; the frames below and above the edges are the first and
        the last bin.

    Raises
    ------
    ValueError
        If edges do not ascend, there is no frame, or a value is not finite.
    """
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError("edges: expected at least two ascending numbers, got others")
    check_series([one[:, None] for one in values], name="values")
    units = units_of([len(one) for one in values], block_frames=block_frames)
    sums = np.zeros((len(units), len(edges) + 1), dtype=np.int64)
    for row, unit in enumerate(units):
        for chunk in chunk_slices(unit.start, unit.stop, n_features=1):
            part = values[unit.series_idx][chunk]
            if not np.isfinite(part).all():
                raise ValueError("values: expected finite numbers, got NaN or infinity")
            found = np.searchsorted(edges, part, side="right") - (part == edges[-1])
            sums[row] += np.bincount(found, minlength=sums.shape[1])
    return UnitSums(sums=sums, series_idx=series_idx_of(units))


def jsd_tica(reference: FloatArray, model: FloatArray) -> FloatArray:
    """Return the Jensen–Shannon divergence in the plane of two slow coordinates.

    Parameters
    ----------
    reference, model : ndarray, shape (..., n_bins² + 1)
        Totals of :func:`grid_counts` on a grid over the reference's range, the frames outside last.

    Returns
    -------
    ndarray, shape (...), float64
        Natural logarithm: 0 to ln 2 = 0.693. Divided by ln 2 it is in bits.

    Notes
    -----
    The frames that the model puts outside of the reference's range are one bin of their own, so that
    they count as wrong. On 30 × 30 bins; :func:`jsd_tica_authors` is comparable with published figures.
    """
    return jsd(reference, model)


def jsd_tica_authors(reference: FloatArray, model: FloatArray) -> FloatArray:
    """Return the divergence as TITO's code computes it, for comparison with published figures.

    Parameters
    ----------
    reference, model : ndarray, shape (..., n_bins² + 1)
        As for :func:`jsd_tica`, on 100 × 100 bins.

    Returns
    -------
    ndarray, shape (...), float64
        Natural logarithm. Frames outside of the reference's range are dropped and the rest
        renormalized, so that a model which leaves it is not punished; ln 2 if no frame is left (the
        authors' code gives NaN).
    """
    inside_reference, inside_model = reference[..., :-1], np.array(model[..., :-1], np.float64)
    is_empty = inside_model.sum(axis=-1) == 0
    inside_model[is_empty] = 1.0
    return np.asarray(np.where(is_empty, np.log(2), jsd(inside_reference, inside_model)))


def coverage_precision(reference: FloatArray, model: FloatArray) -> CoveragePrecision:
    """Return how much of each distribution lies on bins that both fill.

    Parameters
    ----------
    reference, model : ndarray, shape (..., n_bins)
        Counts or shares; each normalized here.

    Returns
    -------
    CoveragePrecision
        ``coverage`` of the reference, ``precision`` of the model, shape (...), 0 to 1.

    Raises
    ------
    ValueError
        If shapes differ or a sum is zero.
    """
    if reference.shape != model.shape:
        raise ValueError(
            f"model: expected the shape of reference, {reference.shape}, got {model.shape}"
        )
    if not ((reference.sum(axis=-1) > 0).all() and (model.sum(axis=-1) > 0).all()):
        raise ValueError("model: expected frames in the reference and in the model, got none")
    is_shared = (reference > 0) & (model > 0)
    coverage, precision = (
        np.asarray((part * is_shared).sum(axis=-1) / part.sum(axis=-1), dtype=np.float64)
        for part in (reference, model)
    )
    return CoveragePrecision(coverage, precision)
