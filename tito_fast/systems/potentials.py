"""Potential energies of one or two dimensions, each with the overdamped dynamics that it is simulated with.

Brownian (overdamped Langevin) dynamics in a potential V with friction γ at thermal energy kT is
``dx = F(x)/γ dt + sqrt(2 kT/γ) dW``, ``F = −∇V``. Its equilibrium density is ``exp(−V/kT) / Z`` and its diffusion
constant ``D = kT/γ``. Everything is in reduced units, those of the formula of V.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Potential(Protocol):
    """What sampling, simulation and spectra need to know of a potential."""

    @property
    def n_dims(self) -> int:
        """Dimensions of a position."""
        ...

    @property
    def thermal_energy(self) -> float:
        """The thermal energy kT, in units of V."""
        ...

    @property
    def friction(self) -> float:
        """The friction γ."""
        ...

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest value of each dimension; outside lies less than 1e-10 of equilibrium."""
        ...

    def __hash__(self) -> int:
        """Tables of equal potentials are made once."""
        ...

    def energy(self, x: FloatArray) -> FloatArray:
        """Return V, shape (n,), at positions ``x``, shape (n, n_dims)."""
        ...

    def force(self, x: FloatArray) -> FloatArray:
        """Return F = −∇V, shape (n, n_dims), at positions ``x``, shape (n, n_dims)."""
        ...


