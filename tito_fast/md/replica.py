"""One replica: equilibrated, simulated, its frames written; taken up where it was."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np

from tito_fast.data.run_directory import molecule_of_run
from tito_fast.data.writers import FrameWriter, open_writer
from tito_fast.data.writers.base import MAX_POSITION_NM
from tito_fast.md.contexts import (
    GAS_CONSTANT_KJ_PER_MOL_K,
    centered,
    derived_seed,
    make_context,
    masses_amu,
)
from tito_fast.md.crew import Tell
from tito_fast.md.directory import (
    SYSTEM_XML,
    ReplicaState,
    load_replica_state,
    save_replica_state,
)
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.presets import Preset
from tito_fast.md.starts import start_positions
from tito_fast.md.system import n_degrees_of_freedom

SECONDS_BETWEEN_STATES: Final = 10.0
"""A kill loses at most this much work; writing the state costs milliseconds."""

_SECONDS_BETWEEN_MESSAGES: Final = 0.5
# So that an interrupt is seen soon; the steps are the same in pieces.
_STEPS_AT_ONCE: Final = 1000

# Purposes of seeds.
_VELOCITIES, _NOISE, _RESTART = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class ReplicaJob:
    """What a process needs to simulate a replica of the run in ``path``."""

    path: Path
    replica: int
    preset: Preset
    platform: str
    seed: int
    steps_per_frame: int
    n_frames: int  # the first at time zero not counted


@dataclass(frozen=True)
class ReplicaProgress:
    """How far a replica is."""

    path: Path
    replica: int
    n_frames: int  # the first at time zero not counted
    n_new_steps: int  # since the last message; of the equilibration too
    temperature_k: float | None  # mean so far


def simulate_replica(job: ReplicaJob, tell: Tell) -> ReplicaState:
    """Simulate until the replica has its frames, and return where it is then.

    A state is recorded every ten seconds, at the end, and when the process is asked to stop. A replica
    that becomes NaN is recorded as lost, with the frames that it had.

    Raises
    ------
    KeyboardInterrupt
        After SIGINT or SIGTERM, or when nobody listens any more; the state is recorded first.
    ValueError
        If the directory holds other data than a run's.
    """
    with _stop_requests() as stop:
        runner = _Runner(job, tell, stop)
        try:
            return runner.run()
        finally:
            runner.close()


class _Runner:
    """A replica with its context, its file and its sums."""

    def __init__(self, job: ReplicaJob, tell: Tell, stop: threading.Event) -> None:
        self._job, self._tell, self._stop = job, tell, stop
        self._openmm: Any = import_openmm()
        self._molecule = molecule_of_run(job.path)
        system = self._openmm.XmlSerializer.deserialize((job.path / SYSTEM_XML).read_text("utf-8"))
        self._n_dof = n_degrees_of_freedom(system)
        self._masses = masses_amu(system)
        self._seeds = (job.seed, self._molecule.noise_hash, job.replica)
        state = load_replica_state(job.path, job.replica)
        seed = derived_seed(*self._seeds, _NOISE)
        if state is not None and state.environment != _environment(job.platform):
            # Another noise than the first part's: its state is not to be had.
            seed = derived_seed(*self._seeds, _RESTART, state.step)
        self._context = make_context(system, job.preset, platform=job.platform, seed=seed)
        self._integrator = self._context.getIntegrator()
        self._n_untold = 0
        self._last_told = self._last_saved = time.monotonic()
        self._state = self._new_state() if state is None else state
        self._is_new = state is None
        self._writer: FrameWriter = open_writer(
            job.path / f"rep_{job.replica:04d}.xtc",
            format="xtc",
            molecule=self._molecule,
            token=self._state.token,
        )

    def run(self) -> ReplicaState:
        job = self._job
        if self._state.lost_at_frame >= 0:
            return self._state
        try:
            if self._is_new:
                self._equilibrate()
            else:
                self._restore()
            while self._step < job.n_frames * job.steps_per_frame:
                self._advance_to((self._step // job.steps_per_frame + 1) * job.steps_per_frame)
                self._add_frame()
                if time.monotonic() - self._last_saved >= SECONDS_BETWEEN_STATES:
                    self._save(sync=False)
        except self._openmm.OpenMMException as error:
            if "NaN" not in str(error):
                raise
            # The positions are lost; what was recorded last, and the frames since, stay.
            token = self._writer.flush(sync=True)
            self._state = replace(self._state, token=token, lost_at_frame=self._writer.n_frames)
            save_replica_state(job.path, job.replica, self._state)
            self._report(force=True)
            return self._state
        self._save(sync=True)
        self._report(force=True)
        return self._state

    def close(self) -> None:
        self._writer.close()

    @property
    def _step(self) -> int:
        return int(self._context.getStepCount())

    def _equilibrate(self) -> None:
        preset = self._job.preset
        start = start_positions(self._job.path, self._job.replica)
        self._context.setPositions(self._molecule.positions if start is None else start)
        self._context.setVelocitiesToTemperature(
            preset.temperature_k, derived_seed(*self._seeds, _VELOCITIES)
        )
        self._advance_to(preset.n_steps(preset.equilibration_ps, name="equilibration"))
        self._context.setStepCount(0)
        self._context.setTime(0.0)
        self._add_frame()
        self._save(sync=False)

    def _restore(self) -> None:
        state = self._state
        if state.environment == _environment(self._job.platform):
            self._context.loadCheckpoint(state.checkpoint.tobytes())
            return
        self._context.setPositions(state.positions)
        self._context.setVelocities(state.velocities)
        self._context.setStepCount(state.step)
        self._context.setTime(1e-3 * state.step * self._job.preset.step_fs)

    def _advance_to(self, step: int) -> None:
        while self._step < step:
            # Before the steps, not behind them: a state is of a step whose frame, if it has one, is written.
            if self._stop.is_set():
                self._stop_here()
            try:
                self._report()
            except KeyboardInterrupt:
                self._stop_here()
            n_steps = min(step - self._step, _STEPS_AT_ONCE)
            self._integrator.step(n_steps)
            self._n_untold += n_steps

    def _stop_here(self) -> None:
        # Before the first frame there is no state: the equilibration starts again.
        if self._writer.n_frames:
            self._save(sync=True)
        raise KeyboardInterrupt

    def _add_frame(self) -> None:
        unit = self._openmm.unit
        found = self._context.getState(positions=True, energy=True)
        positions = found.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        positions = centered(positions, self._masses)
        kinetic = found.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
        potential = found.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        # Also false for NaN; what is farther away than this no format can hold.
        if not (
            (np.abs(positions) < MAX_POSITION_NM).all() and np.isfinite([kinetic, potential]).all()
        ):
            raise self._openmm.OpenMMException(
                "Particle coordinate is NaN or has left for infinity."
            )
        temperature = 2.0 * kinetic / (self._n_dof * GAS_CONSTANT_KJ_PER_MOL_K)
        state, step = self._state, self._step
        time_ps = 1e-3 * step * self._job.preset.step_fs
        self._writer.append(positions[None], np.array([time_ps]))
        self._state = replace(
            state,
            n_measured=state.n_measured + 1,
            temperature_sum_k=state.temperature_sum_k + temperature,
            energy_sum_kj_per_mol=state.energy_sum_kj_per_mol + potential,
            minimum_temperature_k=min(state.minimum_temperature_k, temperature),
            maximum_temperature_k=max(state.maximum_temperature_k, temperature),
        )

    def _save(self, *, sync: bool) -> None:
        unit = self._openmm.unit
        found = self._context.getState(positions=True, velocities=True)
        velocities = found.getVelocities(asNumpy=True)
        self._state = replace(
            self._state,
            step=self._step,
            token=self._writer.flush(sync=sync),
            positions=found.getPositions(asNumpy=True).value_in_unit(unit.nanometer),
            velocities=velocities.value_in_unit(unit.nanometer / unit.picosecond),
            checkpoint=np.frombuffer(self._context.createCheckpoint(), dtype=np.uint8),
            environment=_environment(self._job.platform),
        )
        save_replica_state(self._job.path, self._job.replica, self._state)
        self._last_saved = time.monotonic()

    def _report(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last_told < _SECONDS_BETWEEN_MESSAGES:
            return
        n_new, self._n_untold, self._last_told = self._n_untold, 0, now
        n_frames = max(self._writer.n_frames - 1, 0)
        mean = self._state.mean_temperature_k
        self._tell(ReplicaProgress(self._job.path, self._job.replica, n_frames, n_new, mean))

    def _new_state(self) -> ReplicaState:
        shape = (self._molecule.n_atoms, 3)
        return ReplicaState(
            step=0,
            token=0,
            positions=self._molecule.positions,
            velocities=np.zeros(shape),
            checkpoint=np.zeros(0, np.uint8),
            environment=_environment(self._job.platform),
        )


@lru_cache
def _environment(platform: str) -> str:
    """Return what a checkpoint is only good for."""
    openmm = import_openmm()
    return f"OpenMM {openmm.version.version}, {platform}"


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set, in place of ending the process at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
