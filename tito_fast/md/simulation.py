"""Simulating: molecules in, one directory of reference trajectories for each, out."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers import read_molecule
from tito_fast.data.run_directory import molecule_fingerprint, molecule_of_run, read_run
from tito_fast.data.validity import ValidityCounter
from tito_fast.data.writers.disk import replace_file
from tito_fast.md.checks import check_simulation
from tito_fast.md.contexts import check_platform, masses_amu, measured_speeds, minimized, ns_per_day
from tito_fast.md.crew import Job, work_off
from tito_fast.md.directory import (
    CHECKS,
    SYSTEM_JSON,
    SYSTEM_XML,
    ReplicaState,
    SimulationDirectory,
    load_replica_state,
    read_system_json,
)
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.presets import Preset, preset_of
from tito_fast.md.replica import ReplicaJob, ReplicaProgress
from tito_fast.md.system import n_degrees_of_freedom, openmm_system
from tito_fast.validation import check_at_least, check_positive

_SECONDS_BETWEEN_LOGS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """What to simulate.

    Parameters
    ----------
    time_ps : float
        Of each replica, after its equilibration.
    save_every_ps : float
        Time between frames; a trajectory has one frame more than ``time_ps / save_every_ps``.
    preset : Preset or str
    n_replicas : int
        Independent trajectories from one start structure.
    seed : int
        All velocities and noise follow from it, the molecule and the replica.
    platform : str
        OpenMM's name; ``auto``: the faster of Reference and CPU, by a short measurement.
    n_jobs : int or None
        Replicas simulated at once, in a process of one thread each; None: one for every core.
    """

    time_ps: float
    save_every_ps: float
    preset: Preset | str = "fast"
    n_replicas: int = 1
    seed: int = 0
    platform: str = "auto"
    n_jobs: int | None = None

    def __post_init__(self) -> None:
        """Check ranges, and that frames fall on steps."""
        if isinstance(self.preset, str):
            object.__setattr__(self, "preset", preset_of(self.preset))
        check_positive("time", self.time_ps, unit="ps")
        check_positive("save_every", self.save_every_ps, unit="ps")
        check_at_least("replicas", self.n_replicas, 1)
        if self.n_jobs is not None:
            check_at_least("jobs", self.n_jobs, 1)
        if self.time_ps < self.save_every_ps:
            raise ValueError(
                f"time: expected at least save_every, {self.save_every_ps:g} ps, got {self.time_ps:g} ps"
            )
        ratio = self.time_ps / self.save_every_ps
        if abs(ratio - round(ratio)) > 1e-9 * ratio:
            raise ValueError(
                f"time: expected a multiple of save_every, {self.save_every_ps:g} ps, got {self.time_ps:g} ps"
            )
        self.resolved_preset.n_steps(self.save_every_ps, name="save_every")
        equilibration_ps = self.resolved_preset.equilibration_ps
        self.resolved_preset.n_steps(equilibration_ps, name="equilibration")

    @property
    def resolved_preset(self) -> Preset:
        """The preset, also where its name was given."""
        if isinstance(self.preset, str):  # pragma: no cover - replaced when it was checked
            return preset_of(self.preset)
        return self.preset

    @property
    def n_frames(self) -> int:
        """Frames after the first."""
        return round(self.time_ps / self.save_every_ps)

    @property
    def steps_per_frame(self) -> int:
        """Integration steps between frames."""
        return self.resolved_preset.n_steps(self.save_every_ps, name="save_every")


@dataclass(frozen=True, kw_only=True)
class SimulationProgress:
    """What a progress display is told, about all molecules and replicas of a call."""

    simulated_ps: float  # written, this call
    total_ps: float  # to write, this call
    ns_per_day: float  # of all replicas together, equilibration included
    temperature_k: float | None  # mean over replicas and frames
    n_lost: int


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """Where a molecule's trajectories are, and how they came out.

    Parameters
    ----------
    path : Path
    molecule : Molecule
        At its minimized start structure.
    n_frames : tuple of int
        Frames of each replica, the one at time zero included.
    lost_replicas : dict of int to int
        Replicas that became NaN, with the first frame that is missing.
    checks : dict
        As in ``checks.json``.
    """

    path: Path
    molecule: Molecule
    n_frames: tuple[int, ...]
    lost_replicas: dict[int, int]
    checks: dict[str, Any]

    def summary(self) -> str:
        """Return one line for people."""
        temperature, bonds = self.checks["temperature"], self.checks["bonds"]
        mean = temperature["mean_k"]
        parts = [
            f"{len(self.n_frames)} replicas of {max(self.n_frames)} frames",
            f"mean temperature {mean:.1f} K of {temperature['target_k']:g} K"
            if mean is not None
            else "no temperature",
        ]
        if bonds["largest_mean_deviation"] is not None:
            parts.append(
                f"mean bond lengths within {100 * bonds['largest_mean_deviation']:.1f} % of the force field's"
            )
        n_inverted = self.checks["stereo"]["inverted_frames"]
        n_flipped = self.checks["stereo"]["flipped_frames"]
        if self.checks["stereo"]["stereocenters"] or self.checks["stereo"]["double_bonds"]:
            parts.append(f"{n_inverted + n_flipped} frames with another stereochemistry")
        parts.append("checks passed" if self.checks["passed"] else "CHECKS FAILED")
        return ", ".join(parts)


@dataclass
class _Run:
    """A molecule's directory while it is simulated."""

    directory: SimulationDirectory
    system: Any
    config: SimulationConfig
    platform: str
    states: dict[int, ReplicaState] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.directory.path

    @classmethod
    def open(
        cls, path: Path, molecule: Molecule, config: SimulationConfig, *, overwrite: bool
    ) -> Self:
        preset = config.resolved_preset
        settings = {
            **preset.settings(),
            "save_every_ps": config.save_every_ps,
            "lag_times_ps": [config.save_every_ps],
            "seed": config.seed,
            "format": "xtc",
            "input": molecule_fingerprint(molecule),
            "n_jobs": config.n_jobs,
        }
        is_there = (path / SYSTEM_XML).is_file() and (path / "run.json").is_file()
        if is_there and not overwrite:
            recorded = read_run(path)["settings"]
            start = molecule_of_run(path)
            platform = recorded.get("platform") if config.platform == "auto" else config.platform
            found = _Found(start, None, str(platform), {})
        else:
            found = _prepare(molecule, config)
            # One that was killed before its system was written has nothing else.
            overwrite = overwrite or _is_unprepared(path)
        directory = SimulationDirectory.open(
            path,
            {**settings, "platform": found.platform},
            molecule=found.molecule,
            n_steps=config.n_frames,
            n_replicas=config.n_replicas,
            overwrite=overwrite,
        )
        try:
            if found.system is not None:
                _write_system(path, found, config)
            run = cls(directory, _read_system(path), config, found.platform)
            n_recorded = read_run(path)["n_replicas"]
            for replica in range(n_recorded):
                state = load_replica_state(path, replica)
                if state is not None:
                    run.states[replica] = state
        except BaseException:
            directory.close()
            raise
        return run

    def jobs(self) -> list[Job]:
        """Return the replicas that have frames to come."""
        config = self.config
        n_steps = config.n_frames * config.steps_per_frame
        unfinished = [
            replica
            for replica in range(config.n_replicas)
            if replica not in self.states
            or (self.states[replica].step < n_steps and self.states[replica].lost_at_frame < 0)
        ]
        return [
            Job(
                "tito_fast.md.replica",
                "simulate_replica",
                ReplicaJob(
                    path=self.path,
                    replica=replica,
                    preset=config.resolved_preset,
                    platform=self.platform,
                    seed=config.seed,
                    steps_per_frame=config.steps_per_frame,
                    n_frames=config.n_frames,
                ),
            )
            for replica in unfinished
        ]

    def finish(self) -> SimulationResult:
        """Check what was simulated, and write it down."""
        lost = {r: s.lost_at_frame for r, s in self.states.items() if s.lost_at_frame >= 0}
        molecule = self.directory.molecule
        checks, validity = check_simulation(
            self.path, molecule, self.system, self.config.resolved_preset, self.states
        )
        replace_file(self.path / CHECKS, _json(checks))
        self.directory.save_validity(validity)
        n_frames = [self.states[r].n_measured for r in sorted(self.states)]
        description = read_system_json(self.path)
        description |= {
            "n_replicas": len(n_frames),
            # What data convert compares the one file with.
            "n_frames": n_frames[0] if len(n_frames) == 1 else n_frames,
            "length_ns": 1e-3 * self.config.save_every_ps * (max(n_frames) - 1),
            "mean_temperature_K": checks["temperature"]["mean_k"],
            "mean_potential_energy": checks["energy"]["mean_kj_per_mol"],
        }
        replace_file(self.path / SYSTEM_JSON, _json(description))
        self.directory.set_status("finished" if not lost and checks["passed"] else "failed")
        return SimulationResult(
            path=self.path,
            molecule=molecule,
            n_frames=tuple(n_frames),
            lost_replicas=lost,
            checks=checks,
        )


