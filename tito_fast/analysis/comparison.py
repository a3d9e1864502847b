"""A run beside its reference: common slow coordinates, lags and units of resampling."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from tito_fast.analysis.evaluation_config import EvaluationConfig
from tito_fast.analysis.metric import Metric
from tito_fast.analysis.recording import Recording
from tito_fast.analysis.resampling import block_length
from tito_fast.analysis.series import Series
from tito_fast.analysis.steps import Steps, steps_of
from tito_fast.analysis.tica import Tica, fit_tica
from tito_fast.data.molecule import FloatArray, Molecule
from tito_fast.units import format_time

MIN_UNITS: Final = 10
"""A set of fewer trajectories is cut into blocks for resampling."""

_LAG_TOLERANCE: Final = 0.02
_MAX_SUM_BYTES: Final = 1 << 28


@dataclass(eq=False, kw_only=True)
class Findings:
    """What an evaluation found.

    Parameters
    ----------
    metrics : dict of Metric
    extras : dict
        Further keys of a metric, such as the number of processes.
    arrays : dict
        Sections of numbers, ready for JSON.
    notes : list of str
        What a reader of the numbers must know.
    """

    metrics: dict[str, Metric] = field(default_factory=dict)
    extras: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        """Take over what ``other`` found."""
        self.metrics |= other.metrics
        self.extras |= other.extras
        self.arrays |= other.arrays
        self.notes += [note for note in other.notes if note not in self.notes]


@dataclass(frozen=True, eq=False, kw_only=True)
class Slow:
    """Slow coordinates of run and reference.

    Parameters
    ----------
    tica : Tica
        Fitted on the reference.
    reference, run : list of ndarray, shape (n_frames, 2), float64
    """

    tica: Tica
    reference: list[FloatArray]
    run: list[FloatArray]


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """A run beside its reference.

    Parameters
    ----------
    molecule : Molecule
    run, reference : Recording
    steps : Steps
        Of the run.
    interval_ps : float
        Between frames of the reference.
    lag_frames : int
        The run's lag in frames of the reference.
    tica_lag_frames : int
    slow : Slow or None
        None where fewer than two directions of torsions vary.
    run_block, reference_block : int or None
        Frames of a unit of resampling; None: units are trajectories.
    config : EvaluationConfig
    notes : tuple of str
    """

    molecule: Molecule
    run: Recording
    reference: Recording
    steps: Steps
    interval_ps: float
    lag_frames: int
    tica_lag_frames: int
    slow: Slow | None
    run_block: int | None
    reference_block: int | None
    config: EvaluationConfig
    notes: tuple[str, ...]

    @property
    def n_run_frames(self) -> int:
        """Frames of the run, without starts."""
        return sum(self.run.n_frames)

    @property
    def reference_lag_ps(self) -> float:
        """The lag as frames of the reference have it."""
        return self.lag_frames * self.interval_ps

    @property
    def rollouts(self) -> dict[str, int]:
        """Replicas and steps, for an ideal sampler."""
        n_replicas = len(np.unique(self.steps.trajectory_idx))
        return {"n_replicas": n_replicas, "n_steps": max(1, self.steps.n_pairs // n_replicas)}


def compare(
    run: Recording, reference: Recording, *, molecule: Molecule, config: EvaluationConfig
) -> Comparison:
    """Put a run beside its reference.

    Raises
    ------
    ValueError
        If the reference is shorter than the run's lag, or has no frames that lag apart.
    """
    notes = [*run.notes, *reference.notes]
    steps = steps_of(run.times_ps)
    if steps.note:
        notes.append(steps.note)
    interval_ps = _interval_ps(reference)
    lag_frames = _lag_frames(steps.lag_ps, interval_ps, reference)
    used_ps = lag_frames * interval_ps
    if abs(used_ps - steps.lag_ps) > 1e-6 * steps.lag_ps:
        notes.append(
            f"the reference has no frames {format_time(steps.lag_ps)} apart; its kinetics are at "
            f"{format_time(used_ps)}"
        )
    tica_frames = 1
    if config.tica_lag_ps is not None:
        tica_frames = max(1, round(config.tica_lag_ps / interval_ps))
        if max(reference.n_frames) <= tica_frames:
            raise ValueError(
                f"tica_lag: expected less than the reference, {format_time(_length_ps(reference))}, got "
                f"{format_time(config.tica_lag_ps)}"
            )
    slow = _slow(run, reference, tica_frames)
    if slow is None:
        notes.append("fewer than two directions of torsions vary: no slow coordinates, no kinetics")
    return Comparison(
        molecule=molecule,
        run=run,
        reference=reference,
        steps=steps,
        interval_ps=interval_ps,
        lag_frames=lag_frames,
        tica_lag_frames=tica_frames,
        slow=slow,
        run_block=_block(run, None if slow is None else slow.run, notes, "run"),
        reference_block=_block(
            reference, None if slow is None else slow.reference, notes, "reference", always=True
        ),
        config=config,
        notes=tuple(notes),
    )


def _interval_ps(reference: Recording) -> float:
    lengths = reference.n_frames
    if max(lengths) < 2:
        raise ValueError("reference: expected at least two frames in a trajectory, got one")
    intervals = [
        (times[-1] - times[0]) / (len(times) - 1) for times in reference.times_ps if len(times) > 1
    ]
    for times in reference.times_ps:
        steps = np.diff(times)
        if len(steps) and np.ptp(steps) > 1e-3 * steps.mean():
            raise ValueError(
                f"reference: expected frames evenly spaced in time, got {steps.min():g} to {steps.max():g} ps"
            )
    if max(intervals) - min(intervals) > 1e-3 * min(intervals):
        raise ValueError(
            f"reference: expected one interval between frames, got {min(intervals):g} to {max(intervals):g} ps"
        )
    return float(f"{np.mean(intervals):.7g}")


def _length_ps(reference: Recording) -> float:
    return float(max(times[-1] - times[0] for times in reference.times_ps if len(times)))


def _lag_frames(lag_ps: float, interval_ps: float, reference: Recording) -> int:
    length_ps = _length_ps(reference)
    if length_ps < lag_ps * (1 - _LAG_TOLERANCE):
        raise ValueError(
            f"reference: expected a trajectory longer than the run's lag of {format_time(lag_ps)}, got "
            f"{format_time(length_ps)}; simulate longer, or sample with a shorter lag"
        )
    frames = round(lag_ps / interval_ps)
    if frames < 1 or abs(frames * interval_ps - lag_ps) > _LAG_TOLERANCE * lag_ps:
        raise ValueError(
            f"reference: expected frames the run's lag of {format_time(lag_ps)} apart, got one every "
            f"{format_time(interval_ps)}; sample with a lag that is a multiple of it"
        )
    if max(reference.n_frames) <= frames:
        raise ValueError(
            f"reference: expected more than {frames} frames for the run's lag of {format_time(lag_ps)}, got "
            f"{max(reference.n_frames)}; simulate longer, or sample with a shorter lag"
        )
    return frames


def _slow(run: Recording, reference: Recording, tica_frames: int) -> Slow | None:
    if not reference.features[0].shape[1]:
        return None
    try:
        tica = fit_tica(reference.features, lag_frames=tica_frames)
    except ValueError:
        if max(reference.n_frames) <= tica_frames or not _is_flat(reference.features):
            raise
        return None
    return Slow(
        tica=tica,
        reference=[tica.project(one) for one in reference.features],
        run=[tica.project(one) for one in run.features],
    )


def _is_flat(features: Sequence[Series]) -> bool:
    """Whether fewer than two directions vary, as deeptime's threshold has it."""
    covariance = np.atleast_2d(
        np.cov(np.concatenate([one[:50_000] for one in features]).T.astype(np.float64))
    )
    return int((np.linalg.eigvalsh(covariance) >= 1e-6).sum()) < 3


def _block(
    recording: Recording,
    tics: list[FloatArray] | None,
    notes: list[str],
    role: str,
    *,
    always: bool = False,
) -> int | None:
    """Return the frames of a unit of resampling; None where trajectories are units."""
    n_all = sum(recording.n_frames)
    if len(recording.n_frames) >= MIN_UNITS and not always:
        return None
    wanted = max(1, n_all // MIN_UNITS)
    if tics is not None:
        try:
            length = block_length([one[:, 0] for one in tics if len(one)])
        except ValueError:
            notes.append(f"{role}: the slowest coordinate does not vary")
        else:
            wanted = length.block_frames
            if length.is_limited:
                notes.append(
                    f"{role}: {length.autocorrelation_frames:.0f} of {n_all} frames count as one independent "
                    "one; intervals are too narrow"
                )
    width = 2 + recording.features[0].shape[1]
    most = max(MIN_UNITS, _MAX_SUM_BYTES // (24 * width * width))
    return int(max(wanted, -(-n_all // most)))
