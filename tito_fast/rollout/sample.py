"""Sampling: molecules in, one directory of trajectories for each, out."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from tito_fast.data.molecule import FloatArray, Molecule
from tito_fast.data.readers import read_molecules
from tito_fast.data.run_directory import folder_name, run_paths
from tito_fast.devices import resolve_device
from tito_fast.errors import ProcessLostError
from tito_fast.models.load import load_model
from tito_fast.models.tito.model import TitoModel
from tito_fast.processes import device_of_rank, launched_place, n_devices_here
from tito_fast.rollout.advance import Task, advance, shares, task_cost
from tito_fast.rollout.chunk import Row
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.crew import Crew
from tito_fast.rollout.engine import check_lag_schedule
from tito_fast.rollout.molecule_run import MoleculeRun
from tito_fast.rollout.receiver import Receiver
from tito_fast.rollout.recorder import Recorder, RolloutProgress
from tito_fast.rollout.starts import starts_of
from tito_fast.rollout.worker import Job, threads, work

__all__ = ["RolloutProgress", "RolloutResult", "folder_name", "sample"]

# How long to wait for other processes between two looks at the display.
_TELL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class RolloutResult:
    """Where a molecule's trajectories are, and how they came out.

    Parameters
    ----------
    path : Path
    molecule : Molecule
    n_frames : tuple of int
        Frames in the file of each replica, the start included.
    lost_replicas : dict of int to int
        Replicas that became NaN or infinite, with the step at which they did; their files end before it.
    validity : dict
        As in ``validity.json``.
    """

    path: Path
    molecule: Molecule
    n_frames: tuple[int, ...]
    lost_replicas: dict[int, int]
    validity: dict[str, Any]

    def summary(self) -> str:
        """Return one line for people."""
        low, high = (f"{bound:g}" for bound in self.validity["criteria"]["bond_range_nm"])
        counts = self.validity["all"]
        check = self.validity.get("check")
        fewest, most = min(self.n_frames), max(self.n_frames)
        is_uneven = check is not None and check["mode"] == "drop" and fewest < most
        parts = [
            f"{len(self.n_frames)} replicas of {f'{fewest} to ' if is_uneven else ''}{most} frames",
            *_checked(check),
            *_percent(f"bonds in {low}-{high} nm", counts["share_bonds_in_range"]),
            *_percent("frames with clashes", counts["share_clash_frames"]),
            *_percent("frames with an inverted stereocenter", counts["share_inverted_frames"]),
        ]
        return ", ".join(parts)


def sample(
    inputs: str | Path | Molecule | Sequence[str | Path | Molecule],
    config: RolloutConfig,
    *,
    out: str | Path,
    model: str | Path | TitoModel = "smallmol",
    start: FloatArray | None = None,
    overwrite: bool = False,
    on_progress: Callable[[RolloutProgress], None] | None = None,
) -> list[RolloutResult]:
    """Sample trajectories, or go on with those in ``out``.

    Parameters
    ----------
    inputs : str, path or Molecule, or several
        SMILES, peptide sequence, PDB or SDF file (:func:`tito_fast.read_molecule`).
    config : RolloutConfig
    out : path
        Directory of the run; with several inputs each molecule has a sub-directory of its name.
    model : str, path or TitoModel
        Name of a shipped model, a safetensors file, or a loaded model.
    start : ndarray, shape (n_frames, n_atoms, 3), optional
        Starts in nm; replica ``r`` takes frame ``r mod n_frames``. None: the molecule's own positions.
        For one input only.
    overwrite : bool
        Start afresh where a run exists.
    on_progress : callable, optional
        Told of every step.

    Returns
    -------
    list of RolloutResult
        In the order of ``inputs``.

    Raises
    ------
    ValueError
        A lag above the model's maximum, a molecule it never saw, a run with other settings.
    OSError
        The disk; what was written before stays whole.
    ProcessLostError
        Another process of this run ended; what was sampled is kept.

    Notes
    -----
    With ``config.devices`` above 1 this process starts the others, gives them model, molecules and states,
    and is the only one that reads inputs and writes files; under torchrun or srun every process makes
    this call, and all return the same. Files are those of one process, bit for bit.

    Running the same call again continues after a kill, and extends the trajectories when there are
    more steps or replicas. Noise is a function of (seed, molecule, replica, step), so neither chunks
    nor restarts change a trajectory.

    Examples
    --------
    >>> import tempfile, tito_fast
    >>> config = tito_fast.RolloutConfig(lag_times_ps=(100.0,), n_rollout_steps=2, n_ode_steps=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result, = tito_fast.sample("CCO", config, out=folder + "/run")
    >>> result.n_frames
    (3,)
    """
    crew = _launched_crew(config)
    if crew is not None and crew.rank > 0:
        return cast("list[RolloutResult]", work(crew))
    runs: list[MoleculeRun] = []
    try:
        loaded = model if isinstance(model, TitoModel) else load_model(model)
        loaded = _on_device(loaded, config, crew)
        molecules = read_molecules(inputs)
        loaded.check_molecules(molecules)
        for time_ps in config.interpolation_times_ps:
            loaded.interpolated(time_ps)
        for warning in check_lag_schedule(loaded, config.lag_times_ps):
            warnings.warn(warning, stacklevel=2)
        if start is not None:
            _check_one(molecules)
        for molecule, path in zip(molecules, run_paths(Path(out), molecules), strict=True):
            run = MoleculeRun.open(
                path,
                molecule,
                loaded,
                config,
                starts=starts_of(molecule, start),
                overwrite=overwrite,
            )
            runs.append(run)
        _advance_all(loaded, runs, config, crew, on_progress)
        results = [_result(run) for run in runs]
    except BaseException as error:
        for run in runs:
            run.interrupted()
        if crew is not None:
            crew.give_up(f"{type(error).__name__}: {error}")
        if isinstance(error, ProcessLostError):
            raise ProcessLostError(
                f"{error}; what was sampled is kept in {out}; run the same command again to go on"
            ) from error
        raise
    finally:
        for run in runs:
            run.close()
    return results if crew is None else crew.tell(results)


def _check_one(molecules: Sequence[Molecule]) -> None:
    if len(molecules) != 1:
        raise ValueError(
            f"start: expected one input with start frames, got {len(molecules)} inputs"
        )


def _result(run: MoleculeRun) -> RolloutResult:
    validity = run.finish()
    n_frames = [int(n_steps) + 1 for n_steps in run.n_steps_done]
    if "check" in validity and validity["check"]["mode"] == "drop":
        for replica, counts in enumerate(validity["check"]["replicas"]):
            n_frames[replica] -= counts["unsound_frames"]
    return RolloutResult(
        path=run.path,
        molecule=run.molecule,
        n_frames=tuple(n_frames),
        lost_replicas=run.lost,
        validity=validity,
    )


def _launched_crew(config: RolloutConfig) -> Crew | None:
    """Return the processes that a launcher started, of which this is one; None if there is none but this."""
    place = launched_place()
    if place is None:
        return None
    if config.devices not in (1, "auto", place.n_ranks):
        raise ValueError(
            f"devices: expected {place.n_ranks}, the number of processes launched, or none, "
            f"got {config.devices}"
        )
    if resolve_device(config.device).index is not None:
        raise ValueError(
            f"device: expected auto, cpu or cuda for {place.n_ranks} processes, got {config.device}"
        )
    return Crew.launched(place)


def _checked(check: Mapping[str, Any] | None) -> list[str]:
    """Return how many frames are unsound, and why, in words."""
    if check is None:
        return []
    counts = check["all"]
    what = "dropped" if check["mode"] == "drop" else "marked"
    why = ", ".join(f"{name} {counts[name]}" for name in check["flag_bits"])
    return [f"{counts['unsound_frames']} of {counts['frames']} frames {what} as unsound ({why})"]


def _percent(what: str, share: float | None) -> list[str]:
    return [] if share is None else [f"{what}: {100 * share:.1f} %"]


def _on_device(model: TitoModel, config: RolloutConfig, crew: Crew | None) -> TitoModel:
    """Return a copy of the model where and as it is to run; the caller's stays as it is."""
    network = copy.deepcopy(model.network).requires_grad_(requires_grad=False)
    dtype = torch.float64 if config.precision == "fp64" else torch.float32
    copied = model.with_network(network)
    device = resolve_device(config.device)
    if crew is not None:
        device = device_of_rank(device, crew.local_rank)
    return copied.to(device=device, dtype=dtype)


def _tasks(runs: Sequence[MoleculeRun]) -> list[Task]:
    """Return every unfinished replica of every run: those that are equally far side by side, by molecule."""
    tasks = [
        Task(Row(index, run.molecule, replica), step, run.scaled_positions(replica))
        for index, run in enumerate(runs)
        for step, replicas in run.unfinished().items()
        for replica in replicas
    ]
    return sorted(tasks, key=lambda task: (task.first_step, task.row.molecule_idx))


def _advance_all(
    model: TitoModel,
    runs: Sequence[MoleculeRun],
    config: RolloutConfig,
    crew: Crew | None,
    on_progress: Callable[[RolloutProgress], None] | None,
) -> None:
    """Advance every unfinished replica of every run, in as many processes as ``config`` asks for."""
    tasks = _tasks(runs)
    n_total = sum(config.n_rollout_steps - task.first_step for task in tasks)
    with (
        _crew(crew, config, n_tasks=len(tasks)) as all_ranks,
        Recorder(runs, config, n_total=n_total, on_progress=on_progress) as recorder,
        threads(_n_threads(config, all_ranks)),
    ):
        if all_ranks is None:
            for advanced in advance(model, tasks, config):
                recorder.put(tasks, advanced)
                recorder.tell()
        else:
            _advance_shared(model, tasks, config, all_ranks, recorder)


def _advance_shared(
    model: TitoModel, tasks: Sequence[Task], config: RolloutConfig, crew: Crew, recorder: Recorder
) -> None:
    """Hand out the tasks, advance this process' own, and record those of all."""
    costs = [task_cost(task, config.n_rollout_steps) for task in tasks]
    parts = [tasks[share] for share in shares(costs, crew.n_ranks)]
    sent = model.with_network(copy.deepcopy(model.network)).to(device="cpu")
    crew.hand_out([None, *(Job(sent, part, config) for part in parts[1:])])
    receivers = [
        Receiver(crew, rank, tasks=part, recorder=recorder, dtype=model.dtype)
        for rank, part in enumerate(parts[1:], start=1)
    ]
    for advanced in advance(model, parts[0], config):
        recorder.put(parts[0], advanced)
        recorder.tell()
        for receiver in receivers:
            receiver.is_done()
    while not all(receiver.is_done() for receiver in receivers):
        for receiver in receivers:
            receiver.is_done(wait_s=_TELL_S / len(receivers))
        recorder.tell()
    recorder.tell()


@contextmanager
def _crew(crew: Crew | None, config: RolloutConfig, *, n_tasks: int) -> Iterator[Crew | None]:
    """Give the processes that a launcher started, else those that ``config`` asks for while the block runs."""
    if crew is not None:
        yield crew
        return
    n_devices = n_devices_here(config.devices, resolve_device(config.device), named=config.device)
    if min(n_devices, n_tasks) < 2:
        yield None
        return
    started = Crew.start(min(n_devices, n_tasks))
    try:
        yield started
        started.tell(None)
    except BaseException:
        started.close(is_failed=True)
        raise
    started.close()


def _n_threads(config: RolloutConfig, crew: Crew | None) -> int | None:
    """Return the CPU threads of this process: its share, where it started the others."""
    if config.n_threads is not None or crew is None or not crew.children.processes:
        return config.n_threads
    return max(torch.get_num_threads() // crew.n_ranks, 1)
