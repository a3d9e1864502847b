"""Metrics of distributions: slow coordinates, torsions, bond lengths, angles, contacts, energies."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.baselines import N_DRAWS, ideal_static, md_floor
from tito_fast.analysis.comparison import Comparison, Findings
from tito_fast.analysis.divergence import (
    N_BINS_AUTHORS,
    coverage_precision,
    fit_grid,
    grid_counts,
    histogram_counts,
    jsd_tica,
    jsd_tica_authors,
    torsion_counts,
)
from tito_fast.analysis.geometry import mean_and_std
from tito_fast.analysis.metric import Metric, finite_or_none, measure, measure_all
from tito_fast.analysis.resampling import Statistic
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.torsions import jsd

LN2: Final = float(np.log(2))
_JSD: Final = (0.0, LN2)
_SHARE: Final = (0.0, 1.0)
_ENERGY_BINS: Final = 60
_QUARTILES: Final = (0.25, 0.5, 0.75)
_RIGID: Final = 1e-6
"""Narrower lengths (nm) are those of constraints, of which there is no ratio of widths."""


def slow_coordinate_metrics(comparison: Comparison) -> Findings:
    """Return divergences, coverage and precision in the plane of the two slow coordinates."""
    found = Findings()
    names = ("jsd_tica", "jsd_tica_bits", "coverage", "precision", "jsd_tica_authors")
    if comparison.slow is None:
        found.metrics = {name: Metric(value=None) for name in names}
        return found
    reference, run = comparison.slow.reference, comparison.slow.run

    def counts(n_bins: int | None = None) -> tuple[UnitSums, UnitSums]:
        grid = fit_grid(reference) if n_bins is None else fit_grid(reference, n_bins=n_bins)
        return (
            grid_counts(reference, grid, block_frames=comparison.reference_block),
            grid_counts(run, grid, block_frames=comparison.run_block),
        )

    def statistic(of_reference: FloatArray, of_model: FloatArray) -> FloatArray:
        shares = coverage_precision(of_reference, of_model)
        divergence = jsd_tica(of_reference, of_model)
        return np.array([divergence, divergence / LN2, shares.coverage, shares.precision])

    bounds = {"jsd_tica": _JSD, "jsd_tica_bits": _SHARE, "coverage": _SHARE, "precision": _SHARE}
    found.metrics |= _measured(comparison, statistic, *counts(), names=names[:4], bounds=bounds)
    found.metrics |= _measured(
        comparison,
        lambda r, m: jsd_tica_authors(r, m)[None],
        *counts(N_BINS_AUTHORS),
        names=names[4:],
        bounds={"jsd_tica_authors": _JSD},
    )
    return found


def torsion_metrics(comparison: Comparison) -> Findings:
    """Return divergences of torsions: rotatable bonds, all bonds, and each one."""
    found = Findings()
    run, reference = comparison.run, comparison.reference
    pairs = {
        "jsd_torsions": (reference.rotatable_angles, run.rotatable_angles),
        "jsd_bond_torsions": (reference.bond_angles, run.bond_angles),
    }
    for name, (of_reference, of_run) in pairs.items():
        if not of_reference[0].shape[1]:
            found.metrics[name] = Metric(value=None)
            continue
        counts = (
            torsion_counts(of_reference, block_frames=comparison.reference_block),
            torsion_counts(of_run, block_frames=comparison.run_block),
        )
        found.metrics |= _measured(
            comparison,
            lambda r, m: jsd(r, m).mean(axis=-1, keepdims=True),
            *counts,
            names=[name],
            bounds={name: _JSD},
        )
    if not len(run.torsions.rotatable):
        found.metrics["jsd_torsions"] = found.metrics["jsd_bond_torsions"]
        found.notes.append("no rotatable bond: jsd_torsions is over the torsions of all bonds")
    if not len(run.torsion_atoms):
        return found
    counts = (
        torsion_counts(reference.torsion_angles, block_frames=comparison.reference_block),
        torsion_counts(run.torsion_angles, block_frames=comparison.run_block),
    )
    labels = torsion_labels(comparison.molecule, run.torsion_atoms)
    each = _measured(comparison, jsd, *counts, names=labels, bounds=dict.fromkeys(labels, _JSD))
    totals = [one.total() for one in counts]
    shares = [total / total.sum(axis=-1, keepdims=True) for total in totals]
    found.arrays["torsions"] = [
        {
            "name": label,
            "atoms": atoms,
            "jsd": each[label].to_dict(),
            "share_reference": shares[0][row].tolist(),
            "share_run": shares[1][row].tolist(),
        }
        for row, (label, atoms) in enumerate(zip(labels, run.torsion_atoms.tolist(), strict=True))
    ]
    return found


def geometry_metrics(comparison: Comparison) -> Findings:
    """Return divergences and shifts of bond lengths and angles, and of the closest contact."""
    found = Findings()
    reference, run = comparison.reference.geometry, comparison.run.geometry
    pairs: list[tuple[str, UnitSums, UnitSums]] = [
        ("jsd_bond_lengths", reference.bond_counts, run.bond_counts),
        ("jsd_angles", reference.angle_counts, run.angle_counts),
    ]
    for name, of_reference, of_run in pairs:
        if not of_reference.sums.shape[1]:
            found.metrics[name] = Metric(value=None)
            continue
        found.metrics |= _measured(
            comparison,
            lambda r, m: jsd(r, m).mean(axis=-1, keepdims=True),
            of_reference,
            of_run,
            names=[name],
            bounds={name: _JSD},
        )
    if reference.contact_counts.sums.sum() > 0:
        found.metrics |= _measured(
            comparison,
            lambda r, m: jsd(r, m)[None],
            reference.contact_counts,
            run.contact_counts,
            names=["jsd_closest_contact"],
            bounds={"jsd_closest_contact": _JSD},
        )
    else:
        found.metrics["jsd_closest_contact"] = Metric(value=None)
    found.metrics |= _moment_metrics(comparison)
    found.arrays["bonds"] = {
        "atoms": run.bonds.T.tolist(),
        "mean_nm_reference": _listed(reference.bond_mean_nm),
        "mean_nm_run": _listed(run.bond_mean_nm),
        "std_nm_reference": _listed(reference.bond_std_nm),
        "std_nm_run": _listed(run.bond_std_nm),
    }
    found.arrays["angles"] = {
        "atoms": run.angles.T.tolist(),
        "mean_deg_reference": _listed(np.degrees(reference.angle_mean)),
        "mean_deg_run": _listed(np.degrees(run.angle_mean)),
        "std_deg_reference": _listed(np.degrees(reference.angle_std)),
        "std_deg_run": _listed(np.degrees(run.angle_std)),
    }
    return found


def _moment_metrics(comparison: Comparison) -> dict[str, Metric]:
    """Return shifts and widths of bond lengths, and shifts of angles."""
    reference, run = comparison.reference.geometry, comparison.run.geometry
    bonds = _moments_measured(
        comparison,
        (reference.bond_moments, run.bond_moments),
        start=run.bond_start_nm - reference.bond_start_nm,
        names=("bond_length_shift_nm", "bond_length_width_ratio"),
    )
    angles = _moments_measured(
        comparison,
        (reference.angle_moments, run.angle_moments),
        start=run.angle_start - reference.angle_start,
        names=("angle_shift_deg", ""),
        unit=np.degrees(1.0),
    )
    return bonds | {"angle_shift_deg": angles["angle_shift_deg"]}


def _moments_measured(
    comparison: Comparison,
    sides: tuple[UnitSums, UnitSums],
    *,
    start: FloatArray,
    names: tuple[str, str],
    unit: float = 1.0,
) -> dict[str, Metric]:
    """Return the mean shift, and the mean ratio of widths, of all columns.

    The means of n independent frames are normal about the reference's with its width over the root of n;
    the mean size of that is the ideal shift.
    """
    reference, run = sides
    if not reference.sums.shape[-1]:
        return {name: Metric(value=None) for name in names}
    width = mean_and_std(reference.total())[1]

    def between(first: FloatArray, second: FloatArray, offset: FloatArray) -> FloatArray:
        (mean, std), (other_mean, other_std) = mean_and_std(first), mean_and_std(second)
        ratios = other_std[std > _RIGID] / std[std > _RIGID]
        shift = unit * np.abs(other_mean + offset - mean).mean()
        return np.array([shift, ratios.mean() if len(ratios) else np.nan])

    measured = measure_all(
        lambda of_reference, of_run: between(of_reference, of_run, start),
        reference,
        run,
        names=names,
        ideal=np.array([unit * np.sqrt(2 / np.pi / comparison.n_run_frames) * width.mean(), 1.0]),
        bounds=dict.fromkeys(names, (0.0, np.inf)),
        n_resamples=comparison.config.n_resamples,
        seed=comparison.config.seed,
    )
    # Halves of the reference have one start.
    floor = md_floor(
        lambda first, second: between(first, second, np.zeros_like(start)),
        reference,
        seed=comparison.config.seed,
    ).value
    if floor is None:
        return measured
    return {
        name: replace(measured[name], md_floor=finite_or_none(value))
        for name, value in zip(names, np.broadcast_to(floor, 2), strict=True)
    }


def energy_metrics(
    reference: Sequence[FloatArray], run: Sequence[FloatArray], *, seed: int
) -> Findings:
    """Return how far potential energies of two sets of frames are apart.

    Parameters
    ----------
    reference, run : sequence of ndarray, shape (n_frames,), float64
        In kJ/mol, one per trajectory; those that are not finite are left out.
    seed : int

    Returns
    -------
    Findings
        ``jsd_energy`` on 60 bins over the central 99.8 % of the reference, frames below and above in a bin
        each; shift of the median and ratio of the interquartile ranges.
    """
    found = Findings()
    usable = [[one[np.isfinite(one)] for one in each] for each in (reference, run)]
    usable = [[one for one in each if len(one)] for each in usable]
    n_lost = sum(int((~np.isfinite(one)).sum()) for one in run)
    if n_lost:
        found.notes.append(f"{n_lost} frames of the run have no finite energy and do not count")
    if not all(usable):
        return found
    pooled = [np.concatenate(each) for each in usable]
    low, high = np.quantile(pooled[0], (0.001, 0.999))
    if not low < high:
        return found
    edges = np.linspace(low, high, _ENERGY_BINS + 1)
    blocks = [
        None if len(each) >= 10 else max(1, len(all_) // 10)
        for each, all_ in zip(usable, pooled, strict=True)
    ]
    counts = [
        histogram_counts(each, edges, block_frames=block)
        for each, block in zip(usable, blocks, strict=True)
    ]
    found.metrics["jsd_energy"] = measure(
        jsd,
        *counts,
        ideal=ideal_static(jsd, counts[0].total(), n_frames=len(pooled[1]), seed=seed),
        bounds=_JSD,
        seed=seed,
    )
    found.metrics |= _energy_moves(usable, blocks, seed=seed)
    found.arrays["energies"] = {
        "edges_kj_per_mol": _listed(edges),
        "share_reference": _listed(counts[0].total() / len(pooled[0])),
        "share_run": _listed(counts[1].total() / len(pooled[1])),
        "n_frames_reference": len(pooled[0]),
        "n_frames_run": len(pooled[1]),
    }
    return found


def _energy_moves(
    sides: list[list[FloatArray]], blocks: list[int | None], *, seed: int
) -> dict[str, Metric]:
    """Return the shift of the median and the ratio of the interquartile ranges.

    Both sides are counted between the same 1,000 quantiles of all energies, of which resamples take
    their quartiles; the values themselves are exact.
    """
    names = ("energy_shift_kj_per_mol", "energy_width_ratio")
    pooled = [np.concatenate(each) for each in sides]
    exact = [np.quantile(each, _QUARTILES) for each in pooled]
    edges = np.unique(np.quantile(np.concatenate(pooled), np.linspace(0.0, 1.0, 1001)))
    counts = [
        histogram_counts(each, edges, block_frames=block)
        for each, block in zip(sides, blocks, strict=True)
    ]
    # Below and above there is nothing.
    counts = [UnitSums(sums=one.sums[..., 1:-1], series_idx=one.series_idx) for one in counts]

    def statistic(of_reference: FloatArray, of_run: FloatArray) -> FloatArray:
        quartiles = [_quantiles(edges, each) for each in (of_reference, of_run)]
        return _moves(quartiles[0], quartiles[1])

    total = counts[0].total()
    draws = np.random.default_rng(seed).multinomial(
        len(pooled[1]), total / total.sum(), size=N_DRAWS
    )
    ideal = np.mean([np.abs(statistic(total, one.astype(np.float64))) for one in draws], axis=0)
    measured = measure_all(statistic, *counts, names=names, ideal=ideal, seed=seed)
    return {
        name: _moved(measured[name], value)
        for name, value in zip(names, _moves(exact[0], exact[1]).tolist(), strict=True)
    }


def _moves(reference: FloatArray, run: FloatArray) -> FloatArray:
    """Return the shift and the ratio of two sets of quartiles."""
    width = reference[2] - reference[0]
    ratio = (run[2] - run[0]) / width if width > 0 else np.nan
    return np.array([run[1] - reference[1], ratio])


def _quantiles(edges: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the quartiles of a histogram, even within a bin."""
    shares = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    return np.interp(_QUARTILES, shares, edges)