@dataclass(frozen=True)
class _Found:
    """What a run starts from."""

    molecule: Molecule  # at its minimum
    system: Any  # None where it is written already
    platform: str
    speeds_ns_per_day: Mapping[str, float]


def simulate(
    inputs: str | Path | Molecule | Sequence[str | Path | Molecule],
    config: SimulationConfig,
    *,
    out: str | Path,
    overwrite: bool = False,
    on_progress: Callable[[SimulationProgress], None] | None = None,
) -> list[SimulationResult]:
    """Simulate molecules, or go on with the simulations in ``out``.

    Parameters
    ----------
    inputs : str, path or Molecule, or several
        SMILES, peptide sequence, PDB or SDF file (:func:`tito_fast.read_molecule`).
    config : SimulationConfig
    out : path
        Directory of the run; with several inputs each molecule has a sub-directory of its name.
    overwrite : bool
        Start afresh where a run exists.
    on_progress : callable, optional
        Told about twice a second.

    Returns
    -------
    list of SimulationResult
        In the order of ``inputs``.

    Raises
    ------
    ImportError
        OpenMM is missing.
    ValueError
        A molecule that the force field does not know, a run with other settings.
    RuntimeError
        AmberTools is missing or fails.
    OSError
        The disk; what was written before stays whole.
    ProcessLostError
        One of several processes was killed; what was simulated is kept.

    Notes
    -----
    Running the same call again continues after a kill, and extends the trajectories when there is more time
    or are more replicas. A trajectory is a function of (seed, molecule, replica) on one version of OpenMM and
    one platform, on Reference bit for bit: neither restarts nor the number of processes change it.
    """
    import_openmm()
    check_platform(config.platform)
    molecules = _read_all(inputs)
    runs: list[_Run] = []
    try:
        for molecule, path in zip(molecules, run_paths(Path(out), molecules), strict=True):
            runs.append(_Run.open(path, molecule, config, overwrite=overwrite))
        _simulate_all(runs, config, on_progress)
        return [run.finish() for run in runs]
    except BaseException:
        for run in runs:
            run.directory.set_status("interrupted")
        raise
    finally:
        for run in runs:
            run.directory.close()