def positions_of(x: FloatArray, n_dims: int) -> FloatArray:
    """Return ``x`` as float64; raise ``ValueError`` unless its shape is (n, n_dims)."""
    positions = np.asarray(x, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != n_dims:
        raise ValueError(f"x: expected shape (n, {n_dims}), got {np.shape(x)}")
    return positions


@dataclass(frozen=True)
class PrinzPotential:
    """Four wells in one dimension.

    ``V(x) = 4 (x⁸ + 0.8 exp(−80 x²) + 0.2 exp(−80 (x − 0.5)²) + 0.5 exp(−40 (x + 0.5)²))``, kT = γ = 1.

    Attributes
    ----------
    time_step, steps_per_frame : float, int
        The published dynamics: 500 steps of 1e-5 between two frames, so a frame is 0.005 time units.

    References
    ----------
    Prinz et al., Markov models of molecular kinetics: Generation and validation, J. Chem. Phys. 134, 174105 (2011),
    doi:10.1063/1.3565032, section V.
    """

    time_step: float = 1e-5
    steps_per_frame: int = 500

    @property
    def n_dims(self) -> int:
        """One."""
        return 1

    @property
    def thermal_energy(self) -> float:
        """Thermal energy, 1."""
        return 1.0

    @property
    def friction(self) -> float:
        """Friction, 1."""
        return 1.0

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """V is 59 kT at both ends."""
        return ((-1.4, 1.4),)

    @property
    def frame_time(self) -> float:
        """Time between two frames of the published dynamics."""
        return self.time_step * self.steps_per_frame

    def energy(self, x: FloatArray) -> FloatArray:
        """Return V, shape (n,), at positions ``x``, shape (n, 1)."""
        p = positions_of(x, self.n_dims)[:, 0]
        return 4 * (
            p**8
            + 0.8 * np.exp(-80 * p**2)
            + 0.2 * np.exp(-80 * (p - 0.5) ** 2)
            + 0.5 * np.exp(-40 * (p + 0.5) ** 2)
        )

    def force(self, x: FloatArray) -> FloatArray:
        """Return F = −dV/dx, shape (n, 1), at positions ``x``, shape (n, 1)."""
        p = positions_of(x, self.n_dims)
        return 4 * (
            -8 * p**7
            + 128 * p * np.exp(-80 * p**2)
            + 32 * (p - 0.5) * np.exp(-80 * (p - 0.5) ** 2)
            + 40 * (p + 0.5) * np.exp(-40 * (p + 0.5) ** 2)
        )


_AMPLITUDE: Final = np.array([-200.0, -100.0, -170.0, 15.0])
_XX: Final = np.array([-1.0, -1.0, -6.5, 0.7])
_XY: Final = np.array([0.0, 0.0, 11.0, 0.6])
_YY: Final = np.array([-10.0, -10.0, -6.5, 0.7])
_CENTER_X: Final = np.array([1.0, 0.0, -0.5, -1.0])
_CENTER_Y: Final = np.array([0.0, 0.5, 1.5, 1.0])
_HOTTEST: Final = 25.0


@dataclass(frozen=True)
class MullerBrownPotential:
    """Three wells in two dimensions.

    ``V(x, y) = Σ_k A_k exp(a_k (x − x̄_k)² + b_k (x − x̄_k)(y − ȳ_k) + c_k (y − ȳ_k)²)`` with the four terms of Müller
    and Brown. The saddle between the two deep wells is 106 above the lower one.

    Attributes
    ----------
    thermal_energy : float
        kT in units of V, at most 25. The coefficients fix no temperature; at 20 the barrier is 5.3 kT.
    time_step, steps_per_frame : float, int
        Ours, for kT = 20 and friction 1: a step of 0.008 relaxation times of the stiffest direction, and a frame of
        0.001 time units, of which the slowest relaxation takes 221.

    References
    ----------
    Müller and Brown, Location of saddle points and minimum energy paths by a constrained simplex optimization
    procedure, Theor. Chim. Acta 53, 75 (1979), doi:10.1007/BF00547608, footnote 7.
    """

    thermal_energy: float = 20.0
    time_step: float = 2e-6
    steps_per_frame: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.thermal_energy <= _HOTTEST:
            raise ValueError(
                f"thermal_energy: expected a value above zero and at most {_HOTTEST:g}, up to which the bounds hold "
                f"all of equilibrium, got {self.thermal_energy:g}"
            )

    @property
    def n_dims(self) -> int:
        """Two."""
        return 2

    @property
    def friction(self) -> float:
        """Friction, 1."""
        return 1.0

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """V is more than 600 above its minimum on the border, 30 kT at kT = 20."""
        return ((-3.5, 1.6), (-1.5, 3.5))

    @property
    def frame_time(self) -> float:
        """Time between two frames."""
        return self.time_step * self.steps_per_frame

    def energy(self, x: FloatArray) -> FloatArray:
        """Return V, shape (n,), at positions ``x``, shape (n, 2)."""
        return np.asarray(self._terms(positions_of(x, self.n_dims))[0].sum(axis=1))

    def force(self, x: FloatArray) -> FloatArray:
        """Return F = −∇V, shape (n, 2), at positions ``x``, shape (n, 2)."""
        terms, dx, dy = self._terms(positions_of(x, self.n_dims))
        along_x = -(terms * (2 * _XX * dx + _XY * dy)).sum(axis=1)
        along_y = -(terms * (_XY * dx + 2 * _YY * dy)).sum(axis=1)
        return np.stack((along_x, along_y), axis=1)

    @staticmethod
    def _terms(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the four terms of V and the distances from their centers, (n, 4) each."""
        dx = x[:, :1] - _CENTER_X
        dy = x[:, 1:] - _CENTER_Y
        return _AMPLITUDE * np.exp(_XX * dx * dx + _XY * dx * dy + _YY * dy * dy), dx, dy


@dataclass(frozen=True)
class HarmonicPotential:
    """One well in one dimension, ``V(x) = stiffness/2 · x²``, kT = γ = 1: everything has a closed form.

    The dynamics is the Ornstein-Uhlenbeck process: eigenvalues ``exp(−k · stiffness · lag_time)``, k = 0, 1, …
    """

    stiffness: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.stiffness) and self.stiffness > 0):
            raise ValueError(f"stiffness: expected a value above zero, got {self.stiffness:g}")

    @property
    def n_dims(self) -> int:
        """One."""
        return 1

    @property
    def thermal_energy(self) -> float:
        """Thermal energy, 1."""
        return 1.0

    @property
    def friction(self) -> float:
        """Friction, 1."""
        return 1.0

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Nine standard deviations on both sides."""
        end = 9.0 / float(np.sqrt(self.stiffness))
        return ((-end, end),)

    def energy(self, x: FloatArray) -> FloatArray:
        """Return V, shape (n,), at positions ``x``, shape (n, 1)."""
        return np.asarray(0.5 * self.stiffness * positions_of(x, self.n_dims)[:, 0] ** 2)

    def force(self, x: FloatArray) -> FloatArray:
        """Return F = −dV/dx, shape (n, 1), at positions ``x``, shape (n, 1)."""
        return np.asarray(-self.stiffness * positions_of(x, self.n_dims))


PRINZ: Final = PrinzPotential()
"""The Prinz potential."""

MULLER_BROWN: Final = MullerBrownPotential()
"""The Müller-Brown potential at kT = 20."""
