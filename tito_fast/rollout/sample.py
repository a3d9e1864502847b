"""Sampling: molecules in, one directory of trajectories for each, out."""

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray, Molecule
from tito_fast.data.readers import read_molecule
from tito_fast.devices import resolve_device
from tito_fast.models.load import load_model
from tito_fast.models.tito.model import TitoModel
from tito_fast.rollout.chunk import Chunk, Row, rows_per_chunk
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.engine import check_lag_schedule
from tito_fast.rollout.molecule_run import MoleculeRun, StepFrames
from tito_fast.rollout.starts import starts_of
from tito_fast.rollout.writers import FrameSink

# A kill loses at most this much work; writing the state costs milliseconds.
SECONDS_BETWEEN_CHECKPOINTS = 10.0


@dataclass(frozen=True, kw_only=True)
class RolloutProgress:
    """What a progress display is told after a rollout step of a chunk."""

    n_done: int  # transitions, this call
    n_total: int
    transitions_per_s: float
    simulated_ps: float  # summed over replicas, this call
    n_lost: int  # replicas that became NaN or infinite


@dataclass(frozen=True, kw_only=True)
class RolloutResult:
    """Where a molecule's trajectories are, and how they came out.

    Parameters
    ----------
    path : Path
    molecule : Molecule
    n_frames : tuple of int
        Frames of each replica, the start included.
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
        parts = [
            f"{len(self.n_frames)} replicas of {max(self.n_frames)} frames",
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

    Notes
    -----
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
    loaded = model if isinstance(model, TitoModel) else load_model(model)
    loaded = _on_device(loaded, config)
    molecules = _read_all(inputs)
    loaded.check_molecules(molecules)
    for warning in check_lag_schedule(loaded, config.lag_times_ps):
        warnings.warn(warning, stacklevel=2)
    if start is not None and len(molecules) != 1:
        raise ValueError(
            f"start: expected one input with start frames, got {len(molecules)} inputs"
        )
    runs: list[MoleculeRun] = []
    try:
        for molecule, path in zip(molecules, _paths(Path(out), molecules), strict=True):
            run = MoleculeRun.open(
                path,
                molecule,
                loaded,
                config,
                starts=starts_of(molecule, start),
                overwrite=overwrite,
            )
            runs.append(run)
        with _threads(config.n_threads):
            _advance_all(loaded, runs, config, on_progress)
        return [
            RolloutResult(
                path=run.path,
                molecule=run.molecule,
                n_frames=tuple(int(n_steps) + 1 for n_steps in run.n_steps_done),
                lost_replicas=run.lost,
                validity=run.finish(),
            )
            for run in runs
        ]
    except BaseException:
        for run in runs:
            run.interrupted()
        raise
    finally:
        for run in runs:
            run.close()


def _percent(what: str, share: float | None) -> list[str]:
    return [] if share is None else [f"{what}: {100 * share:.1f} %"]


def _on_device(model: TitoModel, config: RolloutConfig) -> TitoModel:
    """Return a copy of the model where and as it is to run; the caller's stays as it is."""
    network = copy.deepcopy(model.network).requires_grad_(requires_grad=False)
    dtype = torch.float64 if config.precision == "fp64" else torch.float32
    copied = TitoModel(model.config, model.info, network)
    return copied.to(device=resolve_device(config.device), dtype=dtype)


def _read_all(
    inputs: str | Path | Molecule | Sequence[str | Path | Molecule],
) -> list[Molecule]:
    one = isinstance(inputs, str | Path | Molecule)
    many: Sequence[str | Path | Molecule] = [inputs] if one else inputs  # type: ignore[list-item,assignment]
    if not many:
        raise ValueError("input: expected at least one molecule, got none")
    return [each if isinstance(each, Molecule) else read_molecule(each) for each in many]


def _paths(out: Path, molecules: Sequence[Molecule]) -> list[Path]:
    if len(molecules) == 1:
        return [out]
    names = [folder_name(molecule.name) for molecule in molecules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"input: expected molecules of different names, got {twice[0]!r} twice")
    return [out / name for name in names]


def folder_name(name: str) -> str:
    """Return a molecule's name with the characters that a path cannot hold replaced.

    Examples
    --------
    >>> folder_name("C/C=C/C")
    'C_C=C_C'
    """
    return "".join(c if c.isalnum() or c in "-_.=#@+()[]" else "_" for c in name)


def _advance_all(
    model: TitoModel,
    runs: Sequence[MoleculeRun],
    config: RolloutConfig,
    on_progress: Callable[[RolloutProgress], None] | None,
) -> None:
    """Advance every unfinished replica of every run, chunk by chunk."""
    n_total = sum(
        (config.n_rollout_steps - step) * len(replicas)
        for run in runs
        for step, replicas in run.unfinished().items()
    )
    meter = _Meter(n_total, config, on_progress)
    for rows, first_step in _chunks(model, runs, config):
        _advance_chunk(model, runs, rows, first_step, config, meter)


