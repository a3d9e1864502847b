"""``tito-fast train``: train a model on a store, or go on with a run."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tito_fast.training.config import TrainingConfig
    from tito_fast.training.loop import Progress

_SECONDS_BETWEEN_LINES = 5.0
# What a shell gives a command that Ctrl-C ended.
_INTERRUPTED = 130
_COLUMNS = "step,train_loss,validation_loss,samples_per_s,remaining_s"


def train(
    config: Annotated[Path, typer.Argument(help="Settings of the run (YAML).")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting, as model.n_features=32; repeat it."),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="auto, reference, eager, native or triton; as --set backend=NAME."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start afresh where the run exists.")
    ] = False,
) -> None:
    """Train a model as CONFIG says; the same command again goes on with a run that was stopped."""
    # Here, for torch takes seconds to import and --help should not.
    from tito_fast.training.config import read_training_config  # noqa: PLC0415
    from tito_fast.training.loop import train as train_model  # noqa: PLC0415

    overrides = [*(set_ or ()), *([] if backend is None else [f"backend={backend}"])]
    settings = read_training_config(config, overrides=overrides)
    settings = _with_decay(settings)
    display = _bar if sys.stdout.isatty() else _lines
    try:
        with display(settings.n_steps) as on_step:
            result = train_model(settings, on_step=on_step, overwrite=overwrite)
    # Left to typer, the sentence that says how to go on is lost.
    except KeyboardInterrupt as error:
        typer.echo(f"interrupted: {error}" if str(error) else "interrupted", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    if result.rank != 0:
        return
    typer.echo(
        f"{result.model_path}: {result.step} steps, loss {_text(result.train_loss)}, "
        f"validation loss {_text(result.validation_loss)} (best {_text(result.best_validation_loss)})"
    )


def _with_decay(settings: "TrainingConfig") -> "TrainingConfig":
    """Return the settings with the number that ``model.decay: fit`` stands for."""
    if settings.model.decay != "fit" or not settings.model.equilibrium or not settings.data.store:
        return settings
    from tito_fast.analysis.decay import decay_per_step, store_relaxation_time  # noqa: PLC0415
    from tito_fast.data.store import open_store  # noqa: PLC0415  beside the others

    store, split = open_store(settings.data.store), settings.data.train_split
    found = store_relaxation_time(store, split=split)
    interval_ps = min(
        store.trajectories[index].frame_interval_ps for index in store.split_indices(split)
    )
    decay = decay_per_step(found.value_ps, frame_interval_ps=interval_ps)
    typer.echo(
        f"decay: {decay:.8g} per frame of {interval_ps:g} ps, from a relaxation time of {found.value_ps:.4g} ps "
        f"({found.low_ps:.4g} to {found.high_ps:.4g})"
    )
    return replace(settings, model=replace(settings.model, decay=decay))


@contextmanager
def _lines(n_steps: int) -> Iterator[Callable[["Progress"], None]]:
    """Print a line every few seconds, for logs; the last step always."""
    last = -float("inf")

    def on_step(progress: "Progress") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _SECONDS_BETWEEN_LINES and progress.step < n_steps:
            return
        if last < 0:
            typer.echo(_COLUMNS)
        last = now
        typer.echo(
            f"{progress.step},{_text(progress.loss)},{_text(progress.validation_loss, none='')},"
            f"{progress.samples_per_s:.1f},{progress.remaining_s:.0f}"
        )
        sys.stdout.flush()

    yield on_step


@contextmanager
def _bar(n_steps: int) -> Iterator[Callable[["Progress"], None]]:
    """Show a bar on the terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    with Bar(
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}  validation {task.fields[validation]}"),
        TextColumn("{task.fields[rate]} samples/s  {task.fields[remaining]} left"),
    ) as bar:
        task = bar.add_task("", total=n_steps, loss="-", validation="-", rate="-", remaining="-")

        def on_step(progress: "Progress") -> None:
            bar.update(
                task,
                completed=progress.step,
                loss=_text(progress.loss),
                validation=_text(progress.validation_loss),
                rate=f"{progress.samples_per_s:.0f}",
                remaining=str(timedelta(seconds=round(progress.remaining_s))),
            )

        yield on_step


def _text(value: float | None, *, none: str = "-") -> str:
    return none if value is None else f"{value:.5g}"
