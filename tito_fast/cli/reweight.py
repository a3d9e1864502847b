"""``tito-fast reweight``: unbiased averages from samples of a Boltzmann generator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tito_fast.data.bg_samples import BgSamples


def reweight(
    samples: Annotated[
        Path, typer.Argument(help="Samples with their log densities (.npz), of one molecule.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="Directory for weights.npz, summary.json, samples.npz, profiles.png."),
    ],
    energies: Annotated[
        Path | None,
        typer.Option(help="NumPy file of the samples' potential energies in kJ/mol, (n,)."),
    ] = None,
    force_field: Annotated[
        str | None,
        typer.Option(
            help="Instead: a preset that OpenMM computes them with, fast, timewarp or gaff-vacuum; without constraints."
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="In K; by default the force field's.")
    ] = None,
    clip: Annotated[
        float, typer.Option(help="Share of the samples whose largest weights are clipped.")
    ] = 0.002,
    bins: Annotated[int, typer.Option(help="Of torsions, over the whole turn.")] = 36,
    bandwidth: Annotated[
        float | None,
        typer.Option(help="Of kernels instead of bins, radians: their standard deviation."),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap that gives intervals.")] = 200,
    seed: Annotated[int, typer.Option(help="Of all resampling.")] = 0,
    platform: Annotated[
        str, typer.Option(help="Of OpenMM: Reference (float64), CPU or another that it has.")
    ] = "Reference",
    jobs: Annotated[int, typer.Option(help="Processes that compute energies.")] = 1,
) -> int:
    """Weigh samples of a model by exp(-E/kT) / p: unbiased averages, and how far to trust them."""
    from tito_fast.analysis.reweighted import (  # noqa: PLC0415  imports numpy
        ReweightConfig,
        check_reweighting_out,
        write_reweighting,
    )
    from tito_fast.analysis.reweighted import reweight as reweight_samples  # noqa: PLC0415  as above
    from tito_fast.data.bg_samples import read_bg_samples  # noqa: PLC0415  as above
    from tito_fast.md import preset_of  # noqa: PLC0415  beside the others

    if (energies is None) == (force_field is None):
        raise ValueError("energies, force_field: expected one of them, got both or none")
    preset = None
    if force_field is not None:
        preset = preset_of(force_field, constraints="none", temperature_k=temperature)
        temperature = preset.temperature_k
    if temperature is None:
        raise ValueError("temperature: expected a temperature in K with --energies, got none")
    config = ReweightConfig(
        temperature_k=temperature,
        clip_share=clip,
        n_bins=bins,
        bandwidth=bandwidth,
        n_resamples=resamples,
        seed=seed,
    )
    check_reweighting_out(out)
    found = read_bg_samples(samples)
    if energies is not None:
        values = _read_energies(energies)
    else:
        values = _computed(found, force_field or "", platform=platform, n_jobs=jobs)
    result = reweight_samples(found, values, config)
    write_reweighting(result, out)
    summary = result.summary()
    mean = result.energies_kj_mol
    if n_impossible := summary["n_impossible"]:
        typer.echo(
            f"warning: {n_impossible} samples have no finite energy and weigh nothing", err=True
        )
    typer.echo(
        f"{out}: {found.n_samples} samples, effective sample size {summary['effective_sample_size']:.1f} "
        f"({100 * summary['effective_sample_share']:.2g} %), clipped {summary['effective_sample_size_clipped']:.1f}; "
        f"mean energy {float(mean['reweighted'].value):.1f} ± {float(mean['reweighted'].standard_error):.1f} kJ/mol, "
        f"of the model {float(mean['unweighted'].value):.1f}"
    )
    return 0


def _read_energies(path: Path) -> "NDArray[np.floating]":
    import numpy as np  # noqa: PLC0415  slow to import

    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"energies: expected a NumPy file, got {path} ({error})") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise ValueError(f"energies: expected an array of numbers in {path}, got something else")
    return values


def _computed(
    samples: "BgSamples", force_field: str, *, platform: str, n_jobs: int
) -> "NDArray[np.floating]":
    """Return energies in the force field, of which no bond is constrained: samples' bonds vibrate."""
    from tito_fast.md import openmm_system, potential_energies, preset_of  # noqa: PLC0415  needs OpenMM

    system = openmm_system(samples.molecule, preset_of(force_field, constraints="none"))
    return potential_energies(system, samples.positions, platform=platform, n_jobs=n_jobs)
