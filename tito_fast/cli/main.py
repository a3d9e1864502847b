"""The command ``tito-fast``: registers the commands, and turns errors into one sentence and an exit status."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, cast

import typer

from tito_fast import __version__
from tito_fast.cli.convert import convert
from tito_fast.cli.data import app as data_app
from tito_fast.cli.evaluate import evaluate
from tito_fast.cli.info import info
from tito_fast.cli.relax import relax
from tito_fast.cli.reproduce import app as reproduce_app
from tito_fast.cli.reweight import reweight
from tito_fast.cli.sample import sample
from tito_fast.cli.sample_equilibrium import sample_equilibrium
from tito_fast.cli.simulate import simulate
from tito_fast.cli.train import train
from tito_fast.cli.train_equilibrium import train_equilibrium

app = typer.Typer(
    name="tito-fast",
    help="Train and sample generative surrogates of molecular dynamics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(sample)
app.command()(sample_equilibrium)
app.command()(simulate)
app.command()(relax)
app.command()(reweight)
app.command()(evaluate)
app.command()(train)
app.command()(train_equilibrium)
app.command()(convert)
app.add_typer(data_app, name="data")
app.add_typer(reproduce_app, name="reproduce")
app.command()(info)

INTERRUPTED = 130
USAGE = 2

# typer brings its own copy of click or uses the installed one; both name the base of their usage errors so.
_USAGE_ERROR: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Print the version and exit.",
    ),
) -> None:
    """Train and sample generative surrogates of molecular dynamics."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line ``arguments`` and return the exit status.

    Every error that input can cause ends in one sentence on standard error. ``TITO_FAST_TRACEBACK=1`` shows the
    traceback as well.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            result = app(args=_with_hyphens(arguments), standalone_mode=False)
    except _USAGE_ERROR as error:
        message = cast("Any", error).format_message()
        typer.echo(f"error: {message}; see tito-fast --help", err=True)
        return USAGE
    except (typer.Abort, KeyboardInterrupt) as error:
        reason = error.__cause__ or error
        typer.echo(f"interrupted{_detail(reason)}; the same command goes on", err=True)
        return INTERRUPTED
    except (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError) as error:
        if os.environ.get("TITO_FAST_TRACEBACK"):
            raise
        typer.echo(f"error: {_sentence(error)}", err=True)
        return 1
    return result if isinstance(result, int) else 0


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


def _with_hyphens(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with underscores in option names as hyphens: both spellings are accepted."""
    changed = []
    for argument in arguments:
        name, separator, value = argument.partition("=")
        is_option = name.startswith("--") and len(name) > 2
        changed.append((name.replace("_", "-") if is_option else name) + separator + value)
    return changed


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.echo(f"warning: {message}", err=True)


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _detail(error: BaseException) -> str:
    return f": {error}" if str(error) else ""
