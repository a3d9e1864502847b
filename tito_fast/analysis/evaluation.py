"""Evaluating: runs in, what they are worth beside their reference out."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.comparison import Comparison, Findings, compare
from tito_fast.analysis.correlation_metrics import correlation_metrics
from tito_fast.analysis.evaluation_config import EvaluationConfig
from tito_fast.analysis.jobs import Job, jobs_of
from tito_fast.analysis.kinetic_metrics import transition_metrics, vamp_metrics
from tito_fast.analysis.metric import Metric
from tito_fast.analysis.pictures import bond_histograms, free_energies, run_alone
from tito_fast.analysis.recording import Recording, record
from tito_fast.analysis.replica_metrics import convergence_metrics, validity_metrics
from tito_fast.analysis.sources import Source, check_same_atoms, open_source
from tito_fast.analysis.static_metrics import (
    energy_metrics,
    geometry_metrics,
    slow_coordinate_metrics,
    torsion_metrics,
)
from tito_fast.analysis.steps import steps_of
from tito_fast.analysis.streams import temporary_folder
from tito_fast.data.molecule import FloatArray, IntArray
from tito_fast.data.store import file_sha256

FORMAT_VERSION: Final = 1
"""Of ``metrics.json``; it rises when a key changes its meaning or goes."""

KIND: Final = "tito_fast evaluation"

EnergyFunction = Callable[[Path, NDArray[np.float32]], FloatArray]
"""Of a ``system.xml`` and positions (n_frames, n_atoms, 3) in nm: energies (n_frames,) in kJ/mol."""

_OTHER_ISOMER: Final = 0.9
_PACKAGES: Final = ("tito_fast", "numpy", "scipy", "mdtraj", "deeptime", "rdkit", "matplotlib")


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """How good one run is.

    Parameters
    ----------
    name : str
        Of the run's directory, unique in a call.
    molecule_name : str
    metrics : dict of Metric
        By the keys of ``metrics.json``.
    extras : dict
        Further keys of a metric.
    arrays : dict
        Functions, matrices and histograms, ready for JSON.
    summary : dict
        Atoms, frames, lags.
    notes : tuple of str
        What a reader of the numbers must know.
    provenance : dict
        Inputs with hashes, settings, versions, command.
    path : Path or None
        Directory that it was written to.
    states : list of ndarray, or None
        State of each frame of each stretch of equal lags, for comparisons between lags.
    reference_key : str
        Evaluations with equal ones share molecule and reference.
    """

    name: str
    molecule_name: str
    metrics: dict[str, Metric]
    extras: dict[str, dict[str, Any]]
    arrays: dict[str, Any]
    summary: dict[str, Any]
    notes: tuple[str, ...]
    provenance: dict[str, Any]
    path: Path | None = None
    states: list[IntArray] | None = field(default=None, repr=False)
    reference_key: str = ""

    @property
    def has_reference(self) -> bool:
        """Whether it was compared with anything."""
        return self.summary["reference"] is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
        metrics = {
            name: metric.to_dict() | self.extras.get(name, {})
            for name, metric in self.metrics.items()
        }
        return {
            "version": FORMAT_VERSION,
            "kind": KIND,
            "name": self.name,
            "molecule": self.molecule_name,
            **metrics,
            "summary": self.summary,
            "notes": list(self.notes),
            "arrays": self.arrays,
            "provenance": self.provenance,
        }


def evaluate(
    runs: Path | str | Sequence[Path | str],
    *,
    reference: Path | str | Sequence[Path | str] | None = None,
    topology: Path | str | None = None,
    out: Path | str | None = None,
    config: EvaluationConfig | None = None,
    energy: EnergyFunction | None = None,
    command: str | None = None,
    on_evaluation: Callable[[Evaluation], None] | None = None,
) -> list[Evaluation]:
    """Say how good runs are: thermodynamics, kinetics and soundness, beside MD's own noise.

    Parameters
    ----------
    runs : path, or several
        Directories of ``tito-fast sample``, ``simulate`` or ``relax``, folders of such directories, or
        trajectory files, which together are the replicas of one run.
    reference : path, or several, optional
        Trajectory files of one molecule, a directory as above, a folder with ``trajectory.xtc`` and
        ``topology.pdb``, a store, or a folder of any of these, of which the one with the run's name is
        taken. None: the run by itself.
    topology : path, optional
        PDB file of trajectory files.
    out : path, optional
        Directory for ``metrics.json``, ``panel.png`` and ``report.html``, with several runs one
        sub-directory each and ``aggregate.json``. None: nothing is written.
    config : EvaluationConfig, optional
    energy : callable, optional
        Potential energies, such as :func:`tito_fast.md.potential_energies`; used where run or reference
        has a ``system.xml``.
    command : str, optional
        To record.
    on_evaluation : callable, optional
        Told of each run, in the order of their names.

    Returns
    -------
    list of Evaluation
        In the order of ``runs``.

    Raises
    ------
    ValueError
        If atoms differ, there are too few frames for the lag, the reference is shorter than the lag, an
        input is missing or unreadable, or ``out`` holds something else.
    OSError
        If a file cannot be read or written.
    """
    from tito_fast.analysis.output import check_out, write_all  # noqa: PLC0415  it needs Evaluation

    chosen = config or EvaluationConfig()
    jobs = jobs_of(_paths(runs), reference=_paths(reference), topology=topology)
    target = None if out is None else Path(out)
    if target is not None:
        check_out(target, names=[job.name for job in jobs])
    tasks = [
        _Task(
            job=job,
            config=chosen,
            energy=energy,
            command=command,
            out=None if target is None else (target if len(jobs) == 1 else target / job.name),
            is_alone=len(jobs) == 1,
        )
        for job in jobs
    ]
    evaluations = []
    for evaluation in _results(tasks, chosen.n_jobs):
        evaluations.append(evaluation)
        if on_evaluation is not None:
            on_evaluation(evaluation)
    if target is not None and len(jobs) > 1:
        write_all(evaluations, target)
    return evaluations


@dataclass(frozen=True, eq=False, kw_only=True)
class _Task:
    job: Job
    config: EvaluationConfig
    energy: EnergyFunction | None
    command: str | None
    out: Path | None
    is_alone: bool


def _paths(given: Path | str | Sequence[Path | str] | None) -> list[Path]:
    if given is None:
        return []
    return [Path(each) for each in ([given] if isinstance(given, str | Path) else given)]


def _results(tasks: Sequence[_Task], n_jobs: int) -> Any:  # noqa: ANN401  an iterator of Evaluation
    if min(n_jobs, len(tasks)) == 1:
        yield from map(_evaluate_task, tasks)
        return
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    # Processes are started anew: a fork of a process with threads may hang. Matrices are small: one
    # thread each.
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        with ProcessPoolExecutor(min(n_jobs, len(tasks)), mp_context=get_context("spawn")) as pool:
            yield from pool.map(_evaluate_task, tasks)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _evaluate_task(task: _Task) -> Evaluation:
    from tito_fast.analysis.output import write_one  # noqa: PLC0415  it needs Evaluation

    try:
        evaluation = _evaluate(task)
    except ValueError as error:
        if task.is_alone:
            raise
        raise ValueError(f"{task.job.name}: {error}") from error
    if task.out is not None:
        write_one(evaluation, task.out)
    return evaluation


def _evaluate(task: _Task) -> Evaluation:
    job, config = task.job, task.config
    run_source = open_source(
        job.run, argument="run", topology=job.topology, interval_ps=config.lag_ps
    )
    reference_source = None
    if job.reference:
        reference_source = open_source(
            job.reference,
            argument="reference",
            topology=job.topology,
            like=run_source.molecule,
            interval_ps=config.frame_interval_ps,
        )
        check_same_atoms(
            run_source.molecule, reference_source.molecule, source=reference_source.label
        )
    with temporary_folder() as folder:
        recordings = []
        for role, source in (("run", run_source), ("reference", reference_source)):
            if source is not None:
                (folder / role).mkdir()
                recordings.append(
                    record(
                        source,
                        molecule=run_source.molecule,
                        role="run" if role == "run" else "reference",
                        folder=folder / role,
                        features=config.features,
                        keep_energies=task.energy is not None,
                        chunk_frames=config.chunk_frames,
                    )
                )
        run, reference = recordings[0], recordings[1] if len(recordings) > 1 else None
        return _measure(task, run, reference)


def _measure(task: _Task, run: Recording, reference: Recording | None) -> Evaluation:
    config, molecule = task.config, run.source.molecule
    found, states, comparison = Findings(), None, None
    if reference is None:
        found.notes += run.notes
        found.add(run_alone(run, molecule))
    else:
        _check_stereo(reference)
        comparison = compare(run, reference, molecule=molecule, config=config)
        found.notes += comparison.notes
        found.add(slow_coordinate_metrics(comparison))
        found.add(torsion_metrics(comparison))
        found.add(vamp_metrics(comparison))
        transitions, cells = transition_metrics(comparison)
        found.add(transitions)
        found.add(correlation_metrics(comparison))
        found.add(geometry_metrics(comparison))
        found.add(free_energies(comparison))
        if cells is not None and comparison.slow is not None:
            states = [cells.assign(one) for one in comparison.steps.cut(comparison.slow.run)]
        found.add(_energies(task, run, reference))
    options = {"n_resamples": config.n_resamples, "seed": config.seed}
    found.add(validity_metrics(run, reference, **options))
    found.add(convergence_metrics(run, comparison, molecule=molecule, **options))
    found.add(bond_histograms(run, reference, molecule))
    return Evaluation(
        name=task.job.name,
        molecule_name=molecule.name,
        metrics=found.metrics,
        extras=found.extras,
        arrays=found.arrays,
        summary=_summary(run, reference, comparison),
        notes=tuple(found.notes),
        provenance=_provenance(task, run.source, None if reference is None else reference.source),
        path=task.out,
        states=states,
        reference_key="" if reference is None else reference.source.label,
    )


def _check_stereo(reference: Recording) -> None:
    """Check that the reference is not another stereoisomer than the run's start structure."""
    counts = reference.validity["all"]
    for name, what in (
        ("share_inverted_frames", "stereocenters"),
        ("share_flipped_frames", "double bonds"),
    ):
        if (counts[name] or 0.0) > _OTHER_ISOMER:
            raise ValueError(
                f"reference: expected the {what} of the run's start structure, got others in "
                f"{counts[name]:.0%} of the frames of {reference.source.label}; it is another stereoisomer"
            )


