"""Distributions of bond lengths, angles and closest contacts, counted while frames come in."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.contacts import clash_shares, far_pairs, vdw_sums_nm
from tito_fast.data.molecule import FloatArray, IntArray, Molecule

LENGTH_EDGES_NM: Final[FloatArray] = np.linspace(0.05, 0.25, 201)
"""Bins of 1 pm for bond lengths; lengths outside are in the first or last bin."""

ANGLE_EDGES: Final[FloatArray] = np.linspace(0.0, np.pi, 181)
"""Bins of 1° for angles, in radians."""

CONTACT_EDGES: Final[FloatArray] = np.linspace(0.0, 2.0, 201)
"""Bins for the closest contact over the sum of van der Waals radii; above 2 is in the last bin."""

_BLOCK_VALUES: Final = 1 << 18


@dataclass(frozen=True, eq=False, kw_only=True)
class GeometryDistributions:
    """Histograms and moments of a molecule's geometry, per unit (a replica, or a block of one).

    Parameters
    ----------
    bonds, angles : ndarray, shape (2, n_bonds) and (3, n_angles), int64
        Atoms; the apex of an angle is in the middle.
    bond_counts : UnitSums
        ``sums`` (n_units, n_bonds, 200), int64, over ``LENGTH_EDGES_NM``.
    angle_counts : UnitSums
        ``sums`` (n_units, n_angles, 180), int64, over ``ANGLE_EDGES``.
    contact_counts : UnitSums
        ``sums`` (n_units, 200), int64: closest contact of each frame over ``CONTACT_EDGES``, of atoms
        three or more bonds apart, as a share of the sum of their van der Waals radii.
    clash_counts : UnitSums
        ``sums`` (n_units, 4), int64: finite frames, frames with a clash, clashing pairs, frames with
        NaN or infinity.
    bond_moments, angle_moments : UnitSums
        ``sums`` (n_units, 3, n_bonds) and (n_units, 3, n_angles), float64: frames, and sums of the
        deviations from the start and of their squares, in nm and radians.
    bond_start_nm, angle_start : ndarray, shape (n_bonds,) and (n_angles,), float64
        Of the start structure; moments are about it, against cancellation.
    """

    bonds: IntArray
    angles: IntArray
    bond_counts: UnitSums
    angle_counts: UnitSums
    contact_counts: UnitSums
    clash_counts: UnitSums
    bond_moments: UnitSums
    angle_moments: UnitSums
    bond_start_nm: FloatArray
    angle_start: FloatArray

    @property
    def bond_mean_nm(self) -> FloatArray:
        """Mean lengths, (n_bonds,)."""
        return self.bond_start_nm + mean_and_std(self.bond_moments.total())[0]

    @property
    def bond_std_nm(self) -> FloatArray:
        """Standard deviations of lengths, (n_bonds,)."""
        return mean_and_std(self.bond_moments.total())[1]

    @property
    def angle_mean(self) -> FloatArray:
        """Mean angles in radians, (n_angles,)."""
        return self.angle_start + mean_and_std(self.angle_moments.total())[0]

    @property
    def angle_std(self) -> FloatArray:
        """Standard deviations of angles in radians, (n_angles,)."""
        return mean_and_std(self.angle_moments.total())[1]


class GeometryCounter:
    """Counts bond lengths, angles and contacts of one molecule.

    Parameters
    ----------
    molecule : Molecule
    series_idx : ndarray, shape (n_units,), int64, optional
        Trajectory of each unit; one unit by default.

    Notes
    -----
    The result does not depend on how frames are divided over calls, but for rounding of the moments.
    """

    def __init__(self, molecule: Molecule, *, series_idx: IntArray | None = None) -> None:
        self._series_idx = np.zeros(1, np.int64) if series_idx is None else series_idx
        n_units = len(self._series_idx)
        if not n_units:
            raise ValueError("series_idx: expected at least one unit, got none")
        self._n_atoms = molecule.n_atoms
        self._bonds = molecule.bond_index[:, molecule.bond_index[0] < molecule.bond_index[1]]
        self._angles = _angles(molecule)
        self._pairs = far_pairs(molecule)
        self._vdw_nm = vdw_sums_nm(molecule, self._pairs)
        self._clash_shares = clash_shares(molecule, self._pairs)
        n_bonds, n_angles = self._bonds.shape[1], self._angles.shape[1]
        self._bond_counts = np.zeros((n_units, n_bonds, len(LENGTH_EDGES_NM) - 1), np.int64)
        self._angle_counts = np.zeros((n_units, n_angles, len(ANGLE_EDGES) - 1), np.int64)
        self._contact_counts = np.zeros((n_units, len(CONTACT_EDGES) - 1), np.int64)
        self._clash_counts = np.zeros((n_units, 4), np.int64)
        self._bond_moments = np.zeros((n_units, 3, n_bonds))
        self._angle_moments = np.zeros((n_units, 3, n_angles))
        # Moments about the start structure, against cancellation.
        start = molecule.positions[None]
        self._bond_start = np.asarray(_lengths(start, self._bonds)[0], dtype=np.float64)
        self._angle_start = _angle_sizes(start, self._angles)[0]

    def update(self, positions: NDArray[np.floating], *, unit: int = 0) -> None:
        """Count frames of one unit.

        Parameters
        ----------
        positions : ndarray, shape (n_frames, n_atoms, 3)
            In nm.
        unit : int

        Raises
        ------
        ValueError
            If the shape does not fit, or there is no such unit.
        """
        if positions.ndim != 3 or positions.shape[1:] != (self._n_atoms, 3):
            raise ValueError(
                f"positions: expected shape (n_frames, {self._n_atoms}, 3), got {positions.shape}"
            )
        if not 0 <= unit < len(self._series_idx):
            raise ValueError(f"unit: expected 0 to {len(self._series_idx) - 1}, got {unit}")
        width = self._pairs.shape[1] + self._bonds.shape[1] + self._angles.shape[1]
        n_block = max(1, _BLOCK_VALUES // max(1, width))
        for start in range(0, len(positions), n_block):
            block = np.asarray(positions[start : start + n_block])
            is_finite = np.isfinite(block).all(axis=(1, 2))
            self._clash_counts[unit, 3] += int((~is_finite).sum())
            if is_finite.any():
                self._count(block if is_finite.all() else block[is_finite], unit)

    def join_pairs(self, first: int, stop: int) -> None:
        """Join the units first and first + 1, first + 2 and first + 3, and so on.

        The lower half of the units ``first`` to ``stop`` then holds all frames, the upper half none, so
        that a trajectory of unknown length is cut into blocks of equal length.

        Raises
        ------
        ValueError
            If the number of units is odd, or one is not there.
        """
        if not 0 <= first < stop <= len(self._series_idx) or (stop - first) % 2:
            raise ValueError(
                f"stop: expected an even number of the {len(self._series_idx)} units, got {first} to {stop}"
            )
        middle = (first + stop) // 2
        for counts in (
            *(self._bond_counts, self._angle_counts),
            *(self._contact_counts, self._clash_counts),
            *(self._bond_moments, self._angle_moments),
        ):
            part = counts[first:stop]
            counts[first:middle] = part[0::2] + part[1::2]
            counts[middle:stop] = 0

    def result(self) -> GeometryDistributions:
        """Return what was counted; units without frames are left out.

        Raises
        ------
        ValueError
            If no finite frame was.
        """
        if not self._clash_counts[:, 0].any():
            raise ValueError("positions: expected at least one finite frame, got none")
        is_filled = self._clash_counts.sum(axis=1) > 0
        counts = {
            "bond_counts": self._bond_counts,
            "angle_counts": self._angle_counts,
            "contact_counts": self._contact_counts,
            "clash_counts": self._clash_counts,
            "bond_moments": self._bond_moments,
            "angle_moments": self._angle_moments,
        }
        return GeometryDistributions(
            bonds=self._bonds,
            angles=self._angles,
            bond_start_nm=self._bond_start,
            angle_start=self._angle_start,
            **{
                name: UnitSums(sums=each[is_filled], series_idx=self._series_idx[is_filled])
                for name, each in counts.items()
            },
        )

    def _count(self, frames: NDArray[np.floating], unit: int) -> None:
        lengths = _lengths(frames, self._bonds)
        sizes = _angle_sizes(frames, self._angles)
        self._bond_counts[unit] += _histograms(lengths, LENGTH_EDGES_NM)
        self._angle_counts[unit] += _histograms(sizes, ANGLE_EDGES)
        _add_moments(self._bond_moments[unit], lengths - self._bond_start)
        _add_moments(self._angle_moments[unit], sizes - self._angle_start)
        counts = self._clash_counts[unit]
        counts[0] += len(frames)
        if self._pairs.shape[1]:
            shares = _lengths(frames, self._pairs) / self._vdw_nm.astype(frames.dtype)
            closest = shares.min(axis=1, keepdims=True)
            self._contact_counts[unit] += _histograms(closest, CONTACT_EDGES)[0]
            n_clashes = (shares < self._clash_shares.astype(frames.dtype)).sum(axis=1)
            counts[1] += int((n_clashes > 0).sum())
            counts[2] += int(n_clashes.sum())


def _angles(molecule: Molecule) -> IntArray:
    """Return the atoms (3, n_angles) of all angles, the apex in the middle, sorted by apex."""
    found = []
    for apex in range(molecule.n_atoms):
        around = sorted(molecule.bond_index[1][molecule.bond_index[0] == apex].tolist())
        found += [(first, apex, last) for first, last in combinations(around, 2)]
    return np.array(found, dtype=np.int64).reshape(-1, 3).T


def _lengths(frames: NDArray[Any], pairs: IntArray) -> NDArray[Any]:
    """Return distances (n_frames, n_pairs) of the atoms in ``pairs`` (2, n_pairs)."""
    # By coordinate, so that no array of three times the size is made.
    squared = np.zeros((len(frames), pairs.shape[1]), dtype=frames.dtype)
    for axis in range(3):
        column = np.ascontiguousarray(frames[:, :, axis])
        difference = column[:, pairs[0]] - column[:, pairs[1]]
        squared += difference * difference
    return np.sqrt(squared)


def _angle_sizes(frames: NDArray[Any], angles: IntArray) -> FloatArray:
    """Return angles (n_frames, n_angles) in radians; π/2 where two atoms coincide."""
    shape = (len(frames), angles.shape[1])
    dot, first_squared, last_squared = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for axis in range(3):
        column = np.ascontiguousarray(frames[:, :, axis], dtype=np.float64)
        apex = column[:, angles[1]]
        first, last = column[:, angles[0]] - apex, column[:, angles[2]] - apex
        dot += first * last
        first_squared += first * first
        last_squared += last * last
    norm = np.sqrt(first_squared * last_squared)
    cosine = np.divide(dot, norm, out=np.zeros(shape), where=norm > 0)
    return np.asarray(np.arccos(cosine.clip(-1.0, 1.0)))


def _histograms(values: NDArray[Any], edges: FloatArray) -> IntArray:
    """Return counts (n_columns, n_bins) of values (n_frames, n_columns); ends take what is outside."""
    n_bins = len(edges) - 1
    scaled = (values - edges[0]) * (n_bins / (edges[-1] - edges[0]))
    bins = scaled.clip(0, n_bins - 1).astype(np.int64)
    bins += n_bins * np.arange(values.shape[1])
    counts = np.bincount(bins.ravel(), minlength=n_bins * values.shape[1])
    return counts.reshape(values.shape[1], n_bins)


def _add_moments(moments: FloatArray, values: NDArray[Any]) -> None:
    moments[0] += len(values)
    moments[1] += values.sum(axis=0, dtype=np.float64)
    moments[2] += np.square(values).sum(axis=0, dtype=np.float64)


def mean_and_std(total: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return means and standard deviations.

    Parameters
    ----------
    total : ndarray, shape (3, n), float64
        Frames, sums, sums of squares.

    Returns
    -------
    mean, std : ndarray, shape (n,), float64
        NaN where there is no frame.
    """
    with np.errstate(invalid="ignore"):
        mean = total[1] / total[0]
        variance = (total[2] / total[0] - mean * mean).clip(min=0.0)
    return np.asarray(mean), np.asarray(np.sqrt(variance))
