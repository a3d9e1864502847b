"""``tito-fast relax``: short molecular dynamics from each sample of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tito_fast.md.relaxation import RelaxProgress

INTERRUPTED = 130


def relax(
    run: Annotated[Path, typer.Argument(help="Directory of a rollout.")],
    time: Annotated[str, typer.Option(help="Simulated from each frame, such as 10ps.")],
    preset: Annotated[
        str, typer.Option(help="fast, timewarp, gaff-vacuum or mdqm9, the same as gaff-vacuum.")
    ] = "fast",
    system: Annotated[
        Path | None,
        typer.Option(help="system.xml, or a directory with one, instead of the force field."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory to write; without it, RUN_relaxed.")
    ] = None,
    every: Annotated[int, typer.Option(help="Take every so-manieth frame only.")] = 1,
    minimize: Annotated[
        int, typer.Option(help="Steps of energy minimization before the dynamics; 0 for none.")
    ] = 50,
    seed: Annotated[int, typer.Option(help="All velocities and noise follow from it.")] = 0,
    jobs: Annotated[
        int | None, typer.Option(help="Processes, of one thread each; by default one a core.")
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
        str | None, typer.Option(help="Integration step, such as 1fs, instead of the preset's.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start afresh where a relaxation exists.")
    ] = False,
) -> int:
    """Relax the samples of a run by short molecular dynamics, as a run of its own.

    The same command again goes on where it stopped, and relaxes what the run has gained since.
    """
    from tito_fast.cli.md_progress import ProgressDisplay  # noqa: PLC0415  beside the others
    from tito_fast.md.presets import preset_of  # noqa: PLC0415  imports torch
    from tito_fast.md.relaxation import RelaxConfig  # noqa: PLC0415  as above
    from tito_fast.md.relaxation import relax as relax_run  # noqa: PLC0415  as above
    from tito_fast.units import parse_time  # noqa: PLC0415  beside the others

    config = RelaxConfig(
        time_ps=parse_time(time, name="time"),
        preset=preset_of(
            preset,
            temperature_k=temperature,
            friction_per_ps=friction,
            step_fs=None if step is None else 1e3 * parse_time(step, name="step"),
        ),
        system=system,
        every=every,
        n_minimization_steps=minimize,
        seed=seed,
        platform=platform,
        n_jobs=jobs,
    )
    folder = out or run.with_name(f"{run.name}_relaxed")
    display = ProgressDisplay("relaxing")

    def show(progress: "RelaxProgress") -> None:
        text = (
            f"{progress.n_done} of {progress.n_total} frames, {progress.frames_per_s:.1f} frames/s"
        )
        if progress.n_failed:
            text += f", {progress.n_failed} failed"
        display.show(progress.n_done, progress.n_total, text)

    try:
        with display:
            result = relax_run(run, config, out=folder, overwrite=overwrite, on_progress=show)
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted: what was relaxed is in {folder}; the same command goes on", err=True
        )
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{result.path}: {result.summary()}")
    return 0 if sum(result.n_frames) else 1
