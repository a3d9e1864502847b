"""``tito-fast data``: make, describe and check a trajectory store."""

import json
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tito_fast.units import format_time, parse_time

if TYPE_CHECKING:
    from tito_fast.data.store import Store

app = typer.Typer(
    name="data", help="Make, describe and check a trajectory store.", no_args_is_help=True
)


class FormatName(StrEnum):
    """What ``--format`` takes."""

    AUTO = "auto"
    MDTRAJ = "mdtraj"
    MDQM9 = "mdqm9"
    TIMEWARP = "timewarp"
    TIMEWARP_H5 = "timewarp-h5"


_OPTIONS_OF_FORMAT = {
    "mdtraj": {"splits", "frame_interval_ps", "overwrite", "on_trajectory"},
    "files": {
        "trajectories",
        "sdf",
        "smiles",
        "splits",
        "frame_interval_ps",
        "temperature_k",
        "overwrite",
        "on_trajectory",
    },
    "mdqm9": {"splits", "n_molecules", "temperature_k", "overwrite", "on_trajectory"},
    "timewarp": {"splits", "spacing_ps", "temperature_k", "overwrite", "on_trajectory"},
    "timewarp-h5": {"splits", "temperature_k", "overwrite", "on_trajectory"},
}
_FLAG_OF_OPTION = {
    "trajectories": "--trajectory",
    "sdf": "--sdf",
    "smiles": "--smiles",
    "splits": "--split",
    "frame_interval_ps": "--interval",
    "spacing_ps": "--spacing",
    "n_molecules": "--limit",
    "temperature_k": "--temperature",
}


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Data set to read; or a topology file.")],
    destination: Annotated[Path, typer.Argument(help="Store to make, a new directory.")],
    source_format: Annotated[
        FormatName, typer.Option("--format", help="Layout of SOURCE.")
    ] = FormatName.AUTO,
    trajectory: Annotated[
        list[Path] | None,
        typer.Option(help="Trajectory of the topology SOURCE; repeat it for several."),
    ] = None,
    sdf: Annotated[
        Path | None, typer.Option(help="Bond orders of the topology SOURCE, same atom order.")
    ] = None,
    smiles: Annotated[
        str | None, typer.Option(help="SMILES that gives the bond orders of a topology SOURCE.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Take only this split; repeat it for several.")
    ] = None,
    interval: Annotated[
        str | None, typer.Option(help="Time between frames, as 1ps, where files do not say it.")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Spacing to keep of uneven frames (timewarp), as 5ps.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Take only this many molecules of each split (mdqm9).")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature to record, in K, where files do not say it.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store at DESTINATION.")
    ] = False,
) -> None:
    """Convert SOURCE into a store at DESTINATION, whole or not at all."""
    from rich.console import Console  # noqa: PLC0415  so that --help answers at once

    from tito_fast.data.convert.formats import detect_format  # noqa: PLC0415
    from tito_fast.data.store import open_store  # noqa: PLC0415

    given: dict[str, Any] = {
        "trajectories": trajectory or None,
        "sdf": sdf,
        "smiles": smiles,
        "splits": split or None,
        "frame_interval_ps": None if interval is None else parse_time(interval, name="interval"),
        "spacing_ps": None if spacing is None else parse_time(spacing, name="spacing"),
        "n_molecules": limit,
        "temperature_k": temperature,
    }
    chosen = detect_format(source) if source_format is FormatName.AUTO else str(source_format.value)
    kind = "files" if chosen == "mdtraj" and source.is_file() else chosen
    for option, value in given.items():
        if value is not None and option not in _OPTIONS_OF_FORMAT[kind]:
            raise ValueError(
                f"{_FLAG_OF_OPTION[option]}: expected no such option for format {chosen} "
                f"of {source}, got {value}"
            )
    console = Console(stderr=True)
    with console.status("Converting") as status:
        n_done = Counter[str]()

        def on_trajectory(row: Any) -> None:  # noqa: ANN401  a Trajectory, imported late
            n_done["trajectories"] += 1
            n_done["frames"] += row.n_frames
            status.update(f"{row.name}: {n_done['trajectories']} trajectories done")

        options = {name: value for name, value in given.items() if name in _OPTIONS_OF_FORMAT[kind]}
        _run_converter(
            kind,
            source,
            destination,
            {**options, "overwrite": overwrite, "on_trajectory": on_trajectory},
        )
    _print_facts(_facts(open_store(destination)))