def _energies(task: _Task, run: Recording, reference: Recording) -> Findings:
    """Return metrics of energies, where there are a force field and a function."""
    system = reference.source.system_xml or run.source.system_xml
    if task.energy is None or system is None:
        return Findings()
    energies = []
    for each in (reference, run):
        # One call for all trajectories: a context takes longer than a frame.
        together = task.energy(system, np.concatenate(each.energy_positions))
        ends = np.cumsum([len(one) for one in each.energy_positions])
        energies.append(np.split(np.asarray(together, dtype=np.float64), ends[:-1]))
    return energy_metrics(energies[0], energies[1], seed=task.config.seed)


def _summary(
    run: Recording, reference: Recording | None, comparison: Comparison | None
) -> dict[str, Any]:
    molecule = run.source.molecule
    try:
        lag_ps = steps_of(run.times_ps).lag_ps
    except ValueError:
        lag_ps = None
    return {
        "smiles": molecule.smiles,
        "n_atoms": molecule.n_atoms,
        "n_bond_torsions": len(run.torsions.bonds),
        "n_rotatable_torsions": len(run.torsions.rotatable),
        "run": {
            "kind": run.source.kind,
            "n_replicas": len(run.n_frames),
            "n_frames": sum(run.n_frames),
            "n_start_frames_dropped": run.n_start_frames,
            "lag_ps": lag_ps,
        },
        "reference": None
        if reference is None or comparison is None
        else {
            "kind": reference.source.kind,
            "n_trajectories": len(reference.n_frames),
            "n_frames": sum(reference.n_frames),
            "interval_ps": comparison.interval_ps,
            "lag_frames": comparison.lag_frames,
            "tica_lag_ps": comparison.tica_lag_frames * comparison.interval_ps,
            "block_frames": comparison.reference_block,
        },
    }


def _provenance(task: _Task, run: Source, reference: Source | None) -> dict[str, Any]:
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": task.command,
        "config": asdict(task.config),
        "versions": {name: _version(name) for name in _PACKAGES},
        "run": _inputs(run),
        "reference": None if reference is None else _inputs(reference),
    }


def _inputs(source: Source) -> dict[str, Any]:
    settings: Mapping[str, Any] = {
        name: source.settings[name]
        for name in ("model", "model_hash", "seed", "solver", "n_ode_steps", "precision", "preset")
        if name in source.settings
    }
    return {
        "source": source.label,
        "kind": source.kind,
        "sha256": {str(file): file_sha256(file) for file in source.files},
        "settings": dict(settings),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a package"
