"""Numbers that only the panel draws: free energies, histograms of bond lengths, a run by itself."""

from typing import Any, Final

import numpy as np

from tito_fast.analysis.comparison import Comparison, Findings
from tito_fast.analysis.correlation import correlation_function, correlation_sums
from tito_fast.analysis.divergence import N_BINS, torsion_counts
from tito_fast.analysis.features import torsion_features
from tito_fast.analysis.geometry import LENGTH_EDGES_NM, GeometryDistributions
from tito_fast.analysis.metric import finite_or_none
from tito_fast.analysis.recording import Recording
from tito_fast.analysis.static_metrics import torsion_labels
from tito_fast.analysis.steps import steps_of
from tito_fast.data.molecule import FloatArray, IntArray, Molecule

_MAX_BINS_OUTSIDE: Final = 15
_MAX_LAGS: Final = 24


def free_energies(comparison: Comparison) -> Findings:
    """Return −ln p in the plane of the two slow coordinates, on bins that run and reference share."""
    if comparison.slow is None:
        return Findings(arrays={"free_energy": None})
    sides = {"reference": comparison.slow.reference, "run": comparison.slow.run}
    points = {side: np.concatenate(each) for side, each in sides.items()}
    edges = []
    for axis in range(2):
        low, high = (float(end(points["reference"][:, axis])) for end in (np.min, np.max))
        width = (high - low) / N_BINS
        # Bins go on where the run leaves the reference's range, but not for a few stray frames.
        run_low, run_high = np.quantile(points["run"][:, axis], (0.002, 0.998))
        before = int(np.clip(np.ceil((low - run_low) / width), 0, _MAX_BINS_OUTSIDE))
        after = int(np.clip(np.ceil((run_high - high) / width), 0, _MAX_BINS_OUTSIDE))
        edges.append(low + width * np.arange(-before, N_BINS + after + 1))
    energies: dict[str, Any] = {}
    for side, each in points.items():
        counts = np.histogram2d(each[:, 0], each[:, 1], bins=edges)[0]
        with np.errstate(divide="ignore"):
            energy = (
                -np.log(counts / counts.sum()) if counts.sum() else np.full(counts.shape, np.inf)
            )
        if np.isfinite(energy).any():
            energy -= energy.min()
        energies[side] = [[finite_or_none(value) for value in row] for row in energy.tolist()]
    section = {"edges_1": edges[0].tolist(), "edges_2": edges[1].tolist(), "unit": "kT", **energies}
    return Findings(arrays={"free_energy": section})


def bond_histograms(run: Recording, reference: Recording | None, molecule: Molecule) -> Findings:
    """Return shares of bond lengths of each pair of elements."""
    from rdkit import Chem  # noqa: PLC0415  slow to import

    table = Chem.GetPeriodicTable()
    numbers = molecule.atomic_numbers
    kinds = [
        # Hydrogen last, as chemists write them: C-H, C-O.
        "–".join(table.GetElementSymbol(int(z)) for z in sorted(pair, key=lambda z: (z == 1, z)))
        for pair in numbers[run.geometry.bonds.T].tolist()
    ]
    histograms = {}
    for kind in sorted(set(kinds)):
        rows = np.array([row for row, each in enumerate(kinds) if each == kind])
        histograms[kind] = {
            "reference": None if reference is None else _share(reference.geometry, rows),
            "run": _share(run.geometry, rows),
        }
    section = {"edges_nm": LENGTH_EDGES_NM.tolist(), "pairs": histograms}
    return Findings(arrays={"bond_length_histograms": section})


def _share(geometry: GeometryDistributions, rows: IntArray) -> list[float]:
    counts = geometry.bond_counts.sums[:, rows].sum(axis=(0, 1)).astype(np.float64)
    shares: list[float] = (counts / counts.sum()).tolist()
    return shares


def run_alone(run: Recording, molecule: Molecule) -> Findings:
    """Return torsion histograms and correlation functions of a run without a reference."""
    found = Findings()
    labels = torsion_labels(molecule, run.torsion_atoms)
    if not labels:
        return found
    counts = torsion_counts(run.torsion_angles).total()
    shares = counts / counts.sum(axis=-1, keepdims=True)
    found.arrays["torsions"] = [
        {"name": label, "atoms": atoms, "share_reference": None, "share_run": share}
        for label, atoms, share in zip(
            labels, run.torsion_atoms.tolist(), shares.tolist(), strict=True
        )
    ]
    try:
        steps = steps_of(run.times_ps)
    except ValueError:
        found.notes.append("one frame in every replica: no correlation functions")
        return found
    if steps.note:
        found.notes.append(steps.note)
    longest = int((steps.stops - steps.starts).max()) - 1
    lags = np.arange(min(longest, _MAX_LAGS) + 1)
    functions = []
    for column in range(len(labels)):
        series = steps.cut([torsion_features(one[:, [column]]) for one in run.torsion_angles])
        functions.append(_function(series, lags))
    found.arrays["correlations"] = {
        "times_ps": {"reference": None, "run": (lags * steps.lag_ps).tolist()},
        "tica_1": None,
        "torsions": functions,
    }
    return found


def _function(series: list[FloatArray], lags: IntArray) -> dict[str, Any]:
    total = correlation_sums(series, lags_frames=lags.tolist()).total()
    try:
        value = [finite_or_none(each) for each in correlation_function(total).tolist()]
    except ValueError:
        return {"reference": None, "run": None}
    return {"reference": None, "run": {"value": value}}
