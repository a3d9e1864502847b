"""``tito-fast evaluate``: how good runs are, beside a reference."""

import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tito_fast.analysis.evaluation import Evaluation
    from tito_fast.analysis.recording import FeatureSet


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Directories of sample, simulate or relax, folders of such, or trajectory files.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Directory for metrics.json, panel.png and report.html.")
    ],
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            help="Trajectories to compare with: files, a run, a store, or a folder of those of several "
            "molecules; may be repeated."
        ),
    ] = None,
    topology: Annotated[Path | None, typer.Option(help="PDB file of trajectory files.")] = None,
    features: Annotated[
        str, typer.Option(help="Torsions of TICA and VAMP: all (as published) or rotatable.")
    ] = "all",
    tica_lag: Annotated[
        str | None, typer.Option(help="Lag of TICA; by default one frame of the reference.")
    ] = None,
    states: Annotated[
        int, typer.Option(help="States of transition probabilities and Chapman-Kolmogorov tests.")
    ] = 4,
    frame_interval: Annotated[
        str | None,
        typer.Option(help="Time between frames of a reference without time stamps, such as 1ps."),
    ] = None,
    lag: Annotated[str | None, typer.Option(help="The same for trajectory files of a run.")] = None,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap that gives intervals.")] = 200,
    seed: Annotated[int, typer.Option(help="Of all resampling.")] = 0,
    jobs: Annotated[
        int | None, typer.Option(help="Processes for several runs; by default one for every core.")
    ] = None,
    energies: Annotated[
        bool | None,
        typer.Option(
            "--energies/--no-energies",
            help="Compare potential energies; by default where there are a system.xml and OpenMM.",
        ),
    ] = None,
) -> int:
    """Say how good runs are: distributions, kinetics and soundness, beside MD's own noise.

    Without --reference: soundness, agreement of replicas, effective sample size.
    """
    from tito_fast.analysis.aggregate import (  # noqa: PLC0415  imports numpy
        aggregate,
        one_run_table,
        table,
    )
    from tito_fast.analysis.evaluation import evaluate as evaluate_runs  # noqa: PLC0415  as above
    from tito_fast.analysis.evaluation_config import EvaluationConfig  # noqa: PLC0415  as above
    from tito_fast.units import parse_time  # noqa: PLC0415  beside the others

    def time_ps(text: str | None, name: str) -> float | None:
        return None if text is None else parse_time(text, name=name)

    config = EvaluationConfig(
        features=cast("FeatureSet", features),
        tica_lag_ps=time_ps(tica_lag, "tica_lag"),
        n_states=states,
        frame_interval_ps=time_ps(frame_interval, "frame_interval"),
        lag_ps=time_ps(lag, "lag"),
        n_resamples=resamples,
        seed=seed,
        n_jobs=_n_cores() if jobs is None else jobs,
    )

    def show(evaluation: "Evaluation") -> None:
        typer.echo(f"{evaluation.name}: {evaluation.path}")
        for note in evaluation.notes:
            typer.echo(f"{evaluation.name}: {note}", err=True)

    evaluations = evaluate_runs(
        runs,
        reference=reference,
        topology=topology,
        out=out,
        config=config,
        energy=_energy_function(energies, [*runs, *(reference or [])]),
        command=shlex.join(["tito-fast", *sys.argv[1:]]),
        on_evaluation=show,
    )
    if len(evaluations) == 1:
        typer.echo(one_run_table(evaluations[0]))
    else:
        typer.echo(table(aggregate(evaluations)))
    return 0


def potential_energies_of(system_xml: Path, positions: "NDArray[np.float32]") -> Any:  # noqa: ANN401  as md
    """Return energies in the force field of ``system_xml``; a function that processes can be given."""
    from tito_fast.md import potential_energies  # noqa: PLC0415  needs OpenMM

    return potential_energies(system_xml, positions)


def _energy_function(wanted: bool | None, paths: list[Path]) -> Any:  # noqa: ANN401  EnergyFunction or None
    if wanted is False:
        return None
    if not any(_has_system(path) for path in paths):
        if wanted:
            raise ValueError(
                "energies: expected a system.xml beside the run or the reference, got none; simulate the "
                "reference with tito-fast simulate"
            )
        return None
    if find_spec("openmm") is not None:
        return potential_energies_of
    missing = "OpenMM is not installed: pip install 'tito_fast[md]'"
    if wanted:
        raise ImportError(f"energies: {missing}")
    typer.echo(f"warning: no potential energies, {missing}, or pass --no-energies", err=True)
    return None


def _has_system(path: Path) -> bool:
    if not path.is_dir():
        return False
    return (path / "system.xml").is_file() or any(path.glob("*/system.xml"))


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
