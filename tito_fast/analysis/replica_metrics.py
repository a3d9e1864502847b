"""Metrics of a run by itself: sound frames, agreement of replicas."""

import contextlib
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.baselines import ideal_rollouts
from tito_fast.analysis.comparison import Comparison, Findings
from tito_fast.analysis.convergence import (
    convergence_intervals,
    replica_jsd,
    replica_jsd_interval,
    replica_pairs,
    torsion_convergence,
)
from tito_fast.analysis.divergence import torsion_counts
from tito_fast.analysis.drawn_rollouts import DrawnRollouts
from tito_fast.analysis.metric import Metric, finite_or_none
from tito_fast.analysis.recording import Recording
from tito_fast.analysis.resampling import Interval, bootstrap
from tito_fast.analysis.static_metrics import torsion_labels
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.molecule import FloatArray, Molecule

_SHARES: Final = {
    "share_bonds_near_covalent": ("bonds_near_covalent", "bonds"),
    "share_clash_frames": ("clash_frames", "frames"),
    "share_inverted_frames": ("inverted_frames", "frames"),
    "share_flipped_frames": ("flipped_frames", "frames"),
    "share_nan_frames": ("nan_frames", "frames"),
}
_MIN_FRAMES: Final = 4
_MAX_VALUES: Final = 1_000_000
_MAX_REFERENCE_VALUES: Final = 50_000
_MAX_DRAWS: Final = 5

CONVERGENCE: Final = ("jsd_replicas", "rhat_max", "effective_samples_min")
"""Metrics of replicas among each other."""


def validity_metrics(
    run: Recording, reference: Recording | None, *, n_resamples: int, seed: int
) -> Findings:
    """Return shares of sound and unsound frames; ``md_floor`` is the share in the reference."""
    found = Findings()
    for name, (part, whole) in _SHARES.items():
        sums = _shares(run, part, whole)
        share = run.validity["all"][name]
        if share is None or sums is None:
            found.metrics[name] = Metric(value=None)
            continue
        interval = bootstrap(
            lambda total: total[0] / total[1] if total[1] > 0 else np.nan,
            sums,
            bounds=(0.0, 1.0),
            n_resamples=n_resamples,
            seed=seed,
        )
        of_reference = None if reference is None else reference.validity["all"][name]
        found.metrics[name] = Metric(
            value=share,
            low=finite_or_none(interval.low),
            high=finite_or_none(interval.high),
            md_floor=of_reference,
            ideal=of_reference,
        )
    found.arrays["validity"] = {
        "criteria": run.validity["criteria"],
        "run": run.validity["all"],
        "reference": None if reference is None else reference.validity["all"],
    }
    return found


def _shares(run: Recording, part: str, whole: str) -> UnitSums | None:
    replicas = run.validity["replicas"]
    sums = np.array([[one[part], one[whole]] for one in replicas], dtype=np.float64)
    return UnitSums(sums=sums, series_idx=np.arange(len(sums))) if len(sums) else None


def convergence_metrics(
    run: Recording,
    comparison: Comparison | None,
    *,
    molecule: Molecule,
    n_resamples: int,
    seed: int,
) -> Findings:
    """Return replica-to-replica divergence, split R-hat and effective sample size of torsions.

    With a comparison, ``md_floor`` has the numbers of the reference's own trajectories, or of the halves
    of its only one, and ``ideal`` those of rollouts cut from it.
    """
    found = Findings()
    found.metrics = {name: Metric(value=None) for name in CONVERGENCE}
    labels = torsion_labels(molecule, run.torsion_atoms)
    rows: list[dict[str, Any]] = [
        {"name": label, "jsd_replicas": None, "rhat": None, "effective_samples": None}
        for label in labels
    ]
    found.arrays["convergence"] = rows
    if not labels:
        found.notes.append("no torsions: nothing to tell convergence from")
        return found
    options = {"n_resamples": n_resamples, "seed": seed}
    filled = [one for one in run.torsion_angles if len(one)]
    if len(filled) > 1:
        pairs = replica_pairs(torsion_counts(filled).sums, seed=seed)
        for row, value in zip(rows, pairs.divergences.mean(axis=0).tolist(), strict=True):
            row["jsd_replicas"] = value
        found.metrics["jsd_replicas"] = _with_ends(replica_jsd_interval(pairs, **options))
    angles = _equal_lengths(run, found)
    if angles is not None:
        _add_rhat(found, angles, rows, options)
    if comparison is not None:
        _add_baselines(found, comparison, seed=seed)
    return found


