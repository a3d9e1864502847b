"""``tito-fast sample-equilibrium``: independent samples of a Boltzmann generator."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tito_fast.data.bg_samples import BgSamples
    from tito_fast.models.equilibrium import EquilibriumModel


def sample_equilibrium(
    model: Annotated[Path, typer.Argument(help="Equilibrium flow (.safetensors).")],
    input_: Annotated[
        str, typer.Argument(metavar="INPUT", help="SMILES, peptide sequence, PDB or SDF file.")
    ],
    out: Annotated[Path, typer.Option(help="File of the samples (.npz).")],
    n_samples: Annotated[int, typer.Option(help="Samples drawn, before any is left out.")] = 1000,
    log_density: Annotated[
        bool, typer.Option("--log-density", help="Compute the density of each sample as well.")
    ] = False,
    keep: Annotated[
        str, typer.Option(help="sound: with the right bonds and chirality only; or all.")
    ] = "sound",
    seed: Annotated[int, typer.Option(help="All samples follow from it.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Samples computed together.")] = 256,
    tolerance: Annotated[
        float, typer.Option(help="Relative and absolute tolerance of the integration.")
    ] = 1e-5,
    probes: Annotated[
        int, typer.Option(help="Random probes that estimate the divergence; 0: exact.")
    ] = 0,
    temperature: Annotated[
        float | None, typer.Option(help="In K, for models that take one.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    double: Annotated[bool, typer.Option("--double", help="Compute in double precision.")] = False,
    smiles: Annotated[
        str | None, typer.Option(help="SMILES that gives a PDB file its bond orders.")
    ] = None,
    add_hydrogens: Annotated[
        bool, typer.Option("--add-hydrogens", help="Complete missing hydrogens.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the molecule; part of its noise.")
    ] = None,
) -> None:
    """Draw independent samples of a molecule's equilibrium from MODEL."""
    # Here, for torch takes seconds to import and --help should not.
    import torch  # noqa: PLC0415

    from tito_fast.data.bg_samples import write_bg_samples  # noqa: PLC0415
    from tito_fast.data.readers import ReadOptions, read_molecule  # noqa: PLC0415
    from tito_fast.devices import resolve_device  # noqa: PLC0415
    from tito_fast.flows.divergence import HutchinsonDivergence  # noqa: PLC0415
    from tito_fast.models.equilibrium import load_equilibrium_model  # noqa: PLC0415
    from tito_fast.rollout.equilibrium import EquilibriumSampling  # noqa: PLC0415
    from tito_fast.rollout.equilibrium import sample_equilibrium as draw  # noqa: PLC0415
    from tito_fast.solvers import DormandPrince  # noqa: PLC0415
    from tito_fast.validation import check_at_least, check_choice  # noqa: PLC0415

    check_choice("keep", keep, ("sound", "all"))
    check_at_least("probes", probes, 0)
    options = ReadOptions(name=name, smiles_template=smiles, add_hydrogens=add_hydrogens)
    molecule = read_molecule(input_, options=options)
    loaded = load_equilibrium_model(model, device=resolve_device(device))
    if double:
        loaded.to(dtype=torch.float64)
    sampling = EquilibriumSampling(
        n_samples=n_samples,
        seed=seed,
        log_density=log_density,
        batch_size=batch_size,
        solver=DormandPrince(relative_tolerance=tolerance, absolute_tolerance=tolerance),
        method=HutchinsonDivergence(n_probes=probes, seed=seed) if probes else None,
        temperature_k=temperature,
    )
    samples = draw(
        loaded,
        molecule,
        sampling,
        on_progress=lambda n_done: typer.echo(f"{n_done} of {n_samples} samples", err=True),
    )
    if keep == "sound":
        samples = _sound(samples, loaded)
    write_bg_samples(out, samples)
    typer.echo(f"{out}: {samples.n_samples} samples of {molecule.name}")


def _sound(samples: "BgSamples", model: "EquilibriumModel") -> "BgSamples":
    from tito_fast.data.configuration_checks import check_configurations  # noqa: PLC0415  RDKit
    from tito_fast.models.tbg.model import TbgModel  # noqa: PLC0415  imports torch

    # TBG's network has one density for mirror images, and with elements alone for any order of equal atoms.
    is_tbg = isinstance(model, TbgModel)
    has_elements_only = isinstance(model, TbgModel) and model.config.encoding == "element"
    checked = check_configurations(
        samples.molecule, samples.positions, reorder=has_elements_only, mirror=is_tbg
    )
    typer.echo(", ".join(f"{count} {name}" for name, count in checked.counts.items()), err=True)
    rows = checked.is_kept
    if not rows.any():
        raise ValueError(
            f"keep: expected sound samples, got none among {samples.n_samples}; train the model further, or "
            "pass --keep all"
        )
    return replace(
        samples,
        positions=checked.positions[rows],
        log_density=None if samples.log_density is None else samples.log_density[rows],
    )
