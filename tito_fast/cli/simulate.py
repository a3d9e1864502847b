"""``tito-fast simulate``: reference trajectories of molecules, by molecular dynamics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tito_fast.data.molecule import Molecule
    from tito_fast.md.molecule_simulation import SimulationResult
    from tito_fast.md.progress import SimulationProgress

INTERRUPTED = 130


def simulate(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="SMILES, peptide sequence, PDB or SDF file; one or more."
        ),
    ],
    time: Annotated[
        str,
        typer.Option(help="Simulated time of each replica, such as 5ns; without equilibration."),
    ],
    save_every: Annotated[str, typer.Option(help="Time between frames, such as 1ps.")] = "1ps",
    preset: Annotated[
        str, typer.Option(help="fast, timewarp, gaff-vacuum or mdqm9, the same as gaff-vacuum.")
    ] = "fast",
    replicas: Annotated[int, typer.Option(help="Independent trajectories of each molecule.")] = 1,
    seed: Annotated[int, typer.Option(help="All velocities and noise follow from it.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the run; without it, simulation_NAME.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Replicas simulated at once; by default one for every core.")
    ] = None,
    platform: Annotated[
        str, typer.Option(help="auto (measured), Reference, CPU or another that OpenMM has.")
    ] = "auto",
    temperature: Annotated[
        float | None, typer.Option(help="In K, instead of the preset's.")
    ] = None,
    friction: Annotated[
        float | None, typer.Option(help="In 1/ps, instead of the preset's.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(help="Integration step, such as 4fs, instead of the preset's.")
    ] = None,
    hydrogen_mass: Annotated[
        float | None, typer.Option(help="Mass of hydrogens in amu (HMR): 3 for steps of 4fs.")
    ] = None,
    constraints: Annotated[
        str | None, typer.Option(help="none or HBonds, instead of the preset's.")
    ] = None,
    equilibration: Annotated[
        str | None, typer.Option(help="Time simulated before the first frame, such as 20ps.")
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            help="Samples (.npz, weighted or not, or a trajectory): each replica starts from its own."
        ),
    ] = None,
    minimize: Annotated[
        int, typer.Option(help="Steps of minimization of each such sample; 0 for none.")
    ] = 50,
    smiles: Annotated[
        str | None, typer.Option(help="SMILES that gives a PDB file its bond orders.")
    ] = None,
    add_hydrogens: Annotated[
        bool, typer.Option("--add-hydrogens", help="Complete missing hydrogens.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the molecule; part of its noise.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start afresh where a run exists.")
    ] = False,
) -> int:
    """Simulate molecules with OpenMM, as a reference for models.

    The same command again goes on where it stopped; with more time or replicas it extends the run.
    """
    from tito_fast.cli.md_progress import ProgressDisplay  # noqa: PLC0415  beside the others
    from tito_fast.data.readers import ReadOptions  # noqa: PLC0415  imports RDKit
    from tito_fast.data.run_directory import folder_name  # noqa: PLC0415  beside the others
    from tito_fast.md.config import SimulationConfig  # noqa: PLC0415  as above
    from tito_fast.md.presets import preset_of  # noqa: PLC0415  as above
    from tito_fast.md.repair import read_complete  # noqa: PLC0415  as above
    from tito_fast.md.simulation import simulate as simulate_all  # noqa: PLC0415  as above
    from tito_fast.units import parse_time  # noqa: PLC0415  beside the others

    config = SimulationConfig(
        preset=preset_of(
            preset,
            temperature_k=temperature,
            friction_per_ps=friction,
            step_fs=None if step is None else 1e3 * parse_time(step, name="step"),
            hydrogen_mass_amu=hydrogen_mass,
            constraints=constraints,
            equilibration_ps=None
            if equilibration is None
            else parse_time(equilibration, name="equilibration"),
        ),
        time_ps=parse_time(time, name="time"),
        save_every_ps=parse_time(save_every, name="save_every"),
        n_replicas=replicas,
        seed=seed,
        platform=platform,
        n_jobs=jobs,
        init_from=init_from,
        n_minimization_steps=minimize,
    )
    if name is not None and len(inputs) > 1:
        raise ValueError(f"name: expected one input to name, got {len(inputs)} inputs")
    options = ReadOptions(name=name, smiles_template=smiles, add_hydrogens=add_hydrogens)
    molecules = [read_complete(text, options=options) for text in inputs]
    for molecule in molecules:
        for note in molecule.notes:
            typer.echo(f"{molecule.name}: {note}", err=True)
    folder = out or Path(f"simulation_{folder_name(molecules[0].name)}")
    display = ProgressDisplay("simulating")

    def show(progress: "SimulationProgress") -> None:
        display.show(progress.simulated_ps, progress.total_ps, _text(progress))

    def announce(molecule: "Molecule") -> None:
        typer.echo(f"{molecule.name}: preparing {molecule.n_atoms} atoms", err=True)

    try:
        with display:
            results = simulate_all(
                molecules,
                config,
                out=folder,
                overwrite=overwrite,
                on_progress=show,
                on_prepare=announce,
            )
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted: what was simulated is in {folder}; the same command goes on", err=True
        )
        raise typer.Exit(INTERRUPTED) from None
    for result in results:
        _report(result)
    return 0 if all(result.checks["passed"] for result in results) else 1


def _text(progress: "SimulationProgress") -> str:
    from tito_fast.units import format_time  # noqa: PLC0415  so that --help answers at once

    parts = [
        f"{format_time(progress.simulated_ps)} of {format_time(progress.total_ps)}",
        f"{progress.ns_per_day:.0f} ns/day",
    ]
    if progress.temperature_k is not None:
        parts.append(f"{progress.temperature_k:.0f} K")
    if progress.n_lost:
        parts.append(f"{progress.n_lost} lost")
    return ", ".join(parts)


def _report(result: "SimulationResult") -> None:
    for problem in result.checks["problems"]:
        typer.echo(f"warning: {result.path}: {problem}", err=True)
    typer.echo(f"{result.path}: {result.summary()}")
