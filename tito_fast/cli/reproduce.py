"""``tito-fast reproduce``: run an experiment of a published paper."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Run experiments of published papers: numbers, a figure and a table.",
    no_args_is_help=True,
    add_completion=False,
)

_Scale = Annotated[
    str, typer.Option(help="quick (seconds), default (minutes) or paper (the published sizes).")
]
_Seeds = Annotated[str, typer.Option(help="Numbers with commas between, one model of each.")]
_Out = Annotated[Path, typer.Option(help="Folder for the JSON file and the PNG.")]
_Data = Annotated[
    Path | None, typer.Option(help="Store with several trajectories of alanine dipeptide.")
]
_SEEDS = "0,1,2,3,4"


@app.command("prinz-data")
def prinz_data(*, scale: _Scale = "default", seeds: _Seeds = _SEEDS, out: _Out) -> None:
    """Compare trajectories started from a Boltzmann generator's samples with ones from one state."""
    _run("prinz-data", scale, seeds, out)


@app.command("prinz-bopito")
def prinz_bopito(*, scale: _Scale = "default", seeds: _Seeds = _SEEDS, out: _Out) -> None:
    """Compare the errors of ITO and BoPITO over the lag and over the number of trajectories."""
    _run("prinz-bopito", scale, seeds, out)


@app.command("prinz-interpolate")
def prinz_interpolate(*, scale: _Scale = "default", seeds: _Seeds = _SEEDS, out: _Out) -> None:
    """Find lags that were held back again from their correlation, by the interpolator."""
    _run("prinz-interpolate", scale, seeds, out)


@app.command("ala2-bopito")
def ala2_bopito(
    *, data: _Data = None, scale: _Scale = "default", seeds: _Seeds = "0", out: _Out
) -> None:
    """Compare correlations of phi of ITO and BoPITO over the number of trajectories of a store."""
    _run("ala2-bopito", scale, seeds, out, data=data)


def _run(experiment: str, scale: str, seeds: str, out: Path, *, data: Path | None = None) -> None:
    # Here, for torch takes seconds to import and --help should not.
    from tito_fast.reproduce.experiments import reproduce  # noqa: PLC0415

    result = reproduce(
        experiment,
        out,
        scale=scale,
        seeds=_numbers(seeds),
        data=data,
        say=lambda sentence: typer.echo(sentence, err=True),
    )
    typer.echo(result.table)
    typer.echo(f"{result.numbers_path} {result.figure_path}")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"seeds: expected numbers with commas between, got {text!r}") from error