def _simulate_all(
    runs: Sequence[_Run],
    config: SimulationConfig,
    on_progress: Callable[[SimulationProgress], None] | None,
) -> None:
    jobs = [(run, job) for run in runs for job in run.jobs()]
    if not jobs:
        return
    board = _Board(runs, jobs, config, on_progress)
    n_processes = config.n_jobs or len(os.sched_getaffinity(0))
    for index, state in work_off(
        [job for _, job in jobs], n_processes=n_processes, on_message=board.hear
    ):
        run, job = jobs[index]
        run.states[job.payload.replica] = state
    board.log()


class _Board:
    """Sums up what the replicas say, for the display and for ``log.csv``."""

    def __init__(
        self,
        runs: Sequence[_Run],
        jobs: Sequence[tuple[_Run, Job]],
        config: SimulationConfig,
        on_progress: Callable[[SimulationProgress], None] | None,
    ) -> None:
        self._runs, self._config, self._on_progress = runs, config, on_progress
        self._before = {
            (run.path, job.payload.replica): self._n_recorded(run, job.payload.replica)
            for run, job in jobs
        }
        self._latest: dict[tuple[Path, int], ReplicaProgress] = {}
        self._n_steps = dict.fromkeys((run.path for run in runs), 0)
        self._started = self._last_log = time.monotonic()

    def hear(self, message: ReplicaProgress) -> None:
        """Take in what a replica says."""
        self._latest[message.path, message.replica] = message
        self._n_steps[message.path] += message.n_new_steps
        if self._on_progress is not None:
            self._on_progress(self._progress())
        if time.monotonic() - self._last_log >= _SECONDS_BETWEEN_LOGS:
            self.log()

    def log(self) -> None:
        """Add a line to the log of each run that was worked on."""
        self._last_log = time.monotonic()
        elapsed_s = self._last_log - self._started
        for run in self._runs:
            latest = [m for (path, _), m in self._latest.items() if path == run.path]
            if not latest:
                continue
            frames = {r: s.n_measured - 1 for r, s in run.states.items()}
            frames |= {message.replica: message.n_frames for message in latest}
            temperatures = [m.temperature_k for m in latest if m.temperature_k is not None]
            n_frames = sum(frames.values())
            run.directory.append_log(
                {
                    "elapsed_s": round(elapsed_s, 1),
                    "frames_of_all_replicas": n_frames,
                    "simulated_ns": round(1e-3 * n_frames * self._config.save_every_ps, 6),
                    "ns_per_day": round(self._speed(self._n_steps[run.path], elapsed_s), 1),
                    "mean_temperature_k": round(float(np.mean(temperatures)), 2)
                    if temperatures
                    else "",
                }
            )

    def _progress(self) -> SimulationProgress:
        latest = self._latest.values()
        temperatures = [m.temperature_k for m in latest if m.temperature_k is not None]
        done = sum(
            message.n_frames - self._before[message.path, message.replica] for message in latest
        )
        total = sum(self._config.n_frames - before for before in self._before.values())
        return SimulationProgress(
            simulated_ps=done * self._config.save_every_ps,
            total_ps=total * self._config.save_every_ps,
            ns_per_day=self._speed(sum(self._n_steps.values()), time.monotonic() - self._started),
            temperature_k=float(np.mean(temperatures)) if temperatures else None,
            n_lost=sum(s.lost_at_frame >= 0 for run in self._runs for s in run.states.values()),
        )

    def _speed(self, n_steps: int, seconds: float) -> float:
        return ns_per_day(1e-3 * n_steps * self._config.resolved_preset.step_fs, seconds)

    @staticmethod
    def _n_recorded(run: _Run, replica: int) -> int:
        return run.states[replica].n_measured - 1 if replica in run.states else 0


