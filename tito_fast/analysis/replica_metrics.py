"""Metrics of a run by itself: sound frames, agreement of replicas."""

from typing import Any, Final

import numpy as np

from tito_fast.analysis.comparison import Findings
from tito_fast.analysis.convergence import replica_jsd, torsion_convergence
from tito_fast.analysis.divergence import torsion_counts
from tito_fast.analysis.metric import Metric, finite_or_none
from tito_fast.analysis.recording import Recording
from tito_fast.analysis.resampling import bootstrap
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


def convergence_metrics(run: Recording, *, molecule: Molecule, seed: int) -> Findings:
    """Return replica-to-replica divergence, split R-hat and effective sample size of torsions."""
    found = Findings()
    names = ("jsd_replicas", "rhat_max", "effective_samples_min")
    found.metrics = {name: Metric(value=None) for name in names}
    labels = torsion_labels(molecule, run.torsion_atoms)
    rows: list[dict[str, Any]] = [
        {"name": label, "jsd_replicas": None, "rhat": None, "effective_samples": None}
        for label in labels
    ]
    found.arrays["convergence"] = rows
    if not labels:
        found.notes.append("no torsions: nothing to tell convergence from")
        return found
    filled = [one for one in run.torsion_angles if len(one)]
    if len(filled) > 1:
        divergences = replica_jsd(torsion_counts(filled).sums, seed=seed)
        for row, value in zip(rows, divergences.tolist(), strict=True):
            row["jsd_replicas"] = value
        found.metrics["jsd_replicas"] = Metric(value=float(divergences.mean()))
    angles = _equal_lengths(run, found)
    if angles is None:
        return found
    for column, row in enumerate(rows):
        try:
            one = torsion_convergence(angles[:, :, column : column + 1])
        except ValueError:
            found.notes.append(f"torsion {row['name']} does not vary: no R-hat")
            continue
        row["rhat"] = finite_or_none(one.rhat[0])
        row["effective_samples"] = finite_or_none(one.effective_samples[0])
    for name, key, worst in (
        ("rhat_max", "rhat", max),
        ("effective_samples_min", "effective_samples", min),
    ):
        known = [row[key] for row in rows if row[key] is not None]
        found.metrics[name] = Metric(value=worst(known) if known else None)
    return found


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
