"""``tito-fast sample``: trajectories of molecules, from a model."""

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from tito_fast.units import parse_time

if TYPE_CHECKING:
    from tito_fast.rollout.sample import RolloutProgress, RolloutResult
    from tito_fast.types import Backend, Check, Precision, VectorStart

SECONDS_BETWEEN_LINES = 5.0
INTERRUPTED = 130


def sample(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="SMILES, peptide sequence, PDB or SDF file; one or more."
        ),
    ],
    lag: Annotated[
        str,
        typer.Option(
            help="Time between frames, such as 100ps; several, cycled: 1ns,1ns,10ps. For BoPITO models "
            "1ns@2.5ns: interpolated, with 2.5ns in the power of the decay."
        ),
    ],
    n_steps: Annotated[int, typer.Option(help="Rollout steps; a trajectory has one frame more.")],
    model: Annotated[
        str, typer.Option(help="A shipped model, a safetensors file or a released checkpoint.")
    ] = "smallmol",
    replicas: Annotated[int, typer.Option(help="Independent trajectories of each molecule.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the run; without it, rollout_NAME.")
    ] = None,
    ode_steps: Annotated[
        int | None,
        typer.Option(
            help="Solver steps in one rollout step; by default 10 of ab2, 20, of noise models 50."
        ),
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            help="euler, midpoint, heun, rk4 or ab2; for noise models ddpm or dpm-solver++. Default: by model."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="All noise follows from it.")] = 0,
    temperature: Annotated[
        float | None, typer.Option(help="In K, for models that take one.")
    ] = None,
    base_std: Annotated[
        float | None, typer.Option(help="Standard deviation of the base density, model units.")
    ] = None,
    vector_start: Annotated[
        str | None, typer.Option(help="randn, randn_fixed or zeros; by default as trained.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16 or fp64.")] = "fp32",
    backend: Annotated[
        str, typer.Option(help="auto, reference, eager, native or triton.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    devices: Annotated[
        str, typer.Option(help="Devices to share the work among: a number, or auto for every GPU.")
    ] = "1",
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default all.")] = None,
    batch_size: Annotated[
        str, typer.Option(help="Replicas advanced together: auto or a number.")
    ] = "auto",
    format: Annotated[str, typer.Option(help="xtc, dcd or h5.")] = "xtc",  # noqa: A002  the field's word
    align: Annotated[
        bool,
        typer.Option("--align/--no-align", help="Superpose each frame on the one before."),
    ] = True,
    check: Annotated[
        str, typer.Option(help="What becomes of unsound frames: off, mark or drop.")
    ] = "off",
    check_criteria: Annotated[
        str | None,
        typer.Option(help="What makes a frame unsound, of bonds,clashes,stereo; by default all."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Trajectory whose frames the replicas start from.")
    ] = None,
    smiles: Annotated[
        str | None, typer.Option(help="SMILES that gives a PDB file its bond orders.")
    ] = None,
    add_hydrogens: Annotated[
        bool, typer.Option("--add-hydrogens", help="Complete missing hydrogens.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the molecule; part of its noise.")
    ] = None,
    units: Annotated[
        str | None, typer.Option(help="For a released checkpoint: mdqm9, timewarp or nm per unit.")
    ] = None,
    elements: Annotated[
        str | None, typer.Option(help="With units in nm: the elements it knows, as H,C,N.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start afresh where a run exists.")
    ] = False,
    figure: Annotated[
        bool, typer.Option("--figure/--no-figure", help="Draw rollout.png at the end.")
    ] = True,
) -> int:
    """Sample trajectories of molecules.

    The same command again goes on where it stopped; with more steps or replicas it extends the run.
    """
    from tito_fast.data.readers import ReadOptions, read_molecule  # noqa: PLC0415  imports RDKit
    from tito_fast.models.load import load_model  # noqa: PLC0415  imports torch
    from tito_fast.processes import launched_place  # noqa: PLC0415  imports torch
    from tito_fast.rollout import sample as sampling  # noqa: PLC0415  imports torch
    from tito_fast.rollout.config import RolloutConfig  # noqa: PLC0415  imports torch
    from tito_fast.rollout.starts import read_start  # noqa: PLC0415  beside the others

    # RolloutConfig checks the words.
    config = RolloutConfig(
        **_schedule(lag),
        n_rollout_steps=n_steps,
        n_replicas=replicas,
        n_ode_steps=ode_steps,
        solver=solver,
        seed=seed,
        temperature_k=temperature,
        base_std=base_std,
        vector_start=cast("VectorStart | None", vector_start),
        precision=cast("Precision", precision),
        backend=cast("Backend", backend),
        device=device,
        devices=_devices(devices),
        n_threads=threads,
        batch_size=_batch_size(batch_size),
        format=format,
        align=align,
        check=cast("Check", check),
        check_criteria=None if check_criteria is None else tuple(check_criteria.split(",")),
    )
    if name is not None and len(inputs) > 1:
        raise ValueError(f"name: expected one input to name, got {len(inputs)} inputs")
    loaded = load_model(model, units=units, elements=elements.split(",") if elements else None)
    options = ReadOptions(name=name, smiles_template=smiles, add_hydrogens=add_hydrogens)
    molecules = [read_molecule(text, options=options) for text in inputs]
    place = launched_place()
    is_writer = place is None or place.rank == 0
    for molecule in molecules if is_writer else ():
        for note in molecule.notes:
            typer.echo(f"{molecule.name}: {note}", err=True)
    folder = out or Path(f"rollout_{sampling.folder_name(molecules[0].name)}")
    starts = None if start is None else read_start(start, molecules[0])
    display = _Display()
    try:
        with display:
            results = sampling.sample(
                molecules,
                config,
                out=folder,
                model=loaded,
                start=starts,
                overwrite=overwrite,
                on_progress=display.show,
            )
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted: what was sampled is in {folder}; the same command goes on", err=True
        )
        raise typer.Exit(INTERRUPTED) from None
    for result in results if is_writer else ():
        _report(result, figure=figure)
    return 1 if any(result.lost_replicas for result in results) else 0