def _is_unprepared(path: Path) -> bool:
    if not (path / "run.json").is_file() or (path / SYSTEM_XML).is_file():
        return False
    return bool(read_run(path).get("kind") == SimulationDirectory.KIND)


def _prepare(molecule: Molecule, config: SimulationConfig) -> _Found:
    """Return the system of ``molecule``, its minimum, and the platform to simulate on."""
    preset = config.resolved_preset
    system = openmm_system(molecule, preset)
    start = minimized(system, molecule)
    counter = ValidityCounter(molecule)
    counter.update(np.zeros(1, np.int64), start.positions[None])
    counts = counter.result()["all"]
    if counts["inverted_frames"] or counts["flipped_frames"]:
        raise ValueError(
            f"positions: expected a structure of {molecule.name!r} that keeps its stereochemistry when its "
            "energy is minimized, got one that changes it; mend the structure"
        )
    speeds: dict[str, float] = {}
    platform = config.platform
    if platform == "auto":
        speeds = measured_speeds(system, start, preset)
        platform = max(speeds, key=lambda name: speeds[name])
    return _Found(start, system, platform, speeds)


def _write_system(path: Path, found: _Found, config: SimulationConfig) -> None:
    """Write ``system.json``, then ``system.xml``, which says that the preparation is complete."""
    openmm = import_openmm()
    preset, molecule, system = config.resolved_preset, found.molecule, found.system
    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    charges = [
        nonbonded.getParticleParameters(i)[0].value_in_unit(openmm.unit.elementary_charge)
        for i in range(system.getNumParticles())
    ]
    description = {
        "name": molecule.name,
        "smiles": molecule.smiles,
        "n_atoms": molecule.n_atoms,
        "preset": preset.name,
        "force_field": preset.force_field,
        "solvent": preset.solvent,
        "software": f"OpenMM {openmm.version.version}",
        "platform": found.platform,
        "platform_measured_ns_per_day": dict(found.speeds_ns_per_day),
        "integrator": "LangevinMiddleIntegrator",
        "timestep_fs": preset.step_fs,
        "friction_per_ps": preset.friction_per_ps,
        "temperature_K": preset.temperature_k,
        "seed": config.seed,
        "constraints": None if preset.constraints == "none" else preset.constraints,
        "hydrogen_mass_amu": preset.hydrogen_mass_amu,
        "cutoff_nm": preset.cutoff_nm,
        "equilibration_ps": preset.equilibration_ps,
        "frame_interval_ps": config.save_every_ps,
        "first_frame_time_ps": 0.0,
        "degrees_of_freedom": n_degrees_of_freedom(system),
        "masses_amu": masses_amu(system).tolist(),
        "partial_charges": charges,
        "length_unit": "nm",
        "energy_unit": "kJ/mol",
        "center": "mass center removed from every stored frame",
        "notes": list(molecule.notes),
        "versions": read_run(path)["history"][-1]["versions"],
    }
    replace_file(path / SYSTEM_JSON, _json(description))
    replace_file(path / SYSTEM_XML, openmm.XmlSerializer.serialize(system).encode())


def _read_system(path: Path) -> Any:  # noqa: ANN401  OpenMM is optional
    openmm = import_openmm()
    return openmm.XmlSerializer.deserialize((path / SYSTEM_XML).read_text("utf-8"))


def _read_all(
    inputs: str | Path | Molecule | Sequence[str | Path | Molecule],
) -> list[Molecule]:
    many = [inputs] if isinstance(inputs, str | Path | Molecule) else list(inputs)
    if not many:
        raise ValueError("input: expected at least one molecule, got none")
    return [each if isinstance(each, Molecule) else read_molecule(each) for each in many]


def run_paths(out: Path, molecules: Sequence[Molecule]) -> list[Path]:
    """Return the directory of each molecule: ``out``, or one of its name below for several.

    Raises
    ------
    ValueError
        If two have one name.
    """
    if len(molecules) == 1:
        return [out]
    names = [folder_name(molecule.name) for molecule in molecules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"input: expected molecules of different names, got {twice[0]!r} twice")
    return [out / name for name in names]


def folder_name(name: str) -> str:
    """Return a molecule's name with the characters that a path cannot hold replaced."""
    return "".join(c if c.isalnum() or c in "-_.=#@+()[]" else "_" for c in name)


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()
