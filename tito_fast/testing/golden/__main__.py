"""The command: one line per quantity, and an exit status that says whether all agree."""

import argparse
import sys
from collections.abc import Sequence

import typer

from tito_fast.testing.golden.recording import DTYPES
from tito_fast.testing.golden.replay import Replay, replay
from tito_fast.types import BACKENDS

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay the files named in ``arguments``; return 0 if all of them agree, else 1."""
    options = _parser().parse_args(arguments)
    replays: list[Replay] = []
    for path in options.files:
        try:
            found = replay(
                path, backend=options.backend, dtype=options.dtype, device=options.device
            )
        except (OSError, ValueError, RuntimeError) as error:
            typer.echo(f"error: {_one_line(error)}", err=True)
            continue
        _show(found, backend=options.backend, device=options.device)
        replays.append(found)
    lines = [line for found in replays for line in found.lines]
    n_failed = sum(found.n_failed for found in replays)
    n_compared = sum(found.n_compared for found in replays)
    typer.echo(
        f"{len(replays)} of {len(options.files)} files replayed: {n_compared} quantities compared, "
        f"{n_failed} failed, {len(lines) - n_compared} not computed"
    )
    is_ok = len(replays) == len(options.files) and all(found.is_ok for found in replays)
    return 0 if is_ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tito_fast.testing.golden",
        description="Replay recorded inputs and outputs of the released TITO network, and compare.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="recording, or checkpoint with a recording beside it",
    )
    parser.add_argument("--backend", choices=BACKENDS, default="reference", help="what computes")
    parser.add_argument("--dtype", choices=tuple(DTYPES), help="default: all that are recorded")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:i")
    return parser


def _show(found: Replay, *, backend: str, device: str) -> None:
    note = f"  ({found.note})" if found.note else ""
    typer.echo(f"{found.path}  {found.format}  {backend} on {device}{note}")
    for line in found.lines:
        typer.echo(f"  {line}")
    if found.n_compared == 0:
        typer.echo(f"  FAIL: {backend} computes nothing that is recorded here")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
