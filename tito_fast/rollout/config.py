"""What a rollout is, apart from the model and the molecules."""

from dataclasses import dataclass

from tito_fast.data.validity import FLAG_BITS
from tito_fast.processes import Devices, check_devices
from tito_fast.solvers import DIFFUSION_SOLVERS, SOLVERS
from tito_fast.types import (
    BACKENDS,
    CHECKS,
    PRECISIONS,
    VECTOR_STARTS,
    Backend,
    Check,
    Precision,
    VectorStart,
)
from tito_fast.validation import check_at_least, check_choice, check_positive

TRAJECTORY_FORMATS = ("xtc", "dcd", "h5")
CHECK_CRITERIA = ("bonds", "clashes", "stereo")
"""Criteria that may be chosen; a frame with NaN is never written, and ends its replica."""


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """One rollout.

    Parameters
    ----------
    lag_times_ps : tuple of float
        Lag of each rollout step, in ps; cycled over the steps.
    interpolation_times_ps : tuple of float or None
        For models with an equilibrium term, one for each lag, or none at all: the time in the power of the decay
        instead of the lag, in ps; None: the lag.
    n_rollout_steps : int
        Applications of the transfer operator; a trajectory has one frame more.
    n_replicas : int
        Independent copies of each molecule.
    n_ode_steps : int or None
        Solver steps in one rollout step, uniform in flow time or in the diffusion step; None: 10 with the
        default ``ab2``, 20 with other solvers, and 50 for a model that predicts noise.
    solver : str or None
        Name in ``tito_fast.solvers.SOLVERS``, or ``DIFFUSION_SOLVERS`` for a model that predicts noise; None:
        ``ab2`` for a field without noise (vectors start at zero or with the condition's), ``euler`` else, and
        ``dpm-solver++``.
    seed : int
        All noise follows from it; 0 to 2**64 - 1.
    temperature_k : float or None
        For models that take one.
    base_std : float or None
        Standard deviation of the base density, model units; None: the model's.
    vector_start : VectorStart or None
        None: as the model was trained; for solvers other than Euler ``randn`` becomes ``randn_fixed``.
    precision : "fp32" | "tf32" | "bf16" | "fp64"
    backend : Backend
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    devices : int or "auto"
        Processes on this machine, one device each; ``auto``: every CUDA device, one on a CPU. Where torchrun
        or srun started several processes already, theirs are taken.
    n_threads : int or None
        CPU threads of each process; None: as torch has them, divided among the processes of a CPU.
    batch_size : int or None
        Replicas advanced together; None: as many as fit into the memory budget.
    format : "xtc" | "dcd" | "h5"
    align : bool
        Superpose each written frame on the one before (the model carries no orientation over).
    check : "off" | "mark" | "drop"
        What becomes of unsound frames: ``mark`` writes a flag for each frame beside the trajectories, ``drop``
        leaves unsound ones out of them as well. The rollout itself goes on from every frame, sound or not: to reject
        and draw again would sample another process. ``dcd`` has no times of single frames, so it cannot drop.
    check_criteria : tuple of str or None
        What makes a frame unsound, of ``CHECK_CRITERIA``; None: each of them. The start is not checked.
    """

    lag_times_ps: tuple[float, ...]
    n_rollout_steps: int
    interpolation_times_ps: tuple[float | None, ...] = ()
    n_replicas: int = 1
    n_ode_steps: int | None = None
    solver: str | None = None
    seed: int = 0
    temperature_k: float | None = None
    base_std: float | None = None
    vector_start: VectorStart | None = None
    precision: Precision = "fp32"
    backend: Backend = "auto"
    device: str = "auto"
    devices: Devices = 1
    n_threads: int | None = None
    batch_size: int | None = None
    format: str = "xtc"
    align: bool = True
    check: Check = "off"
    check_criteria: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        self._check_schedule()
        check_at_least("n_steps", self.n_rollout_steps, 1)
        check_at_least("replicas", self.n_replicas, 1)
        if self.n_ode_steps is not None:
            check_at_least("ode_steps", self.n_ode_steps, 1)
        if self.solver is not None:
            check_choice("solver", self.solver, (*SOLVERS, *DIFFUSION_SOLVERS))
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed: expected 0 to 2**64 - 1, got {self.seed}")
        for name in ("temperature_k", "base_std"):
            value = getattr(self, name)
            if value is not None:
                check_positive(name, value)
        check_devices(self.devices)
        for name in ("n_threads", "batch_size"):
            value = getattr(self, name)
            if value is not None:
                check_at_least(name, value, 1)
        if self.vector_start is not None:
            check_choice("vector_start", self.vector_start, VECTOR_STARTS)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("backend", self.backend, BACKENDS)
        check_choice("format", self.format, TRAJECTORY_FORMATS)
        self._check_the_check()

    def lag_time_ps(self, rollout_step: int) -> float:
        """Return the lag of a rollout step, counted from 0."""
        return self.lag_times_ps[rollout_step % len(self.lag_times_ps)]

    def interpolation_ps(self, rollout_step: int) -> float | None:
        """Return the time in the power of the decay in a rollout step, counted from 0; None: its lag."""
        times = self.interpolation_times_ps
        return times[rollout_step % len(times)] if times else None

    @property
    def flag_bits(self) -> dict[str, int]:
        """The criteria that apply, with the bit of each in a frame's flag; none if nothing is checked."""
        if self.check == "off":
            return {}
        chosen = CHECK_CRITERIA if self.check_criteria is None else self.check_criteria
        return {name: FLAG_BITS[name] for name in CHECK_CRITERIA if name in chosen}

    def _check_schedule(self) -> None:
        if not self.lag_times_ps:
            raise ValueError("lag: expected at least one lag, got none")
        for lag_time_ps in self.lag_times_ps:
            check_positive("lag", lag_time_ps, unit="ps")
        if len(self.interpolation_times_ps) not in (0, len(self.lag_times_ps)):
            raise ValueError(
                f"interpolation: expected one for each of {len(self.lag_times_ps)} lags, or none at all, "
                f"got {len(self.interpolation_times_ps)}"
            )
        for time_ps in self.interpolation_times_ps:
            if time_ps is not None:
                check_positive("interpolation", time_ps, unit="ps")

    def _check_the_check(self) -> None:
        check_choice("check", self.check, CHECKS)
        if self.check == "drop" and self.format == "dcd":
            raise ValueError(
                "check: expected off or mark with the format dcd, which has no times of single frames, "
                "got drop; take xtc or h5"
            )
        if self.check_criteria is None:
            return
        if self.check == "off":
            raise ValueError(
                f"check_criteria: expected none while check is off, got "
                f"{', '.join(self.check_criteria)}; set check to mark or drop"
            )
        if not self.check_criteria:
            raise ValueError("check_criteria: expected at least one criterion, got none")
        for name in self.check_criteria:
            check_choice("check_criteria", name, CHECK_CRITERIA)
