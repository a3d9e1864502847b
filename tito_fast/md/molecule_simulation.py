"""One molecule's simulation: its start, its directory, its replicas, what came of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from tito_fast.data.molecule import Molecule
from tito_fast.data.run_directory import (
    json_bytes,
    molecule_fingerprint,
    molecule_of_run,
    read_run,
)
from tito_fast.data.validity import ValidityCounter
from tito_fast.data.writers.disk import replace_file
from tito_fast.md.checks import check_simulation
from tito_fast.md.config import SimulationConfig
from tito_fast.md.contexts import masses_amu, measured_speeds, minimized
from tito_fast.md.crew import Job
from tito_fast.md.directory import (
    CHECKS,
    SYSTEM_JSON,
    SYSTEM_XML,
    ReplicaState,
    SimulationDirectory,
    load_replica_state,
    read_system_json,
)
from tito_fast.md.energies import read_system
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.replica import ReplicaJob
from tito_fast.md.starts import read_start_samples, write_starts
from tito_fast.md.system import n_degrees_of_freedom, openmm_system

# Those of system.json that the frames decide.
_RESULTS: Final = (
    *("n_replicas", "n_frames", "length_ns", "mean_temperature_K", "mean_potential_energy"),
)


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
class MoleculeSimulation:
    """A molecule's directory while it is simulated. Made by :meth:`open`."""

    directory: SimulationDirectory
    system: Any
    config: SimulationConfig
    platform: str
    states: dict[int, ReplicaState] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Directory of the run."""
        return self.directory.path

    @classmethod
    def open(
        cls,
        path: Path,
        molecule: Molecule,
        config: SimulationConfig,
        *,
        overwrite: bool,
        on_prepare: Callable[[Molecule], None] | None,
    ) -> Self:
        """Create the simulation in ``path``, or take up the one that is there."""
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
        samples = None
        if config.init_from is not None:
            samples = read_start_samples(config.init_from, molecule)
            settings["init_from"] = samples.content_hash
            settings["n_minimization_steps"] = config.n_minimization_steps
        is_there = (path / SYSTEM_XML).is_file() and (path / "run.json").is_file()
        if is_there and not overwrite:
            recorded = read_run(path)["settings"]
            start = molecule_of_run(path)
            platform = recorded.get("platform") if config.platform == "auto" else config.platform
            found = _Start(start, None, str(platform), {})
        else:
            if on_prepare is not None:
                on_prepare(molecule)
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
            run = cls(directory, read_system(path), config, found.platform)
            if samples is not None:
                write_starts(path, samples, run.system, found.molecule, config)
            n_recorded = read_run(path)["n_replicas"]
            for replica in range(n_recorded):
                state = load_replica_state(path, replica)
                if state is not None:
                    run.states[replica] = state
        except BaseException:
            directory.close()
            raise
        return run

    def forget_results(self) -> None:
        """Remove from ``system.json`` what holds no longer while the files grow."""
        description = read_system_json(self.path)
        kept = {name: value for name, value in description.items() if name not in _RESULTS}
        if kept != description:
            replace_file(self.path / SYSTEM_JSON, json_bytes(kept))

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
        replace_file(self.path / CHECKS, json_bytes(checks))
        self.directory.save_validity(validity)
        n_frames = [self.states[r].n_measured for r in sorted(self.states)]
        results = {
            "n_replicas": len(n_frames),
            # What data convert compares the one file with.
            "n_frames": n_frames[0] if len(n_frames) == 1 else n_frames,
            "length_ns": 1e-3 * self.config.save_every_ps * max(max(n_frames) - 1, 0),
            "mean_temperature_K": checks["temperature"]["mean_k"],
            "mean_potential_energy": checks["energy"]["mean_kj_per_mol"],
        }
        description = {**read_system_json(self.path), **results}
        replace_file(self.path / SYSTEM_JSON, json_bytes(description))
        self.directory.set_status("finished" if not lost and checks["passed"] else "failed")
        return SimulationResult(
            path=self.path,
            molecule=molecule,
            n_frames=tuple(n_frames),
            lost_replicas=lost,
            checks=checks,
        )


@dataclass(frozen=True)
class _Start:
    """What a run starts from."""

    molecule: Molecule  # at its minimum
    system: Any  # None where it is written already
    platform: str
    speeds_ns_per_day: Mapping[str, float]


def _is_unprepared(path: Path) -> bool:
    if not (path / "run.json").is_file() or (path / SYSTEM_XML).is_file():
        return False
    return bool(read_run(path).get("kind") == SimulationDirectory.KIND)


def _prepare(molecule: Molecule, config: SimulationConfig) -> _Start:
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
    return _Start(start, system, platform, speeds)


def _write_system(path: Path, found: _Start, config: SimulationConfig) -> None:
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
    replace_file(path / SYSTEM_JSON, json_bytes(description))
    replace_file(path / SYSTEM_XML, openmm.XmlSerializer.serialize(system).encode())


def _read_system(path: Path) -> Any:  # noqa: ANN401  OpenMM is optional
    openmm = import_openmm()
    return openmm.XmlSerializer.deserialize((path / SYSTEM_XML).read_text("utf-8"))