def _schedule(lag: str) -> dict[str, Any]:
    """Return the lags of ``LAG[@INTERPOLATION],…`` and the interpolations, if there are any."""
    parts = [part.partition("@") for part in lag.split(",")]
    found: dict[str, Any] = {"lag_times_ps": tuple(parse_time(time) for time, _, _ in parts)}
    if "@" in lag:
        found["interpolation_times_ps"] = tuple(
            parse_time(power) if at else None for _, at, power in parts
        )
    return found


def _devices(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"devices: expected auto or a number of devices, got {text!r}") from None


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"batch_size: expected auto or a number of replicas, got {text!r}"
        ) from None


def _report(result: "RolloutResult", *, figure: bool) -> None:
    from tito_fast.rollout.figure import rollout_figure  # noqa: PLC0415  imports matplotlib

    for replica, step in result.lost_replicas.items():
        typer.echo(
            f"warning: {result.path}: replica {replica} became NaN or infinite at step {step}; "
            "its file ends before it",
            err=True,
        )
    if figure:
        rollout_figure(result.path, result.path / "rollout.png")
    typer.echo(f"{result.path}: {result.summary()}")


class _Display:
    """A progress bar on a terminal, a line of comma-separated values every few seconds elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  imported when a command runs

        self._console = Console(stderr=True)
        self._context: AbstractContextManager[Any] = nullcontext()
        self._bar: Any = None
        self._task: Any = None
        self._last_line = time.monotonic()
        if self._console.is_terminal:
            from rich.progress import (  # noqa: PLC0415  as above
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("sampling"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._context = self._bar

    def __enter__(self) -> None:
        self._context.__enter__()

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # type: ignore[arg-type]

    def show(self, progress: "RolloutProgress") -> None:
        """Show where the rollout is."""
        speed = f"{progress.transitions_per_s:.1f} transitions/s"
        if progress.n_lost:
            speed += f", {progress.n_lost} lost"
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("", total=progress.n_total, speed="")
            self._bar.update(self._task, completed=progress.n_done, speed=speed)
            return
        now = time.monotonic()
        if self._last_line and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        remaining = (progress.n_total - progress.n_done) / progress.transitions_per_s
        typer.echo(
            f"{progress.n_done}/{progress.n_total} transitions, {speed}, "
            f"{progress.simulated_ps:g} ps, {remaining:.0f} s left",
            err=True,
        )
