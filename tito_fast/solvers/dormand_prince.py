"""The pair of Dormand and Prince, orders 5 and 4: each molecule takes steps of its own length."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor

from tito_fast.errors import NonFiniteError
from tito_fast.ops import embedded_ode_step
from tito_fast.validation import check_at_least, check_positive, check_shape

# Row s holds the weights of stages 1 … s in the point where stage s + 1 is taken; the last row is the step itself, so
# its velocity is the first stage of the next step (FSAL).
_ROWS: Final = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_TIMES: Final = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_WEIGHTS: Final = (*_ROWS[-1], 0.0)
_ERROR_WEIGHTS: Final = (
    71 / 57600,
    0.0,
    -71 / 16695,
    71 / 1920,
    -17253 / 339200,
    22 / 525,
    -1 / 40,
)
_N_STAGES: Final = 7
_EVALUATIONS_PER_TRIAL: Final = 6

# Hairer, Norsett, Wanner II.4: safety and bounds of the next step.
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 10.0
_EXPONENT = -1 / 5
# A step this short, as a share of the whole interval, will not meet its tolerance by being shortened further.
_SHORTEST = 1e-12
_TRIALS_PER_READ_GPU: Final = 4


class TimedField(Protocol):
    """The right-hand side of ``dx/dt = v(x, t)``, each molecule at a time of its own."""

    def __call__(self, x_t: Tensor, flow_time: Tensor, /) -> Tensor:
        """Return the velocity (n_atoms, 3) at ``x_t`` (n_atoms, 3) and ``flow_time`` (n_molecules,)."""
        ...


class AdaptiveResult(NamedTuple):
    """The end of an integration, and what it took."""

    x_t: Tensor
    """(n_atoms, 3), dtype of the start."""
    n_evaluations: int
    """Calls of the field, each with the whole batch."""
    n_steps: Tensor
    """(n_molecules,) int64: steps taken."""
    n_rejected: Tensor
    """(n_molecules,) int64: trial steps that were thrown away."""


@dataclass(frozen=True, kw_only=True)
class DormandPrince:
    """Tolerances and limits of an integration with steps of its own choice.

    Parameters
    ----------
    relative_tolerance, absolute_tolerance : float
        A step is taken where the root mean square over a molecule of its error, divided by
        ``absolute_tolerance + relative_tolerance |x|``, is at most 1.
    first_step : float, optional
        Length of the first trial; None: chosen from the velocity, for one more evaluation.
    max_evaluations : int
        Calls of the field before the integration gives up with an error.
    trials_per_read : int, optional
        Trial steps between two looks of the host at the device; molecules that ended wait meanwhile. None: 1
        on a CPU, 4 elsewhere. Results do not depend on it.
    """

    relative_tolerance: float = 1e-5
    absolute_tolerance: float = 1e-5
    first_step: float | None = None
    max_evaluations: int = 10_000
    trials_per_read: int | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 <= self.relative_tolerance < math.inf:
            raise ValueError(
                f"relative_tolerance: expected at least 0, got {self.relative_tolerance}"
            )
        check_positive("absolute_tolerance", self.absolute_tolerance)
        if self.first_step is not None:
            check_positive("first_step", self.first_step)
        check_at_least("max_evaluations", self.max_evaluations, 1)
        if self.trials_per_read is not None:
            check_at_least("trials_per_read", self.trials_per_read, 1)

    def solve(
        self, field: TimedField, x_0: Tensor, *, batch_ptr: Tensor, start: float, end: float
    ) -> AdaptiveResult:
        """Return the solution at ``end``, uncentered: :func:`integrate_adaptive` with these settings."""
        return integrate_adaptive(
            field, x_0, batch_ptr=batch_ptr, solver=self, start=start, end=end, center=False
        )


class _Step(NamedTuple):
    """A trial step."""

    x_t: Tensor
    error: Tensor  # (n_molecules,) float64


class _State(NamedTuple):
    """Where each molecule is."""

    x_t: Tensor
    velocity: Tensor
    time: Tensor  # (n_molecules,) float64, as the step
    step: Tensor  # signed
    may_grow: Tensor  # (n_molecules,) bool: the trial before was taken
    error: Tensor  # of the last trial
    n_steps: Tensor
    n_rejected: Tensor


@torch.no_grad()
def integrate_adaptive(
    field: TimedField,
    x_0: Tensor,
    *,
    batch_ptr: Tensor,
    solver: DormandPrince | None = None,
    start: float = 0.0,
    end: float = 1.0,
    center: bool = True,
) -> AdaptiveResult:
    """Return the solution at ``end``, every molecule in steps of its own length.

    Parameters
    ----------
    field : TimedField
        Called with all molecules, each at its own time.
    x_0 : Tensor, shape (n_atoms, 3), float32 or float64
        State at ``start``.
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    solver : DormandPrince, optional
        Tolerances; None: those of ``DormandPrince()``.
    start, end : float
        Backward in time where ``end`` is less.
    center : bool
        Center each molecule after every step.

    Returns
    -------
    AdaptiveResult

    Raises
    ------
    ValueError
        If ``max_evaluations`` do not suffice, or no step is short enough for the tolerances.
    NonFiniteError
        If the velocity is NaN or infinite however short the step is.

    Notes
    -----
    Six evaluations for each trial step (the last is the first of the next), one or two to begin with. A molecule
    neither waits for others nor hastens them: the batch goes on until the last has ended, those that have ended stand
    still at no change, but their evaluations are made. Accepting and rejecting stay on the device; see
    ``DormandPrince.trials_per_read``. Not differentiable. Times are float64; the field gets them in its dtype.

    References
    ----------
    Dormand and Prince, J. Comput. Appl. Math. 6, 19 (1980), doi:10.1016/0771-050X(80)90013-3; step control and first
    step: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, II.4, doi:10.1007/978-3-540-78862-1.

    Examples
    --------
    >>> x_0 = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    >>> batch_ptr = torch.tensor([0, 1])
    >>> result = integrate_adaptive(lambda x_t, t: -x_t, x_0, batch_ptr=batch_ptr, center=False)
    >>> result.x_t[0, 0].round(decimals=4), result.n_rejected
    (tensor(0.3679, dtype=torch.float64), tensor([0]))
    """
    check_shape("x_0", x_0, ("n_atoms", 3))
    if not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError(f"start, end: expected finite times, got {start} and {end}")
    run = _Integration(
        field, batch_ptr, solver or DormandPrince(), start, end, center, x_0.shape[0]
    )
    state = run.begin(x_0)
    while run.goes_on(state):
        for _ in range(run.trials_per_read):
            state = run.tried(state)
    return AdaptiveResult(state.x_t, run.n_evaluations, state.n_steps, state.n_rejected)


class _Integration:
    """One integration: what does not change while it runs, and the count of evaluations."""

    def __init__(
        self,
        field: TimedField,
        batch_ptr: Tensor,
        solver: DormandPrince,
        start: float,
        end: float,
        center: bool,
        n_atoms: int,
    ) -> None:
        self._field, self._batch_ptr, self._solver = field, batch_ptr, solver
        self._start, self._end, self._center = start, end, center
        self._n_molecules = batch_ptr.shape[0] - 1
        self._molecule_of = torch.repeat_interleave(
            torch.arange(self._n_molecules, device=batch_ptr.device),
            batch_ptr.diff(),
            output_size=n_atoms,
        )
        is_cpu = batch_ptr.device.type == "cpu"
        self.trials_per_read = solver.trials_per_read or (1 if is_cpu else _TRIALS_PER_READ_GPU)
        self.n_evaluations = 0

    def begin(self, x_0: Tensor) -> _State:
        """Return the state at the start, with the length of the first trial."""
        shape = (self._n_molecules,)
        time = torch.full(shape, self._start, dtype=torch.float64, device=x_0.device)
        velocity = self._velocity(x_0, time)
        counts = torch.zeros(shape, dtype=torch.int64, device=x_0.device)
        return _State(
            x_t=x_0.clone(),
            velocity=velocity,
            time=time,
            step=self._first_step(x_0, velocity, time),
            may_grow=torch.ones_like(time, dtype=torch.bool),
            error=torch.zeros_like(time),
            n_steps=counts,
            n_rejected=counts,
        )

    def goes_on(self, state: _State) -> bool:
        """Return whether a molecule has not ended; the only wait for the device."""
        is_going = state.time != self._end
        is_stuck = is_going & (state.step.abs() < _SHORTEST * abs(self._end - self._start))
        goes_on, is_lost = torch.stack([is_going.any(), is_stuck.any()]).tolist()
        if is_lost:
            self._raise_stuck(state, is_stuck)
        return bool(goes_on)

    def tried(self, state: _State) -> _State:
        """Return the state after one trial step of every molecule."""
        left = self._end - state.time
        is_going = left != 0
        is_last = state.step.abs() >= left.abs()
        step = torch.where(is_last, left, state.step)
        trial, velocity = self._trial(state, step)
        is_taken = is_going & (trial.error <= 1)
        # An error that is not a number shrinks the step as the largest does.
        factor = (_SAFETY * trial.error**_EXPONENT).nan_to_num(nan=_SHRINK).clamp(_SHRINK, _GROW)
        factor = torch.where(state.may_grow & is_taken, factor, factor.clamp(max=1.0))
        arrived = torch.where(is_last, self._end, state.time + step)
        of_atoms = is_taken[self._molecule_of].unsqueeze(1)
        return _State(
            x_t=torch.where(of_atoms, trial.x_t, state.x_t),
            velocity=torch.where(of_atoms, velocity, state.velocity),
            time=torch.where(is_taken, arrived, state.time),
            step=torch.where(is_going, step * factor, state.step),
            may_grow=is_taken,
            error=trial.error,
            n_steps=state.n_steps + is_taken,
            n_rejected=state.n_rejected + (is_going & ~is_taken),
        )

    def _trial(self, state: _State, step: Tensor) -> tuple[_Step, Tensor]:
        """Return the step with its error, and the velocity at its end."""
        if self.n_evaluations + _EVALUATIONS_PER_TRIAL > self._solver.max_evaluations:
            self._raise_too_many(state)
        velocities = state.velocity.new_empty((_N_STAGES, *state.x_t.shape))
        velocities[0] = state.velocity
        x_t = state.x_t
        for stage, (weights, share) in enumerate(zip(_ROWS, _TIMES, strict=True), start=1):
            no_error = (0.0,) * stage
            x_t = self._moved(state.x_t, velocities[:stage], weights, no_error, step).x_t
            velocities[stage] = self._velocity(x_t, state.time + share * step)
        error = self._moved(state.x_t, velocities, _WEIGHTS, _ERROR_WEIGHTS, step).error
        return _Step(x_t, error), velocities[-1]

    def _moved(
        self,
        x_t: Tensor,
        velocities: Tensor,
        weights: tuple[float, ...],
        error_weights: tuple[float, ...],
        step: Tensor,
    ) -> _Step:
        moved = embedded_ode_step(
            x_t,
            velocities,
            weights=weights,
            error_weights=error_weights,
            step_sizes=step.to(x_t.dtype),
            absolute_tolerance=self._solver.absolute_tolerance,
            relative_tolerance=self._solver.relative_tolerance,
            batch_ptr=self._batch_ptr,
            center=self._center,
        )
        return _Step(moved.positions, moved.error.double())

    def _velocity(self, x_t: Tensor, time: Tensor) -> Tensor:
        self.n_evaluations += 1
        velocity = self._field(x_t, time.to(x_t.dtype))
        if velocity.shape != x_t.shape:
            raise ValueError(
                f"field: expected velocities of shape {tuple(x_t.shape)}, got {tuple(velocity.shape)}"
            )
        return velocity

    def _first_step(self, x_0: Tensor, velocity: Tensor, time: Tensor) -> Tensor:
        """Return lengths of the first trial: such that an Euler step would be good to a hundredth."""
        span = self._end - self._start
        sign = math.copysign(1.0, span)
        if self._solver.first_step is not None:
            return torch.full_like(time, sign * min(self._solver.first_step, abs(span)))
        size, speed = self._norm(x_0, x_0), self._norm(x_0, velocity)
        is_small = (size < 1e-5) | (speed < 1e-5)
        guess: Tensor = torch.where(is_small, 1e-6, 0.01 * size / speed)
        guess = guess.nan_to_num(nan=1e-6).clamp(max=abs(span))
        euler = self._moved(x_0, velocity[None], (1.0,), (0.0,), sign * guess).x_t
        change = self._norm(x_0, self._velocity(euler, time + sign * guess) - velocity) / guess
        fastest = torch.maximum(speed, change)
        length: Tensor = torch.where(
            fastest <= 1e-15, (1e-3 * guess).clamp(min=1e-6), (0.01 / fastest) ** -_EXPONENT
        )
        length = torch.minimum(100 * guess, length).nan_to_num(nan=1e-6)
        return sign * length.clamp(max=abs(span))

    def _norm(self, x_t: Tensor, values: Tensor) -> Tensor:
        """Return the norm in which errors are measured, of ``values`` at ``x_t``."""
        one = torch.ones(self._n_molecules, dtype=torch.float64, device=x_t.device)
        return self._moved(x_t, values[None], (0.0,), (1.0,), one).error

    def _raise_too_many(self, state: _State) -> None:
        done = (state.time - self._start) / (self._end - self._start)
        raise ValueError(
            f"max_evaluations: expected the integration to end within {self._solver.max_evaluations}, got "
            f"{100 * float(done.min()):.3g} % of the way in the slowest of {self._n_molecules} molecules; raise "
            "max_evaluations, or the tolerances"
        )

    def _raise_stuck(self, state: _State, is_stuck: Tensor) -> None:
        molecule = int(is_stuck.nonzero()[0])
        where = f"molecule {molecule} at time {float(state.time[molecule]):g}"
        if not math.isfinite(float(state.error[molecule])):
            raise NonFiniteError(f"field: expected finite velocities, got others in {where}")
        raise ValueError(
            f"absolute_tolerance, relative_tolerance: expected tolerances that {state.x_t.dtype} and the field allow, "
            f"got {self._solver.absolute_tolerance:g} and {self._solver.relative_tolerance:g}, for which no step of "
            f"{where} is short enough; raise them"
        )
