"""Which interpolation makes a model agree with observables that were measured: the fit of N_int.

| symbol in the paper | name here |
|---|---|
| N_int | `n_int` |
| C(τ), and any other observable | `Observables`, `Target` |

References
----------
.. [1] BoPITO, arXiv:2410.10605, the interpolator: s = s_eq + λ̂^N_int s_dyn, with N_int chosen so that a correlation
   function of the model is that of an experiment.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tito_fast.analysis.resampling import interval_about
from tito_fast.data.molecule import FloatArray
from tito_fast.validation import check_at_least, check_positive

N_RESAMPLES: Final = 400
"""Resamples of a bootstrap; only sums of samples that are at hand, no new evaluations."""

_N_NODES: Final = 9
"""Values that the search starts from, spread over the bounds; the deepest valley between them is followed."""

_N_GRID: Final = 801
_RELATIVE_TOLERANCE: Final = 1e-4
# A root of the error of a difference quotient and of its rounding.
_DERIVATIVE_STEP: Final = 1e-3


def _identity(means: FloatArray) -> FloatArray:
    return means


@dataclass(frozen=True, eq=False, kw_only=True)
class Observables:
    """What a model gives for the observables of the targets, as means over independent samples.

    Parameters
    ----------
    samples : ndarray, shape (n_samples, n_terms), float64
        One row for each sample, such as a start with all that was drawn from it. One row alone: a model that is
        known exactly.
    estimate : callable
        From means of the terms, (..., n_terms), to the observables, (..., n_observables); the means themselves by
        default. For a relaxation rate: from the mean of x_0 x_N and of x_0² to −ln(C) / τ.
    """

    samples: FloatArray
    estimate: Callable[[FloatArray], FloatArray] = field(default=_identity)

    def __post_init__(self) -> None:
        """Check shape and values."""
        if self.samples.ndim != 2 or not len(self.samples):
            raise ValueError(
                f"samples: expected shape (n_samples, n_terms), got {self.samples.shape}"
            )
        if not np.isfinite(self.samples).all():
            raise ValueError("samples: expected finite values, got NaN or infinity")

    def values(self, counts: FloatArray | None = None) -> FloatArray:
        """Return the observables, (..., n_observables); ``counts`` (..., n_samples) says how often a sample counts."""
        if counts is None:
            return np.asarray(self.estimate(self.samples.mean(axis=0)), dtype=np.float64)
        return np.asarray(self.estimate(counts @ self.samples / len(self.samples)))


@dataclass(frozen=True, kw_only=True)
class Target:
    """An observable that was measured.

    Parameters
    ----------
    value : float
    standard_error : float
        Above zero; its inverse square is the weight in the fit.
    name : str
    """

    value: float
    standard_error: float
    name: str = ""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not math.isfinite(self.value):
            raise ValueError(f"value: expected a finite number, got {self.value:g}")
        check_positive("standard_error", self.standard_error)


@dataclass(frozen=True, eq=False, kw_only=True)
class InterpolationFit:
    """The interpolation that agrees best with the targets.

    Parameters
    ----------
    n_int : float
    standard_error : float
        From the curvature of χ² at its minimum: the targets' uncertainty alone, to first order. Infinite where no
        observable depends on N_int.
    low, high : float
        95 % interval of a bootstrap: samples of the model are drawn again with replacement, targets within their
        standard errors.
    chi_square : float
        Σ ((model − target) / standard error)².
    n_degrees_of_freedom : int
        Targets minus one.
    is_at_bound : bool
        The best value is an end of the bounds, so that neither error means much.
    observables : ndarray, shape (n_observables,), float64
        Of the model at ``n_int``.
    n_evaluations : int
        Of the model.
    """

    n_int: float
    standard_error: float
    low: float
    high: float
    chi_square: float
    n_degrees_of_freedom: int
    is_at_bound: bool
    observables: FloatArray
    n_evaluations: int


def fit_interpolation(
    model_observables: Callable[[float], Observables],
    targets: Sequence[Target],
    *,
    bounds: tuple[float, float],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> InterpolationFit:
    """Fit N_int to one or several observables: weighted least squares, with uncertainty.

    Parameters
    ----------
    model_observables : callable
        From N_int to what the model gives. It must draw with one fixed seed at every call (common random numbers), so
        that its results are a smooth function of N_int; two calls with one value are compared.
    targets : sequence of Target
        In the order of the observables: a correlation function at lags, relaxation rates, equilibrium averages.
    bounds : (float, float)
        Of N_int, above zero; in frames or in ps, as ``model_observables`` takes it.
    n_resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    InterpolationFit

    Raises
    ------
    ValueError
        If bounds are not ascending and above zero; the number of observables is not that of the targets, or the number
        of samples changes; the model is not finite; or two calls with one N_int differ.

    Notes
    -----
    Nodes are spread evenly in ln N_int over the bounds; ``scipy.optimize.minimize_scalar`` (bounded) follows the
    deepest valley. About 20 evaluations of the model in all. The bootstrap evaluates none: it interpolates
    the resampled observables between all values at which the model was evaluated. Errors of targets are taken as
    independent.

    References
    ----------
    BoPITO, arXiv:2410.10605, interpolation to experimental observables.

    Examples
    --------
    >>> import numpy as np
    >>> def correlation(n_int):  # C(N) = 0.99 ** N, known exactly
    ...     return Observables(samples=np.array([[0.99**n_int]]))
    >>> fit = fit_interpolation(
    ...     correlation, [Target(value=0.99**80, standard_error=0.01)], bounds=(1.0, 1000.0)
    ... )
    >>> round(fit.n_int), round(fit.standard_error, 1)
    (80, 2.2)
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415  slow to import

    low, high = bounds
    if not 0 < low < high < math.inf:
        raise ValueError(f"bounds: expected 0 < low < high, got {low:g} and {high:g}")
    check_at_least("n_resamples", n_resamples, 2)
    model = _Model(model_observables, targets)
    nodes = np.linspace(math.log(low), math.log(high), _N_NODES)
    depths = [model.chi_square(u) for u in nodes]
    model.check_repeats(nodes[0])
    deepest = int(np.argmin(depths))
    valley = (nodes[max(deepest - 1, 0)], nodes[min(deepest + 1, _N_NODES - 1)])
    found = minimize_scalar(
        model.chi_square, bounds=valley, method="bounded", options={"xatol": _RELATIVE_TOLERANCE}
    )
    # The search never reaches the ends of its bounds.
    best = min([float(found.x), *nodes], key=model.chi_square)
    step = _DERIVATIVE_STEP
    ends = (max(best - step, nodes[0]), min(best + step, nodes[-1]))
    slope = (model.values(ends[1]) - model.values(ends[0])) / (ends[1] - ends[0])
    n_int = math.exp(best)
    curvature = float(np.square(slope / model.errors).sum())
    resamples = model.resampled(n_resamples, seed=seed)
    interval = interval_about(n_int, np.exp(resamples), bounds=bounds)
    return InterpolationFit(
        n_int=n_int,
        standard_error=math.inf if curvature == 0 else n_int / math.sqrt(curvature),
        low=float(interval.low),
        high=float(interval.high),
        chi_square=model.chi_square(best),
        n_degrees_of_freedom=len(targets) - 1,
        is_at_bound=best - nodes[0] < step or nodes[-1] - best < step,
        observables=model.values(best),
        n_evaluations=model.n_evaluations,
    )


