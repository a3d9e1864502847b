"""Exact equilibrium of a potential: distribution function and independent samples."""

from functools import lru_cache
from typing import Final

import numpy as np

from tito_fast.systems.potentials import FloatArray, Potential
from tito_fast.validation import check_at_least

_N_CELLS_1D: Final = 1 << 16
_N_CELLS_2D: Final = 1000
# Gauss-Legendre nodes and weights on [0, 1]: the mass of a cell is then exact to rounding.
_NODES: Final = 0.5 + 0.5 * np.array([-np.sqrt(3 / 5), 0.0, np.sqrt(3 / 5)])
_WEIGHTS: Final = np.array([5.0, 8.0, 5.0]) / 18


def equilibrium_cdf(potential: Potential, x: FloatArray) -> FloatArray:
    """Return the equilibrium distribution function ``P(X ≤ x)`` of a one-dimensional potential.

    Parameters
    ----------
    potential : Potential
        Of one dimension.
    x : ndarray, any shape

    Returns
    -------
    ndarray, shape of ``x``, float64
        Within 1e-8 of the exact value.

    Raises
    ------
    ValueError
        The potential has more than one dimension.
    """
    if potential.n_dims != 1:
        raise ValueError(f"potential: expected one dimension, got {potential.n_dims}")
    edges, cumulative = _cumulative(potential)
    return np.asarray(np.interp(np.asarray(x, dtype=np.float64), edges, cumulative))


def equilibrium_samples(potential: Potential, n: int, *, seed: int) -> FloatArray:
    """Draw independent samples of the equilibrium density ``exp(−V/kT) / Z``.

    Sample i follows from (seed, i) alone, so a longer draw begins with a shorter one.

    Parameters
    ----------
    potential : Potential
        Of one or two dimensions.
    n : int
        How many.
    seed : int
        64 bits.

    Returns
    -------
    ndarray, shape (n, n_dims), float64

    Raises
    ------
    ValueError
        ``n`` below zero, ``seed`` out of range, or a potential of more than two dimensions.

    Notes
    -----
    One dimension: the inverse of the distribution function, tabulated in 65,536 cells. Two: a cell of a 1000 × 1000
    grid by its probability, then within the cell the exponential of the tangent plane of −V/kT, which leaves an error
    of the order of cell width squared times the curvature of V/kT (below 1 % of the density within a cell, and
    averaging out between cells).
    """
    check_at_least("n", n, 0)
    uniforms = _uniforms(seed, n)
    if potential.n_dims == 1:
        edges, cumulative = _cumulative(potential)
        return np.asarray(np.interp(uniforms[:, :1], cumulative, edges))
    if potential.n_dims != 2:
        raise ValueError(f"potential: expected one or two dimensions, got {potential.n_dims}")
    return _samples_2d(potential, uniforms)


def check_seed(seed: int) -> None:
    """Raise ``ValueError`` unless ``seed`` has 64 bits."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: expected 0 to 2**64 - 1, got {seed}")


def _uniforms(seed: int, n: int) -> FloatArray:
    """Return uniform numbers in (0, 1), shape (n, 3); row i follows from (seed, i)."""
    check_seed(seed)
    # The raw words of a bit generator never change between versions of NumPy.
    words = np.random.Philox(key=seed).random_raw(3 * n).reshape(n, 3)
    return np.asarray(((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


@lru_cache(maxsize=8)
def _cumulative(potential: Potential) -> tuple[FloatArray, FloatArray]:
    """Return edges of cells and the distribution function there, (n_cells + 1,) each."""
    ((low, high),) = potential.bounds
    edges = np.linspace(low, high, _N_CELLS_1D + 1)
    width = edges[1] - edges[0]
    inside = (edges[:-1, None] + width * _NODES).reshape(-1, 1)
    energy = potential.energy(inside)
    density = np.exp(-(energy - energy.min()) / potential.thermal_energy)
    mass = density.reshape(-1, len(_NODES)) @ _WEIGHTS
    cumulative = np.concatenate(([0.0], np.cumsum(mass)))
    return edges, cumulative / cumulative[-1]


@lru_cache(maxsize=4)
def _cells_2d(potential: Potential) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return lower corners (n, 2), widths (2,), cumulative probability (n,) and ∇V/kT at centers."""
    sides = [np.linspace(low, high, _N_CELLS_2D + 1) for low, high in potential.bounds]
    widths = np.array([side[1] - side[0] for side in sides])
    corners = np.stack(np.meshgrid(*(side[:-1] for side in sides), indexing="ij"), axis=-1)
    corners = corners.reshape(-1, 2)
    energy = potential.energy(corners + widths / 2) / potential.thermal_energy
    energy -= energy.min()
    # Beyond, the density is e^-40 of its highest: 4e-18.
    kept = energy < 40.0
    corners, energy = corners[kept], energy[kept]
    slope = -potential.force(corners + widths / 2) / potential.thermal_energy
    # The mean over the cell of the exponential of the tangent plane.
    mass = np.exp(-energy) * np.prod(_mean_of_exponential(slope * widths), axis=1)
    cumulative = np.cumsum(mass)
    return corners, widths, cumulative / cumulative[-1], slope


def _mean_of_exponential(s: FloatArray) -> FloatArray:
    """Return the mean of exp(−s u) over −1/2 < u < 1/2, sinh(s/2) / (s/2)."""
    half = np.where(np.abs(s) < 1e-4, 1e-4, s) / 2  # there the mean is 1 + 4e-10
    return np.asarray(np.sinh(half) / half)


def _samples_2d(potential: Potential, uniforms: FloatArray) -> FloatArray:
    corners, widths, cumulative, slope = _cells_2d(potential)
    cell = np.searchsorted(cumulative, uniforms[:, 0], side="right")
    cell = np.minimum(cell, len(cumulative) - 1)
    # Inverse distribution function of exp(−s u), 0 < u < 1.
    s = slope[cell] * widths
    u = uniforms[:, 1:]
    flat = np.abs(s) < 1e-6  # u is then right to 1e-6 of the cell
    safe = np.where(flat, 1.0, s)
    inside = np.where(flat, u, -np.log1p(u * np.expm1(-safe)) / safe)
    return np.asarray(corners[cell] + inside * widths)