def _moved(metric: Metric, value: float) -> Metric:
    """Return a metric with another value and its interval about it."""
    if metric.value is None or not np.isfinite(value):
        return Metric(value=finite_or_none(value))
    ends = [
        None if end is None else end + value - metric.value for end in (metric.low, metric.high)
    ]
    return replace(metric, value=float(value), low=ends[0], high=ends[1])


def torsion_labels(molecule: Molecule, torsions: IntArray) -> list[str]:
    """Return atoms joined by hyphens, numbered by element where names are not unique."""
    names = [name.strip() for name in molecule.atom_names]
    if len(set(names)) < len(names) and len(
        set(zip(names, molecule.residue_numbers, strict=True))
    ) == len(names):
        names = [
            f"{name}{number}" for name, number in zip(names, molecule.residue_numbers, strict=True)
        ]
    elif len(set(names)) < len(names):
        from rdkit import Chem  # noqa: PLC0415  slow to import

        table = Chem.GetPeriodicTable()
        names = [
            f"{table.GetElementSymbol(number)}{atom + 1}"
            for atom, number in enumerate(molecule.atomic_numbers.tolist())
        ]
    return ["-".join(names[atom] for atom in torsion) for torsion in torsions.tolist()]


def _measured(
    comparison: Comparison,
    statistic: Callable[..., Any],
    reference: UnitSums,
    run: UnitSums,
    *,
    names: Sequence[str],
    bounds: dict[str, tuple[float, float]],
) -> dict[str, Metric]:
    config = comparison.config
    ideal = ideal_static(
        _guarded(statistic, len(names)),
        reference.total(),
        n_frames=comparison.n_run_frames,
        seed=config.seed,
    )
    return measure_all(
        _guarded(statistic, len(names)),
        reference,
        run,
        names=names,
        ideal=ideal,
        bounds=bounds,
        n_resamples=config.n_resamples,
        seed=config.seed,
    )


def _guarded(statistic: Statistic, n: int) -> Statistic:
    """Return the statistic with NaN for totals that it refuses."""

    def guarded(*totals: FloatArray) -> NDArray[Any]:
        try:
            return np.asarray(statistic(*totals), dtype=np.float64)
        except ValueError:
            return np.full(n, np.nan)

    return guarded


def _listed(values: NDArray[Any]) -> list[float | None]:
    return [finite_or_none(value) for value in np.asarray(values, dtype=np.float64).tolist()]
