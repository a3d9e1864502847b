"""``tito-fast info``: what was built and what runs here."""

import typer


def info() -> None:
    """Print versions, what the compiled core was built with, and which backend of each operation runs here."""
    from tito_fast.environment import info as collect  # noqa: PLC0415  torch takes seconds to import

    for section, rows in collect().items():
        typer.echo(section)
        width = max((len(name) for name in rows), default=0)
        for name, value in rows.items():
            typer.echo(f"  {name:<{width}}  {value}")