def _chunks(
    model: TitoModel, runs: Sequence[MoleculeRun], config: RolloutConfig
) -> list[tuple[list[Row], int]]:
    """Return rows that are equally far, molecule by molecule, as many together as fit."""
    by_step: dict[int, list[Row]] = {}
    for index, run in enumerate(runs):
        for step, replicas in run.unfinished().items():
            rows = [Row(index, run.molecule, replica) for replica in replicas]
            by_step.setdefault(step, []).extend(rows)
    chunks = []
    for step, rows in sorted(by_step.items()):
        start = 0
        while start < len(rows):
            largest = max(row.molecule.n_atoms for row in rows[start:])
            end = start + rows_per_chunk(model, config, largest)
            chunks.append((rows[start:end], step))
            start = end
    return chunks


def _advance_chunk(
    model: TitoModel,
    runs: Sequence[MoleculeRun],
    rows: list[Row],
    first_step: int,
    config: RolloutConfig,
    meter: "_Meter",
) -> None:
    """Advance ``rows`` to the end; a second thread superposes, checks and writes."""
    chunk = Chunk(model, rows, config)
    parts = _parts(rows)
    state = np.concatenate([runs[row.molecule_idx].scaled_positions(row.replica) for row in rows])
    positions = torch.from_numpy(state).to(model.device, model.dtype)
    involved = [runs[part.molecule_idx] for part in parts]

    def consume(step_frames: list[StepFrames]) -> None:
        for run, frames in zip(involved, step_frames, strict=True):
            run.add(frames)
        if time.monotonic() - meter.last_checkpoint >= SECONDS_BETWEEN_CHECKPOINTS:
            _checkpoint(involved, meter, sync=False)

    with FrameSink(consume) as sink:
        try:
            steps = chunk.run(positions, first_step=first_step, last_step=config.n_rollout_steps)
            for step, scaled in enumerate(steps, start=first_step + 1):
                host = scaled.double().cpu().numpy()
                sink.put([StepFrames(step, part.replicas, host[part.atoms]) for part in parts])
                meter.count(len(rows), step, sum(len(run.lost) for run in runs))
        finally:
            # Also after Ctrl-C: what was sampled is kept.
            sink.drain()
            _checkpoint(involved, meter, sync=True)
            for run in involved:
                run.close_files()


@dataclass(frozen=True)
class _Part:
    """Rows of one molecule, side by side in a chunk."""

    molecule_idx: int
    replicas: NDArray[np.int64]
    atoms: slice


def _parts(rows: Sequence[Row]) -> list[_Part]:
    """Return the molecules of ``rows``, which are sorted by molecule, with their replicas and atoms."""
    parts: list[_Part] = []
    start = 0
    for molecule_idx in dict.fromkeys(row.molecule_idx for row in rows):
        mine = [row for row in rows if row.molecule_idx == molecule_idx]
        end = start + sum(row.molecule.n_atoms for row in mine)
        replicas = np.array([row.replica for row in mine], dtype=np.int64)
        parts.append(_Part(molecule_idx, replicas, slice(start, end)))
        start = end
    return parts


def _checkpoint(runs: Sequence[MoleculeRun], meter: "_Meter", *, sync: bool) -> None:
    for run in runs:
        run.checkpoint(sync=sync)
        run.log(
            {
                "elapsed_s": round(meter.elapsed_s(), 1),
                "transitions_this_call": meter.n_done,
                "transitions_per_s": round(meter.n_done / meter.elapsed_s(), 2),
                "steps_of_all_replicas": int(run.n_steps_done.sum()),
                "lost_replicas": len(run.lost),
            }
        )
    meter.last_checkpoint = time.monotonic()


class _Meter:
    """Counts transitions and tells the display."""

    def __init__(
        self,
        n_total: int,
        config: RolloutConfig,
        on_progress: Callable[[RolloutProgress], None] | None,
    ) -> None:
        self._n_total, self._config, self._tell = n_total, config, on_progress
        self.n_done, self._simulated_ps = 0, 0.0
        self._started = self.last_checkpoint = time.monotonic()

    def elapsed_s(self) -> float:
        """Return the time since the first chunk, above zero."""
        return max(time.monotonic() - self._started, 1e-9)

    def count(self, n_rows: int, step: int, n_lost: int) -> None:
        """Count one step, numbered from 1, of ``n_rows`` replicas."""
        self.n_done += n_rows
        self._simulated_ps += n_rows * self._config.lag_time_ps(step - 1)
        if self._tell is not None:
            self._tell(
                RolloutProgress(
                    n_done=self.n_done,
                    n_total=self._n_total,
                    transitions_per_s=self.n_done / self.elapsed_s(),
                    simulated_ps=self._simulated_ps,
                    n_lost=n_lost,
                )
            )


@contextmanager
def _threads(n_threads: int | None) -> Iterator[None]:
    """Run the block with ``n_threads`` CPU threads, and put back what was before."""
    before = torch.get_num_threads()
    try:
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        yield
    finally:
        torch.set_num_threads(before)