class _Model:
    """The model as a function of u = ln N_int, evaluated once for each value."""

    def __init__(
        self, model_observables: Callable[[float], Observables], targets: Sequence[Target]
    ) -> None:
        if not targets:
            raise ValueError("targets: expected at least one, got none")
        self._function = model_observables
        self.wanted = np.array([target.value for target in targets])
        self.errors = np.array([target.standard_error for target in targets])
        self._known: dict[float, Observables] = {}
        self.n_evaluations = 0

    def chi_square(self, u: float) -> float:
        return float(np.square((self.values(u) - self.wanted) / self.errors).sum())

    def values(self, u: float) -> FloatArray:
        if u not in self._known:
            self._known[u] = self._evaluated(u)
        return self._known[u].values()

    def check_repeats(self, u: float) -> None:
        """Raise unless the model gives the same twice."""
        if not np.array_equal(self._evaluated(u).samples, self._known[u].samples):
            raise ValueError(
                f"model_observables: expected the same samples from two calls with {math.exp(u):g}, got others; "
                "draw with one fixed seed"
            )

    def resampled(self, n_resamples: int, *, seed: int) -> FloatArray:
        """Return u of each resample of samples and targets, (n_resamples,)."""
        from scipy.interpolate import PchipInterpolator  # noqa: PLC0415  slow to import

        rng = np.random.default_rng(seed)
        nodes = np.array(sorted(self._known))
        n_samples = len(self._known[nodes[0]].samples)
        counts = rng.multinomial(n_samples, np.full(n_samples, 1 / n_samples), size=n_resamples)
        wanted = self.wanted + self.errors * rng.standard_normal((n_resamples, len(self.wanted)))
        weights = counts.astype(np.float64)
        values = np.stack([self._known[node].values(weights) for node in nodes])
        grid = np.union1d(np.linspace(nodes[0], nodes[-1], _N_GRID), nodes)
        curves = PchipInterpolator(nodes, values, axis=0)(grid)
        depths = np.square((curves - wanted) / self.errors).sum(axis=-1)
        return _parabolic_minimum(grid, depths)

    def _evaluated(self, u: float) -> Observables:
        self.n_evaluations += 1
        found = self._function(math.exp(u))
        values = found.values()
        if values.shape != self.wanted.shape:
            raise ValueError(
                f"model_observables: expected {len(self.wanted)} observables as there are targets, "
                f"got shape {values.shape}"
            )
        known = next(iter(self._known.values()), found)
        if found.samples.shape != known.samples.shape:
            raise ValueError(
                f"model_observables: expected samples of shape {known.samples.shape} at every call, "
                f"got {found.samples.shape}"
            )
        if not np.isfinite(values).all():
            raise ValueError(
                f"model_observables: expected finite observables at {math.exp(u):g}, got {values}"
            )
        return found


def _parabolic_minimum(grid: FloatArray, depths: FloatArray) -> FloatArray:
    """Return where each column of ``depths`` (n_grid, n) is least, between the points of ``grid`` (n_grid,)."""
    place = np.argmin(np.where(np.isfinite(depths), depths, np.inf), axis=0)
    inner = place.clip(1, len(grid) - 2)
    columns = np.arange(depths.shape[1])
    x0, x1, x2 = grid[inner - 1], grid[inner], grid[inner + 1]
    y0, y1, y2 = (depths[inner + shift, columns] for shift in (-1, 0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        before, after = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
        vertex = (x0 + x1) / 2 - before * (x2 - x0) / 2 / (after - before)
    is_inside = (place == inner) & (vertex > x0) & (vertex < x2)
    return np.asarray(np.where(is_inside, vertex, grid[place]))
