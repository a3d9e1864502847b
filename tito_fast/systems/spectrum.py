"""Exact spectrum of a potential's transfer operator, by discretisation of its generator."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.systems.potentials import FloatArray, Potential
from tito_fast.validation import check_at_least, check_positive

_MAX_ENERGY: Final = 30.0
"""Cells higher than this above the minimum, in kT, are left out: 1e-13 of the density at its highest."""

_N_BINS: Final = {1: 1000, 2: 250}
_N_EIGENVALUES_2D: Final = 10
_NEGLIGIBLE: Final = 1e-10


@dataclass(frozen=True, eq=False)
class TransferSpectrum:
    """Eigenvalues and eigenfunctions of the transfer operator ``exp(lag_time · L)`` of Brownian dynamics.

    Attributes
    ----------
    centers : ndarray, shape (n_bins, n_dims), float64
        Centers of the cells.
    stationary : ndarray, shape (n_bins,), float64
        Probability of each cell at equilibrium; sums to one.
    rates : ndarray, shape (n_eigenvalues,), float64
        Eigenvalues of −L, rising; the first is zero.
    eigenfunctions : ndarray, shape (n_bins, n_eigenvalues), float64
        ψ of the backward operator, orthonormal under ``stationary``; the first is one everywhere.
    lag_time : float
        Of ``eigenvalues``, in time units of the potential.
    """

    centers: FloatArray
    stationary: FloatArray
    rates: FloatArray
    eigenfunctions: FloatArray
    lag_time: float

    @property
    def eigenvalues(self) -> FloatArray:
        """λ at ``lag_time``, falling from one, shape (n_eigenvalues,)."""
        return np.asarray(np.exp(-self.rates * self.lag_time))

    @property
    def timescales(self) -> FloatArray:
        """Implied times ``1 / rate`` without the stationary one, falling, shape (n_eigenvalues − 1,)."""
        return np.asarray(1.0 / self.rates[1:])

    def correlation(
        self, observable_values: FloatArray, lag_times: FloatArray, *, is_normalized: bool = True
    ) -> FloatArray:
        """Return the equilibrium autocorrelation of an observable.

        ``C(τ) = ⟨(f(x_0) − f̄) · (f(x_τ) − f̄)⟩ / ⟨|f − f̄|²⟩ = Σ_k c_k² exp(−rate_k τ) / ⟨|f − f̄|²⟩``,
        ``c_k = ⟨f ψ_k⟩``, k ≥ 1.

        Parameters
        ----------
        observable_values : ndarray, shape (n_bins,) or (n_bins, n_components)
            f at ``centers``; components are summed over, as in the formula.
        lag_times : ndarray, shape (n_lags,)
            τ, zero or above, in time units of the potential.
        is_normalized : bool
            Whether to divide by the variance.

        Returns
        -------
        ndarray, shape (n_lags,), float64
            Where eigenvalues were left out, their part of C is missing: it is of short lags.

        Raises
        ------
        ValueError
            Values of another length, or a lag below zero.
        """
        values = np.asarray(observable_values, dtype=np.float64)
        n_bins = len(self.stationary)
        if values.shape[:1] != (n_bins,) or values.ndim not in {1, 2}:
            raise ValueError(
                f"observable_values: expected shape ({n_bins},) or ({n_bins}, n_components), got {values.shape}"
            )
        lags = _checked_lags("lag_times", lag_times)
        fluctuation = values.reshape(n_bins, -1) - self.stationary @ values.reshape(n_bins, -1)
        weighted = self.stationary[:, None] * fluctuation
        power = ((self.eigenfunctions[:, 1:].T @ weighted) ** 2).sum(axis=1)
        covariance = np.exp(-np.multiply.outer(lags, self.rates[1:])) @ power
        return np.asarray(
            covariance / float((weighted * fluctuation).sum()) if is_normalized else covariance
        )

    def transition_probabilities(self, lag_time: float) -> FloatArray:
        """Return the probability of each cell (column) a lag after each cell (row).

        Parameters
        ----------
        lag_time : float
            In time units of the potential.

        Returns
        -------
        ndarray, shape (n_bins, n_bins), float64
            Rows sum to one.

        Raises
        ------
        ValueError
            A lag below zero, or so short that eigenvalues which were left out would count.
        """
        check_positive("lag_time", lag_time)
        is_complete = len(self.rates) == len(self.stationary)
        if not is_complete and (last := float(np.exp(-self.rates[-1] * lag_time))) > _NEGLIGIBLE:
            raise ValueError(
                f"lag_time: expected at least {-np.log(_NEGLIGIBLE) / self.rates[-1]:.3g} for {len(self.rates)} "
                f"eigenvalues, got {lag_time:g}, where the last one is {last:.1e}; ask for more eigenvalues"
            )
        decayed = self.eigenfunctions * np.exp(-self.rates * lag_time)
        probabilities = (decayed @ self.eigenfunctions.T) * self.stationary
        # What is below zero is rounding.
        probabilities = np.maximum(probabilities, 0.0)
        return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))


def transfer_spectrum(
    potential: Potential,
    *,
    lag_time: float,
    n_bins: int | None = None,
    n_eigenvalues: int | None = None,
) -> TransferSpectrum:
    """Return the spectrum of the transfer operator of Brownian dynamics in a potential.

    The generator ``L f = D (∇²f − ∇V·∇f / kT)`` on a regular grid, by the square-root approximation: the rate from
    cell i to its neighbor j at distance h is ``D / h² · exp(−(V_j − V_i) / 2 kT)``. It obeys detailed balance, so
    with the stationary density it is a symmetric matrix. Its eigenvalues converge with h².

    Parameters
    ----------
    potential : Potential
        Of one or two dimensions.
    lag_time : float
        Lag of the eigenvalues, in time units of the potential.
    n_bins : int, optional
        Bins along each dimension within the potential's bounds; cells of no weight are then left out. 1000 in one
        dimension, 250 in two.
    n_eigenvalues : int, optional
        How many of the largest; in one dimension all, in two 10.

    Returns
    -------
    TransferSpectrum

    Raises
    ------
    ValueError
        An argument out of range, or a potential of more than two dimensions.

    References
    ----------
    Lie, Fackeldey and Weber, A square root approximation of transition rates for a Markov state model, SIAM J. Matrix
    Anal. Appl. 34, 738 (2013), doi:10.1137/120899959.
    """
    check_positive("lag_time", lag_time)
    if potential.n_dims not in _N_BINS:
        raise ValueError(f"potential: expected one or two dimensions, got {potential.n_dims}")
    n_bins = _N_BINS[potential.n_dims] if n_bins is None else n_bins
    check_at_least("n_bins", n_bins, 3)
    sides = [np.linspace(low, high, n_bins + 1) for low, high in potential.bounds]
    middles = [(side[1:] + side[:-1]) / 2 for side in sides]
    centers = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, potential.n_dims)
    energy = potential.energy(centers) / potential.thermal_energy
    energy -= energy.min()
    is_kept = energy < _MAX_ENERGY
    if n_eigenvalues is not None and not 2 <= n_eigenvalues <= is_kept.sum():
        raise ValueError(
            f"n_eigenvalues: expected 2 to {is_kept.sum()}, the number of cells, got {n_eigenvalues}"
        )
    diffusion = potential.thermal_energy / potential.friction
    rates_by_dim = [diffusion / (side[1] - side[0]) ** 2 for side in sides]
    solve = _solve_1d if potential.n_dims == 1 else _solve_2d
    rates, vectors = solve(energy, is_kept, rates_by_dim, n_eigenvalues)
    stationary = np.exp(-energy[is_kept])
    stationary /= stationary.sum()
    return TransferSpectrum(
        centers=centers[is_kept],
        stationary=stationary,
        rates=np.concatenate(([0.0], rates[1:])),
        eigenfunctions=_with_signs(vectors / np.sqrt(stationary)[:, None]),
        lag_time=lag_time,
    )


def _solve_1d(
    energy: FloatArray,
    is_kept: NDArray[np.bool_],
    rates_by_dim: list[float],
    n_eigenvalues: int | None,
) -> tuple[FloatArray, FloatArray]:
    """Return rising eigenvalues and eigenvectors of −L, symmetrised: a tridiagonal matrix."""
    from scipy.linalg import eigh_tridiagonal  # noqa: PLC0415  slow to import

    (rate,) = rates_by_dim
    # Between the outermost cells that are kept none is left out: no potential here has such walls inside.
    kept = energy[is_kept]
    forward = np.exp(-np.diff(kept) / 2)
    out = np.zeros_like(kept)
    out[:-1] += forward
    out[1:] += 1 / forward
    beside = np.full(len(kept) - 1, -rate)
    if n_eigenvalues is None:
        rates, vectors = eigh_tridiagonal(rate * out, beside)
    else:
        rates, vectors = eigh_tridiagonal(
            rate * out, beside, select="i", select_range=(0, n_eigenvalues - 1)
        )
    return rates, vectors


def _solve_2d(
    energy: FloatArray,
    is_kept: NDArray[np.bool_],
    rates_by_dim: list[float],
    n_eigenvalues: int | None,
) -> tuple[FloatArray, FloatArray]:
    """As :func:`_solve_1d` on a square grid of cells: a sparse matrix."""
    from scipy.sparse import coo_matrix, diags  # noqa: PLC0415  slow to import
    from scipy.sparse.linalg import eigsh  # noqa: PLC0415  slow to import

    n_side = int(np.sqrt(len(energy)))
    number = np.where(is_kept, np.cumsum(is_kept) - 1, -1).reshape(n_side, n_side)
    kept = energy[is_kept]
    n_cells = len(kept)
    rows, columns, rates = [], [], []
    pairs = ((number[:-1], number[1:]), (number[:, :-1], number[:, 1:]))
    for rate, (lower, upper) in zip(rates_by_dim, pairs, strict=True):
        is_pair = (lower >= 0) & (upper >= 0)
        i, j = lower[is_pair], upper[is_pair]
        rows += [i, j]
        columns += [j, i]
        rates += [np.full(2 * len(i), rate)]
    row, column, rate_of = np.concatenate(rows), np.concatenate(columns), np.concatenate(rates)
    leaving = rate_of * np.exp(-(kept[column] - kept[row]) / 2)
    out = np.bincount(row, weights=leaving, minlength=n_cells)
    matrix = (diags(out) - coo_matrix((rate_of, (row, column)), shape=(n_cells, n_cells))).tocsc()
    count = _N_EIGENVALUES_2D if n_eigenvalues is None else n_eigenvalues
    # Nearest to a point just below zero, where the matrix can be inverted. A fixed start: the same bits every time.
    found, vectors = eigsh(
        matrix, k=count, sigma=-1e-6 * max(rates_by_dim), v0=np.exp(-kept / 4), which="LM"
    )
    order = np.argsort(found)
    return found[order], vectors[:, order]


def _with_signs(eigenfunctions: FloatArray) -> FloatArray:
    """Return the eigenfunctions with the sign that makes the first of them one, and others end above zero."""
    signs = np.sign(eigenfunctions[-1])
    return eigenfunctions * np.where(signs == 0, 1.0, signs)


def _checked_lags(name: str, lag_times: FloatArray) -> FloatArray:
    lags = np.atleast_1d(np.asarray(lag_times, dtype=np.float64))
    if lags.ndim != 1 or not np.all(np.isfinite(lags)) or np.any(lags < 0):
        raise ValueError(f"{name}: expected shape (n_lags,) of lags from zero up, got {lag_times}")
    return lags