def _add_rhat(
    found: Findings, angles: FloatArray, rows: list[dict[str, Any]], options: dict[str, int]
) -> None:
    for column, row in enumerate(rows):
        try:
            one = torsion_convergence(angles[:, :, column : column + 1])
        except ValueError:
            found.notes.append(f"torsion {row['name']} does not vary: no R-hat")
            continue
        row["rhat"] = finite_or_none(one.rhat[0])
        row["effective_samples"] = finite_or_none(one.effective_samples[0])
    for index, (name, key, worst) in enumerate(
        (("rhat_max", "rhat", max), ("effective_samples_min", "effective_samples", min))
    ):
        known = [column for column, row in enumerate(rows) if row[key] is not None]
        if not known:
            continue
        column = worst(known, key=lambda column: rows[column][key])
        if len(angles) > 1:
            interval = convergence_intervals(angles[:, :, column], **options)[index]
            found.metrics[name] = _with_ends(interval)
        else:
            found.metrics[name] = Metric(value=rows[column][key])


def _add_baselines(found: Findings, comparison: Comparison, *, seed: int) -> None:
    """Add the reference's own numbers, and those of rollouts cut from it."""
    angles = comparison.reference.torsion_angles
    longest = max(len(one) for one in angles)
    stride = max(1, sum(len(one) for one in angles) // _MAX_REFERENCE_VALUES)
    kept = [one for one in angles if len(one) >= longest / 2]
    length = min(len(one) for one in kept)
    floor = _three([np.asarray(one[:length:stride]) for one in kept], seed=seed)
    rollouts = comparison.rollouts
    n_values = rollouts["n_replicas"] * rollouts["n_steps"]

    def score(drawn: DrawnRollouts) -> FloatArray:
        # Without the start frames, as in the run.
        return _three(list(drawn.take(angles)[:, 1:]), seed=seed)

    ideal = ideal_rollouts(
        score,
        [len(one) for one in angles],
        lag_frames=comparison.lag_frames,
        **rollouts,
        n_draws=int(np.clip(_MAX_REFERENCE_VALUES // n_values, 1, _MAX_DRAWS)),
        seed=seed,
    )
    ideal = np.broadcast_to(ideal, 3)
    for row, name in enumerate(CONVERGENCE):
        metric = found.metrics[name]
        if metric.value is not None:
            found.metrics[name] = replace(
                metric, md_floor=finite_or_none(floor[row]), ideal=finite_or_none(ideal[row])
            )


def _three(replicas: list[NDArray[Any]], *, seed: int) -> FloatArray:
    """Return divergence, R-hat and effective samples of equally long replicas; NaN where undefined."""
    numbers = np.full(3, np.nan)
    halves = replicas
    if len(replicas) == 1:
        middle = len(replicas[0]) // 2
        halves = [replicas[0][:middle], replicas[0][middle:]]
    with contextlib.suppress(ValueError):
        numbers[0] = replica_jsd(torsion_counts(halves).sums, seed=seed).mean()
    stacked = np.stack(replicas).astype(np.float64)
    rhats, sizes = [], []
    for column in range(stacked.shape[2]):
        with contextlib.suppress(ValueError):
            one = torsion_convergence(stacked[:, :, column : column + 1])
            rhats.append(one.rhat[0])
            sizes.append(one.effective_samples[0])
    if rhats:
        numbers[1:] = max(rhats), min(sizes)
    return numbers


def _with_ends(interval: Interval) -> Metric:
    return Metric(
        value=finite_or_none(interval.value),
        low=finite_or_none(interval.low),
        high=finite_or_none(interval.high),
    )


def _equal_lengths(run: Recording, found: Findings) -> FloatArray | None:
    """Return angles (n_replicas, n_frames, n_torsions) of replicas cut to one length."""
    lengths = np.array(run.n_frames)
    is_used = lengths >= max(_MIN_FRAMES, lengths.max() / 2)
    if not is_used.any():
        found.notes.append(f"fewer than {_MIN_FRAMES} frames in every replica: no R-hat")
        return None
    if not is_used.all():
        found.notes.append(
            f"{int((~is_used).sum())} replicas of less than half the longest are left out of R-hat"
        )
    length = int(lengths[is_used].min())
    stride = max(1, -(-int(is_used.sum()) * length // _MAX_VALUES))
    if stride > 1:
        found.notes.append(f"R-hat and effective sample size are of every {stride}th frame")
    return np.stack(
        [
            np.asarray(run.torsion_angles[idx][:length:stride], dtype=np.float64)
            for idx in np.flatnonzero(is_used)
        ]
    )