@app.command()
def info(
    store: Annotated[Path, typer.Argument(help="Store to describe.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what a store holds. Checksums are left to ``check``."""
    from tito_fast.data.store import open_store  # noqa: PLC0415

    facts = _facts(open_store(store))
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        _print_facts(facts)


@app.command()
def check(store: Annotated[Path, typer.Argument(help="Store to verify.")]) -> None:
    """Verify checksums, positions, intervals and bond lengths; exit with 1 if any is wrong."""
    from tito_fast.data.store import check_store, open_store  # noqa: PLC0415

    problems = check_store(store)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(code=1)
    opened = open_store(store)
    typer.echo(
        f"{store}: no problems in {len(opened.trajectories)} trajectories of {opened.n_frames} frames"
    )


def _run_converter(kind: str, source: Path, destination: Path, options: dict[str, Any]) -> None:
    from tito_fast.data.convert import mdqm9, mdtraj_files, timewarp  # noqa: PLC0415

    if kind == "files":
        _convert_files(source, destination, options)
        return
    converters: dict[str, Any] = {
        "mdtraj": mdtraj_files.convert_mdtraj,
        "mdqm9": mdqm9.convert_mdqm9,
        "timewarp": timewarp.convert_timewarp,
        "timewarp-h5": timewarp.convert_timewarp_h5,
    }
    converters[kind](source, destination, **options)


def _convert_files(topology: Path, destination: Path, options: dict[str, Any]) -> None:
    from tito_fast.data.convert import mdtraj_files  # noqa: PLC0415

    if not options["trajectories"]:
        raise ValueError(
            f"--trajectory: expected a trajectory of the topology {topology}, got none; "
            "name one or more"
        )
    splits = options["splits"] or ["train"]
    if len(splits) != 1:
        raise ValueError(f"--split: expected one split for one topology, got {', '.join(splits)}")
    molecule = mdtraj_files.read_molecule(
        topology, sdf=options["sdf"], name=topology.stem, smiles=options["smiles"]
    )
    mdtraj_files.convert_trajectories(
        molecule,
        topology,
        options["trajectories"],
        destination,
        split=splits[0],
        frame_interval_ps=options["frame_interval_ps"],
        temperature_k=options["temperature_k"],
        overwrite=options["overwrite"],
    )


def _facts(store: "Store") -> dict[str, Any]:
    from rdkit.Chem import GetPeriodicTable  # noqa: PLC0415

    table = GetPeriodicTable()
    rows = store.trajectories
    sizes = [molecule.n_atoms for molecule in store.molecules]
    intervals = [row.frame_interval_ps for row in rows]
    numbers = {int(z) for molecule in store.molecules for z in set(molecule.atomic_numbers)}
    kinds = {int(code) for molecule in store.molecules for code in set(molecule.bond_type)}
    return {
        "path": str(store.path),
        "source": store.manifest["source"]["name"],
        "converter": store.manifest["source"]["converter"],
        "n_molecules": len(store.molecules),
        "n_trajectories": len(rows),
        "n_frames": store.n_frames,
        "total_time_ps": sum(row.n_frames * row.frame_interval_ps for row in rows),
        "trajectories_per_split": store.manifest["splits"],
        "n_atoms": [min(sizes), max(sizes)],
        "frame_interval_ps": [min(intervals), max(intervals)],
        "longest_trajectory_ps": max(row.n_frames * row.frame_interval_ps for row in rows),
        "elements": [table.GetElementSymbol(z) for z in sorted(numbers)],
        "bond_types": sorted(kinds),
        "temperatures_k": store.manifest["temperatures_k"],
        "bytes": sum(entry["bytes"] for entry in store.manifest["files"].values()),
        "content_hash": store.content_hash,
    }


def _print_facts(facts: dict[str, Any]) -> None:
    def span(values: list[Any]) -> str:
        first, last = values
        return f"{first}" if first == last else f"{first} to {last}"

    splits = ", ".join(f"{name} {count}" for name, count in facts["trajectories_per_split"].items())
    temperatures = ", ".join(f"{value:g} K" for value in facts["temperatures_k"])
    for label, text in {
        "store": facts["path"],
        "source": f"{facts['source']} ({facts['converter']})",
        "molecules": f"{facts['n_molecules']} of {span(facts['n_atoms'])} atoms",
        "elements": " ".join(facts["elements"]),
        "bond types": " ".join(str(code) for code in facts["bond_types"]),
        "trajectories": f"{facts['n_trajectories']} ({splits})",
        "frames": f"{facts['n_frames']}, {format_time(facts['total_time_ps'])} in all",
        "frame interval": span([format_time(value) for value in facts["frame_interval_ps"]]),
        "longest trajectory": format_time(facts["longest_trajectory_ps"]),
        "temperature": temperatures or "not stated",
        "size": f"{facts['bytes'] / 1e6:.1f} MB",
        "content hash": facts["content_hash"],
    }.items():
        typer.echo(f"{label:<20}{text}")
