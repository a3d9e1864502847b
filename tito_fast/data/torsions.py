"""Torsions of rotatable bonds: which they are, their angles, how far two sets of them differ."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray, IntArray, Molecule

N_TORSION_BINS: Final = 36
"""Bins of 10° over the whole turn."""

_SINGLE, _TRIPLE = 1, 3
_HYDROGEN = 1


def rotatable_torsions(molecule: Molecule) -> IntArray:
    """Return one torsion for each rotatable bond.

    A bond is rotatable if it is single, in no ring, and between two heavy atoms that each have
    another heavy neighbor and no triple bond (about which nothing turns visibly). Amide bonds count.

    Parameters
    ----------
    molecule : Molecule

    Returns
    -------
    ndarray, shape (n_torsions, 4), int64
        Atoms a-b-c-d about the bond b-c with b < c; a and d are the heavy neighbors of lowest number.
        Sorted by b, then c.
    """
    neighbors = _neighbors(molecule)
    is_heavy = molecule.atomic_numbers != _HYDROGEN
    has_triple = np.zeros(molecule.n_atoms, dtype=bool)
    has_triple[molecule.bond_index[0][molecule.bond_type == _TRIPLE]] = True
    in_ring = _ring_bonds(neighbors)
    torsions = []
    for (b, c), kind in zip(molecule.bond_index.T.tolist(), molecule.bond_type, strict=True):
        if b > c or kind != _SINGLE or (b, c) in in_ring:
            continue
        if not (is_heavy[b] and is_heavy[c]) or has_triple[b] or has_triple[c]:
            continue
        before = [atom for atom in neighbors[b] if is_heavy[atom] and atom != c]
        after = [atom for atom in neighbors[c] if is_heavy[atom] and atom != b]
        if before and after:
            torsions.append((min(before), b, c, min(after)))
    torsions = sorted(set(torsions), key=lambda torsion: torsion[1:3])
    return np.array(torsions, dtype=np.int64).reshape(-1, 4)


def torsion_angles(positions: NDArray[np.floating], torsions: IntArray) -> FloatArray:
    """Return the torsion angles of ``positions``.

    Parameters
    ----------
    positions : ndarray, shape (..., n_atoms, 3)
        Of any unit.
    torsions : ndarray, shape (n_torsions, 4), int64
        Atoms a-b-c-d.

    Returns
    -------
    ndarray, shape (..., n_torsions), float64
        In radians, −π to π; 0 where a and d are on one side (cis). Seen along b → c, positive where d is
        clockwise of a (IUPAC).

    Raises
    ------
    ValueError
        If shapes do not fit or an atom is out of range.

    Examples
    --------
    >>> positions = np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [-1.0, 0, 1.0]])
    >>> np.abs(torsion_angles(positions, np.array([[0, 1, 2, 3]]))).round(4)
    array([3.1416])
    """
    if positions.ndim < 2 or positions.shape[-1] != 3:
        raise ValueError(f"positions: expected shape (..., n_atoms, 3), got {positions.shape}")
    if torsions.ndim != 2 or torsions.shape[1] != 4:
        raise ValueError(f"torsions: expected shape (n_torsions, 4), got {torsions.shape}")
    n_atoms = positions.shape[-2]
    if torsions.size and not (torsions.min() >= 0 and torsions.max() < n_atoms):
        raise ValueError(f"torsions: expected atoms 0 to {n_atoms - 1}, got others")
    a, b, c, d = (
        positions[..., torsions[:, column], :].astype(np.float64, copy=False) for column in range(4)
    )
    before, axis, after = b - a, c - b, d - c
    normal_before, normal_after = np.cross(before, axis), np.cross(axis, after)
    sine = (before * normal_after).sum(-1) * np.linalg.norm(axis, axis=-1)
    cosine = (normal_before * normal_after).sum(-1)
    return np.asarray(np.arctan2(sine, cosine), dtype=np.float64)


def torsion_histograms(angles: FloatArray, *, n_bins: int = N_TORSION_BINS) -> FloatArray:
    """Return the share of frames in each bin of −π to π.

    Parameters
    ----------
    angles : ndarray, shape (n_frames, n_torsions)
        In radians, finite.
    n_bins : int

    Returns
    -------
    ndarray, shape (n_torsions, n_bins), float64
        Each row sums to 1.

    Raises
    ------
    ValueError
        If there is no frame, or an angle is not finite.
    """
    if angles.ndim != 2 or angles.shape[0] == 0:
        raise ValueError(
            f"angles: expected shape (n_frames, n_torsions) with a frame, got {angles.shape}"
        )
    if n_bins < 1:
        raise ValueError(f"n_bins: expected at least 1, got {n_bins}")
    if not np.isfinite(angles).all():
        raise ValueError("angles: expected finite angles, got NaN or infinity")
    n_torsions = angles.shape[1]
    turn = (angles + np.pi) / (2 * np.pi)
    # π itself is −π again, so that both ends of the circle fall into one bin.
    bins = np.floor((turn - np.floor(turn)) * n_bins).astype(np.int64).clip(0, n_bins - 1)
    flat = bins + n_bins * np.arange(n_torsions)
    counts = np.bincount(flat.ravel(), minlength=n_torsions * n_bins)
    return np.asarray(counts.reshape(n_torsions, n_bins) / angles.shape[0], dtype=np.float64)


def jsd(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return the Jensen–Shannon divergence of distributions, by the natural logarithm.

    (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2; between 0 (equal) and ln 2 (no overlap).

    Parameters
    ----------
    p, q : ndarray, shape (..., n_bins)
        Not negative; each normalized here to sum 1.

    Returns
    -------
    ndarray, shape (...), float64

    Raises
    ------
    ValueError
        If shapes differ, a value is negative or not finite, or a sum is zero.

    Examples
    --------
    >>> float(jsd(np.array([1.0, 0.0]), np.array([0.0, 1.0])).round(4))
    0.6931
    """
    if p.shape != q.shape or p.ndim == 0:
        raise ValueError(f"q: expected the shape of p, {p.shape}, got {q.shape}")
    for name, values in (("p", p), ("q", q)):
        if not (np.isfinite(values).all() and (values >= 0).all() and (values.sum(-1) > 0).all()):
            raise ValueError(
                f"{name}: expected values at or above zero with a sum above it, got others"
            )
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    middle = (p + q) / 2
    result = np.zeros(p.shape[:-1])
    for part in (p, q):
        is_filled = part > 0
        ratio = np.divide(part, middle, out=np.ones_like(part), where=is_filled)
        result = result + (part * np.log(ratio)).sum(-1) / 2
    return np.asarray(result.clip(min=0.0), dtype=np.float64)


