"""How far a simulation is: a bar on a terminal, a line every few seconds elsewhere."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import typer

SECONDS_BETWEEN_LINES = 5.0


class ProgressDisplay:
    """Shows amounts done of a total, with a text beside them. Use it as a context manager.

    Parameters
    ----------
    title : str
    """

    def __init__(self, title: str) -> None:
        from rich.console import Console  # noqa: PLC0415  imported when a command runs

        console = Console(stderr=True)
        self._title = title
        self._context: AbstractContextManager[Any] = nullcontext()
        self._bar: Any = None
        self._task: Any = None
        self._started = self._last_line = time.monotonic()
        if console.is_terminal:
            from rich.progress import (  # noqa: PLC0415  as above
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = self._context = Progress(
                TextColumn(title),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=console,
            )

    def __enter__(self) -> Self:
        self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # type: ignore[arg-type]

    def show(self, done: float, total: float, text: str) -> None:
        """Show that ``done`` of ``total`` is done; ``text`` says more."""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("", total=total, text="")
            self._bar.update(self._task, completed=done, total=total, text=text)
            return
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        share = done / total if total else 1.0
        left = f", {(now - self._started) * (1 / share - 1):.0f} s left" if share else ""
        typer.echo(f"{self._title}: {100 * share:.1f} %, {text}{left}", err=True)
