"""Trajectories of Brownian dynamics, by compiled kernels."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tito_fast._extension import native_module
from tito_fast.errors import NonFiniteError
from tito_fast.systems.equilibrium import check_seed, equilibrium_samples
from tito_fast.systems.potentials import (
    HarmonicPotential,
    MullerBrownPotential,
    Potential,
    PrinzPotential,
)
from tito_fast.validation import check_at_least, check_positive

_KERNELS: Final = {
    PrinzPotential: "PRINZ",
    MullerBrownPotential: "MULLER_BROWN",
    HarmonicPotential: "HARMONIC",
}
_MAX_TRAJECTORIES: Final = 2**32
# Trajectories that one call advances together, per thread, and their steps: a few tenths of a second, after which an
# interrupt is seen. Few enough that frames which lie together are written together.
_GROUP: Final = 1024
_STEPS_PER_CALL: Final = 50_000_000
_FULL: Final = 64


@dataclass(frozen=True)
class BrownianPlan:
    """How long a simulation is and how it is cut into frames.

    Frame f is the state after ``(burn_in_frames + f) · steps_per_frame`` steps, so without burn-in frame 0 is the
    start.
    """

    n_frames: int
    steps_per_frame: int
    time_step: float
    burn_in_frames: int

    def __post_init__(self) -> None:
        check_at_least("n_frames", self.n_frames, 1)
        check_at_least("steps_per_frame", self.steps_per_frame, 1)
        check_positive("time_step", self.time_step)
        check_at_least("burn_in_frames", self.burn_in_frames, 0)

    @property
    def n_burn_in_steps(self) -> int:
        """Steps before frame 0."""
        return self.burn_in_frames * self.steps_per_frame

    @property
    def n_steps(self) -> int:
        """Steps until the last frame."""
        return self.n_burn_in_steps + (self.n_frames - 1) * self.steps_per_frame


def brownian_trajectories(  # noqa: PLR0913  what defines a simulation
    potential: Potential,
    *,
    n_trajectories: int,
    n_frames: int,
    steps_per_frame: int,
    time_step: float,
    seed: int,
    start: ArrayLike | None = None,
    burn_in_frames: int = 0,
    dtype: DTypeLike = np.float32,
    n_threads: int | None = None,
) -> NDArray[Any]:
    """Simulate Brownian dynamics by the method of Euler and Maruyama.

    ``x_{s+1} = x_s + h/γ · F(x_s) + sqrt(2 kT h/γ) · n_s`` with h = ``time_step`` and standard normals n_s.

    Parameters
    ----------
    potential : PrinzPotential, MullerBrownPotential or HarmonicPotential
    n_trajectories : int
        At most 2**32.
    n_frames : int
        Frames of each trajectory; frame f is the state after ``(burn_in_frames + f) · steps_per_frame`` steps, so
        without burn-in frame 0 is the start.
    steps_per_frame : int
    time_step : float
        h, in time units of the potential.
    seed : int
        64 bits.
    start : ndarray, shape (n_trajectories, n_dims), optional
        Where the trajectories start. Otherwise at :func:`equilibrium_samples` of the same seed.
    burn_in_frames : int
        Frames before the first that is kept.
    dtype : float32 or float64
        Of the state; the normals are drawn in float32 for both.
    n_threads : int, optional
        torch's number of threads otherwise.

    Returns
    -------
    ndarray, shape (n_trajectories, n_frames, n_dims)

    Raises
    ------
    ValueError
        An argument out of range, or a start of another shape or that is not finite.
    TypeError
        A potential without a kernel (:func:`brownian_reference` takes any), or another dtype.
    NonFiniteError
        A trajectory left every bound: the time step is too long, or the start too high.
    BackendUnavailableError
        The compiled module is missing.

    Notes
    -----
    Deterministic, bit for bit, for any number of threads and any instruction set: a normal is a function of (seed,
    trajectory, step, dimension), by Philox-4x32-10 and Box-Muller, so a trajectory does not depend on those computed
    beside it. Stops within about a second of an interrupt.

    The density that the method samples differs from the equilibrium density by the order of h times the curvature of
    V/γ; see the documentation for the size.

    References
    ----------
    Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC'11, doi:10.1145/2063384.2063405.
    """
    plan = BrownianPlan(n_frames, steps_per_frame, time_step, burn_in_frames)
    kernel = _KERNELS.get(type(potential))
    if kernel is None:
        raise TypeError(
            f"potential: expected one of {', '.join(kind.__name__ for kind in _KERNELS)}, "
            f"got {type(potential).__name__}; use brownian_reference"
        )
    element = np.dtype(dtype)
    if element not in {np.dtype(np.float32), np.dtype(np.float64)}:
        raise TypeError(f"dtype: expected float32 or float64, got {element}")
    state = starting_state(potential, n_trajectories, start=start, seed=seed).astype(element)
    n_threads = _default_threads() if n_threads is None else n_threads
    check_at_least("n_threads", n_threads, 1)

    frames = np.empty((n_trajectories, n_frames, potential.n_dims), dtype=element)
    if burn_in_frames == 0:
        frames[:, 0] = state
    scales = step_scales(potential, time_step)
    for first in range(0, n_trajectories, _GROUP * n_threads):
        rows = slice(first, min(first + _GROUP * n_threads, n_trajectories))
        call = _Call(kernel, potential, scales, seed, first, plan, n_threads)
        call.run(state[rows], frames[rows])
    return frames


@dataclass(frozen=True)
class _Call:
    """What the kernel is told of a group of trajectories."""

    kernel: str
    potential: Potential
    scales: tuple[float, float]
    seed: int
    first_trajectory: int
    plan: BrownianPlan
    n_threads: int

    def run(self, state: NDArray[Any], frames: NDArray[Any]) -> None:
        """Advance ``state`` (n, n_dims) to the last frame, and fill ``frames``; both contiguous."""
        module = native_module()
        plan, n = self.plan, len(state)
        # A call costs no less for fewer trajectories than fill the vectors of a thread. A multiple of four: a block of
        # random words serves four steps.
        n_steps = 4 * max(1, _STEPS_PER_CALL * self.n_threads // (4 * max(n, _FULL)))
        for step in range(0, plan.n_steps, n_steps):
            module.brownian_cpu(
                getattr(module.BrownianPotential, self.kernel),
                state.dtype == np.float64,
                getattr(self.potential, "stiffness", 0.0),
                *self.scales,
                self.seed,
                self.first_trajectory,
                n,
                plan.n_frames,
                plan.steps_per_frame,
                plan.n_burn_in_steps,
                step,
                min(step + n_steps, plan.n_steps),
                state.ctypes.data,
                frames.ctypes.data,
                self.n_threads,
            )
            self._check_finite(state, min(step + n_steps, plan.n_steps))

    def _check_finite(self, state: NDArray[Any], step: int) -> None:
        is_lost = ~np.isfinite(state).all(axis=1)
        if is_lost.any():
            raise NonFiniteError(
                f"trajectory {self.first_trajectory + int(is_lost.argmax())}: expected finite positions, got "
                f"{state[is_lost.argmax()]} within {step} steps; take a time_step shorter than {self.plan.time_step:g} "
                "or start where the energy is lower"
            )


def starting_state(
    potential: Potential, n_trajectories: int, *, start: ArrayLike | None, seed: int
) -> NDArray[np.float64]:
    """Return the start of every trajectory, checked, as a new array of shape (n_trajectories, n_dims)."""
    check_at_least("n_trajectories", n_trajectories, 1)
    if n_trajectories > _MAX_TRAJECTORIES:
        raise ValueError(f"n_trajectories: expected at most 2**32, got {n_trajectories}")
    check_seed(seed)
    if start is None:
        return equilibrium_samples(potential, n_trajectories, seed=seed)
    state = np.array(start, dtype=np.float64)
    if state.shape != (n_trajectories, potential.n_dims):
        raise ValueError(
            f"start: expected shape ({n_trajectories}, {potential.n_dims}), got {state.shape}"
        )
    if not np.isfinite(state).all():
        raise ValueError("start: expected finite positions, got NaN or infinity")
    return state


def step_scales(potential: Potential, time_step: float) -> tuple[float, float]:
    """Return the factors of the force and of the normals in a step: h/γ and sqrt(2 kT h/γ)."""
    drift = time_step / potential.friction
    return drift, float(np.sqrt(2 * potential.thermal_energy * drift))


def _default_threads() -> int:
    import torch  # noqa: PLC0415  seconds to import, for one number

    return torch.get_num_threads()
