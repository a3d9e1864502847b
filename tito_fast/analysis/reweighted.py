"""Samples of a Boltzmann generator with energies: weights, averages and torsion profiles, and their files."""

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.metric import finite_or_none
from tito_fast.analysis.resampling import N_RESAMPLES
from tito_fast.analysis.reweighting import (
    Estimate,
    clip_log_weights,
    effective_sample_size,
    log_weights,
    normalized_weights,
    reduced_energies,
    weighted_mean,
)
from tito_fast.analysis.static_metrics import torsion_labels
from tito_fast.analysis.weighted_profiles import FreeEnergyProfile, free_energy_profile
from tito_fast.data.bg_samples import BgSamples, write_bg_samples
from tito_fast.data.molecule import FloatArray
from tito_fast.data.torsions import rotatable_torsions, torsion_angles
from tito_fast.data.writers.disk import replace_file
from tito_fast.validation import check_positive

KIND: Final = "tito_fast reweighting"
WEIGHTS: Final = "weights.npz"
SUMMARY: Final = "summary.json"
SAMPLES: Final = "samples.npz"
PROFILES: Final = "profiles.png"

_MAX_DRAWN: Final = 12
_MAX_KT: Final = 8.0


@dataclass(frozen=True, kw_only=True)
class ReweightConfig:
    """How samples are reweighted.

    Parameters
    ----------
    temperature_k : float
    clip_share : float
        Share of samples whose weights are clipped; see :func:`~tito_fast.analysis.reweighting.clip_log_weights`.
    n_bins : int
        Of torsions, over the whole turn.
    bandwidth : float, optional
        Of a kernel density estimate of torsions, radians; None: bins.
    n_resamples, seed : int
        Of the bootstrap.
    """

    temperature_k: float
    clip_share: float = 0.002
    n_bins: int = 36
    bandwidth: float | None = None
    n_resamples: int = N_RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        check_positive("temperature_k", self.temperature_k, unit="K")
        if not 0 <= self.clip_share < 1:
            raise ValueError(
                f"clip_share: expected 0 or more and less than 1, got {self.clip_share}"
            )
        if self.n_bins < 2:
            raise ValueError(f"n_bins: expected at least 2, got {self.n_bins}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Reweighting:
    """Samples with their weights, and what follows.

    Parameters
    ----------
    samples : BgSamples
        With ``log_weights``, not clipped.
    config : ReweightConfig
    reduced_energies : ndarray, shape (n_samples,), float64
        In kT; infinite where a sample is impossible.
    clipped_log_weights : ndarray, shape (n_samples,), float64
    energies_kj_mol : dict of str to Estimate
        Mean energy ``unweighted``, ``reweighted`` and ``clipped``; the first without impossible samples.
    torsions : tuple of str
        Labels of the rotatable torsions.
    profiles : dict of str to tuple of FreeEnergyProfile
        One for each torsion, in kT over radians: ``unweighted``, ``reweighted`` and ``clipped``.
    """

    samples: BgSamples
    config: ReweightConfig
    reduced_energies: FloatArray
    clipped_log_weights: FloatArray
    energies_kj_mol: dict[str, Estimate]
    torsions: tuple[str, ...]
    profiles: dict[str, tuple[FreeEnergyProfile, ...]]

    @property
    def log_weights(self) -> FloatArray:
        """Logarithms of the weights, not clipped."""
        values = self.samples.log_weights
        if values is None:
            raise RuntimeError("samples: expected weights, got none")
        return values

    def summary(self) -> dict[str, Any]:
        """Return all numbers but those of single samples, for JSON; energies in kJ/mol."""
        n_samples = self.samples.n_samples
        sizes = {
            "effective_sample_size": effective_sample_size(self.log_weights),
            "effective_sample_size_clipped": effective_sample_size(self.clipped_log_weights),
        }
        shares = {name.replace("size", "share"): value / n_samples for name, value in sizes.items()}
        return {
            "kind": KIND,
            "molecule": self.samples.molecule.name,
            "n_samples": n_samples,
            "n_impossible": int(np.isinf(self.reduced_energies).sum()),
            "temperature_k": self.config.temperature_k,
            "clip_share": self.config.clip_share,
            "n_resamples": self.config.n_resamples,
            "seed": self.config.seed,
            **sizes,
            **shares,
            "largest_weight": float(normalized_weights(self.log_weights).max()),
            "mean_energy_kj_mol": {
                name: {
                    "value": float(one.value),
                    "standard_error": float(one.standard_error),
                    "low": finite_or_none(float(one.low)),
                    "high": finite_or_none(float(one.high)),
                }
                for name, one in self.energies_kj_mol.items()
            },
            "torsions": [
                {
                    "name": label,
                    "centers_rad": self.profiles["unweighted"][row].centers.tolist(),
                    "free_energy_kt": {
                        name: _profile_row(each[row]) for name, each in self.profiles.items()
                    },
                }
                for row, label in enumerate(self.torsions)
            ],
        }


def reweight(
    samples: BgSamples, energies_kj_mol: NDArray[np.floating], config: ReweightConfig
) -> Reweighting:
    """Return samples with importance weights ``exp(−E / kT) / p``, averages and torsion profiles.

    Parameters
    ----------
    samples : BgSamples
        With ``log_density``.
    energies_kj_mol : ndarray, shape (n_samples,)
        Potential energy of each; NaN or infinity for a sample that is impossible, whose weight is zero.
    config : ReweightConfig

    Returns
    -------
    Reweighting

    Raises
    ------
    ValueError
        If samples have no densities, energies another shape, or no weight is above zero.
    """
    if samples.log_density is None:
        raise ValueError(
            "samples: expected samples with log densities, got none; sample with densities"
        )
    energies = np.asarray(energies_kj_mol, dtype=np.float64)
    if energies.shape != samples.log_density.shape:
        raise ValueError(
            f"energies_kj_mol: expected shape {samples.log_density.shape}, one for each sample, got {energies.shape}"
        )
    if np.isneginf(energies).any():
        raise ValueError("energies_kj_mol: expected no minus infinity, got one")
    energies = np.where(np.isnan(energies), np.inf, energies)
    reduced = reduced_energies(energies, config.temperature_k)
    weights = log_weights(samples.log_density, reduced)
    clipped = clip_log_weights(weights, share=config.clip_share)
    plain = np.where(np.isfinite(energies), 0.0, -np.inf)
    options: dict[str, Any] = {"n_resamples": config.n_resamples, "seed": config.seed}
    sides = {"unweighted": plain, "reweighted": weights, "clipped": clipped}
    torsions = rotatable_torsions(samples.molecule)
    angles = torsion_angles(samples.positions, torsions)
    edges = np.linspace(-np.pi, np.pi, config.n_bins + 1)
    if config.bandwidth is not None:
        options_of_profiles = {**options, "bandwidth": config.bandwidth, "period": 2 * np.pi}
    else:
        options_of_profiles = options
    return Reweighting(
        samples=replace(samples, log_weights=weights),
        config=config,
        reduced_energies=reduced,
        clipped_log_weights=clipped,
        energies_kj_mol={
            name: weighted_mean(energies, each, **options) for name, each in sides.items()
        },
        torsions=tuple(torsion_labels(samples.molecule, torsions)),
        profiles={
            name: tuple(
                free_energy_profile(column, each, edges=edges, **options_of_profiles)
                for column in angles.T
            )
            for name, each in sides.items()
        },
    )


def check_reweighting_out(path: Path) -> None:
    """Raise ``ValueError`` unless ``path`` is new, empty, or holds an earlier reweighting."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"out: expected a directory, got the file {path}; choose another --out")
    if path.is_dir():
        others = {entry.name for entry in path.iterdir()} - {WEIGHTS, SUMMARY, SAMPLES, PROFILES}
        if others:
            raise ValueError(
                f"out: expected an empty directory or an earlier reweighting, got {path} with {min(others)}; "
                "choose another --out"
            )


def write_reweighting(result: Reweighting, path: Path) -> None:
    """Write ``weights.npz``, ``summary.json``, ``samples.npz`` with weights, and ``profiles.png``.

    Parameters
    ----------
    result : Reweighting
    path : path
        Directory; made where it is not there. ``profiles.png`` is left out without rotatable torsions.

    Raises
    ------
    ValueError
        If the directory holds something else.
    """
    check_reweighting_out(path)
    path.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        log_weights=result.log_weights,
        weights=normalized_weights(result.log_weights),
        clipped_log_weights=result.clipped_log_weights,
        reduced_energies=result.reduced_energies,
    )
    replace_file(path / WEIGHTS, buffer.getvalue())
    content = json.dumps(result.summary(), indent=1, allow_nan=False) + "\n"
    replace_file(path / SUMMARY, content.encode())
    write_bg_samples(path / SAMPLES, result.samples)
    if result.torsions:
        replace_file(path / PROFILES, profiles_png(result))
    else:
        (path / PROFILES).unlink(missing_ok=True)


def profiles_png(result: Reweighting) -> bytes:
    """Return the torsion profiles as the content of a PNG file: the model's own, and reweighted with intervals."""
    import matplotlib as mpl  # noqa: PLC0415  slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import

    from tito_fast.analysis.panel import STYLE  # noqa: PLC0415  beside it

    n_drawn = min(len(result.torsions), _MAX_DRAWN)
    n_columns = min(n_drawn, 3)
    n_rows = -(-n_drawn // n_columns)
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.2 * n_columns, 1.7 * n_rows + 0.3), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for row, axes in enumerate(grid.flat):
            if row >= n_drawn:
                axes.set_axis_off()
                continue
            plain, weighted = (result.profiles[name][row] for name in ("unweighted", "reweighted"))
            axes.plot(plain.centers, plain.free_energy, color="0.55", label="model")
            axes.plot(weighted.centers, weighted.free_energy, color="#0072B2", label="reweighted")
            axes.fill_between(
                weighted.centers, weighted.low, weighted.high, color="#0072B2", alpha=0.25, lw=0
            )
            axes.set(
                title=result.torsions[row],
                xlim=(-np.pi, np.pi),
                ylim=(-0.3, _MAX_KT),
                xticks=[-np.pi, 0, np.pi],
                xticklabels=["$-\\pi$", "0", "$\\pi$"],
            )
        for axes in grid[:, 0]:
            axes.set_ylabel("F / kT")
        grid[0, 0].legend()
        share = effective_sample_size(result.log_weights) / result.samples.n_samples
        figure.suptitle(
            f"{result.samples.molecule.name}: {result.samples.n_samples} samples, ESS {100 * share:.3g} %",
            fontsize=STYLE["font.size"],
        )
        figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()


def _profile_row(profile: FreeEnergyProfile) -> dict[str, list[float | None]]:
    return {
        "value": [finite_or_none(each) for each in profile.free_energy.tolist()],
        "low": [finite_or_none(each) for each in profile.low.tolist()],
        "high": [finite_or_none(each) for each in profile.high.tolist()],
    }