def torsion_jsd(
    angles_a: FloatArray, angles_b: FloatArray, *, n_bins: int = N_TORSION_BINS
) -> FloatArray:
    """Return the Jensen–Shannon divergence of each torsion's histogram between two sets of frames.

    Parameters
    ----------
    angles_a, angles_b : ndarray, shape (n_frames, n_torsions)
        In radians; the numbers of frames may differ.
    n_bins : int

    Returns
    -------
    ndarray, shape (n_torsions,), float64
        Natural logarithm: 0 to ln 2. Finite samples of one distribution differ by about
        ``(n_bins - 1) / 8 * (1 / n_a + 1 / n_b)``, for independent frames.

    Raises
    ------
    ValueError
        If the numbers of torsions differ, there is no frame, or an angle is not finite.
    """
    p = torsion_histograms(angles_a, n_bins=n_bins)
    q = torsion_histograms(angles_b, n_bins=n_bins)
    if len(p) != len(q):
        raise ValueError(f"angles_b: expected {len(p)} torsions as angles_a, got {len(q)}")
    return jsd(p, q)


def _neighbors(molecule: Molecule) -> list[list[int]]:
    neighbors: list[list[int]] = [[] for _ in range(molecule.n_atoms)]
    for source, receiver in molecule.bond_index.T.tolist():
        neighbors[source].append(receiver)
    return neighbors


def _ring_bonds(neighbors: list[list[int]]) -> set[tuple[int, int]]:
    """Return the bonds (both directions) that are in a ring: all but the bridges of the graph."""
    order = [-1] * len(neighbors)
    lowest = [0] * len(neighbors)
    bridges = set()
    n_seen = 0
    for root in range(len(neighbors)):
        if order[root] >= 0:
            continue
        # Depth first without recursion: a chain may be longer than Python's stack.
        stack = [(root, -1, iter(neighbors[root]))]
        order[root] = lowest[root] = n_seen
        n_seen += 1
        while stack:
            atom, parent, rest = stack[-1]
            child = next(rest, None)
            if child is None:
                stack.pop()
                if parent >= 0:
                    lowest[parent] = min(lowest[parent], lowest[atom])
                    if lowest[atom] > order[parent]:
                        bridges |= {(parent, atom), (atom, parent)}
            elif order[child] < 0:
                order[child] = lowest[child] = n_seen
                n_seen += 1
                stack.append((child, atom, iter(neighbors[child])))
            elif child != parent:
                lowest[atom] = min(lowest[atom], order[child])
    bonds = {(atom, other) for atom, others in enumerate(neighbors) for other in others}
    return bonds - bridges
