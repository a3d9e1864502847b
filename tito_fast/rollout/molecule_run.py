"""The replicas of one molecule: their states, their files, what went wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from tito_fast._extension import build_info
from tito_fast.data.frame_flags import FlagWriter, frame_flags
from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.run_directory import cumulative_times_ps
from tito_fast.data.validity import ValidityCounter
from tito_fast.data.writers import FrameWriter
from tito_fast.data.writers.base import MAX_POSITION_NM
from tito_fast.models.checkpoint import model_hash
from tito_fast.models.tito.model import TitoModel
from tito_fast.precision import forward_precision
from tito_fast.rollout.chunk import flow_settings, n_ode_steps_of, solver_of
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.rollout_directory import RolloutDirectory
from tito_fast.rollout.run_state import RolloutState
from tito_fast.rollout.superpose import superpose

NOT_LOST = -1


@dataclass(frozen=True)
class StepFrames:
    """Frames of several replicas after one step, numbered from 1."""

    step: int
    replicas: IntArray
    scaled_positions: FloatArray  # (n_replicas * n_atoms, 3)


class MoleculeRun:
    """One molecule's rollout. Made by :meth:`open`; one thread at a time adds frames.

    Parameters
    ----------
    directory : RolloutDirectory
    state : RolloutState
        Its ``positions`` are in model units, as float64, which holds either dtype exactly.
    config : RolloutConfig
    length_unit_nm : float
    """

    def __init__(
        self,
        directory: RolloutDirectory,
        state: RolloutState,
        config: RolloutConfig,
        *,
        length_unit_nm: float,
    ) -> None:
        self._directory, self._config, self._unit = directory, config, length_unit_nm
        self._state = state
        self._times_ps = cumulative_times_ps(config.lag_times_ps, config.n_rollout_steps)
        self._writers: dict[int, FrameWriter] = {}
        self._flag_writers: dict[int, FlagWriter] = {}
        self._mask = np.uint8(sum(config.flag_bits.values()))
        molecule = directory.molecule
        self._validity = (
            ValidityCounter.from_dict(molecule, state.validity)
            if state.validity
            else ValidityCounter(molecule)
        )

    @classmethod
    def open(
        cls,
        path: Path,
        molecule: Molecule,
        model: TitoModel,
        config: RolloutConfig,
        *,
        starts: FloatArray,
        overwrite: bool,
    ) -> Self:
        """Create the run in ``path``, or take up the one that is there.

        Parameters
        ----------
        starts : ndarray, shape (n_starts, n_atoms, 3)
            In nm; replica ``r`` starts from ``starts[r % n_starts]``.
        """
        directory = RolloutDirectory.open(
            path,
            run_settings(model, config, starts),
            molecule=molecule,
            n_steps=config.n_rollout_steps,
            n_replicas=config.n_replicas,
            overwrite=overwrite,
        )
        unit = model.info.length_unit_nm
        # In the model's dtype from the start, so that a chunk and its resumption start from the same bytes.
        scaled = torch.as_tensor(starts / unit).to(model.dtype).double().cpu().numpy()
        state = directory.load_state()
        n_known = 0 if state is None else len(state.n_steps_done)
        new = scaled[np.arange(n_known, config.n_replicas) % len(scaled)]
        if state is None:
            state = RolloutState.at_start(new)
        elif len(new):
            state = state.extended(new)
        return cls(directory, state, config, length_unit_nm=unit)

    @property
    def path(self) -> Path:
        """Directory of the run."""
        return self._directory.path

    @property
    def molecule(self) -> Molecule:
        """What is sampled."""
        return self._directory.molecule

    @property
    def n_steps_done(self) -> IntArray:
        """Steps that each replica has taken."""
        return self._state.n_steps_done

    @property
    def lost(self) -> dict[int, int]:
        """Replicas that became NaN or infinite, with the step at which they did."""
        found = np.flatnonzero(self._state.lost_at_step != NOT_LOST)
        return {int(replica): int(self._state.lost_at_step[replica]) for replica in found}

    def unfinished(self) -> dict[int, list[int]]:
        """Return the replicas that have steps to take, by the number of steps they have taken."""
        groups: dict[int, list[int]] = {}
        for replica in range(self._config.n_replicas):
            step = int(self._state.n_steps_done[replica])
            if step < self._config.n_rollout_steps and replica not in self.lost:
                groups.setdefault(step, []).append(replica)
        return groups

    def scaled_positions(self, replica: int) -> FloatArray:
        """Return where a replica is, (n_atoms, 3), model units."""
        return np.asarray(self._state.positions[replica], dtype=np.float64)

    def add(self, frames: StepFrames) -> None:
        """Superpose, check and write the frames of one step.

        Whether a frame is written changes neither what the next step starts from nor what the next frame is
        superposed on.
        """
        state, n_atoms = self._state, self.molecule.n_atoms
        scaled = frames.scaled_positions.reshape(-1, n_atoms, 3)
        # Also false for NaN; what is farther away than this no format can hold.
        is_sound = (np.abs(scaled * self._unit) < MAX_POSITION_NM).all(axis=(1, 2))
        was_sound = state.lost_at_step[frames.replicas] == NOT_LOST
        kept, newly_lost = is_sound & was_sound, frames.replicas[~is_sound & was_sound]
        state.lost_at_step[newly_lost] = frames.step
        self._validity.update(newly_lost, np.full((len(newly_lost), n_atoms, 3), np.nan))
        replicas, scaled = frames.replicas[kept], scaled[kept]
        if frames.step == 1:
            self._write_starts(replicas)
        positions = scaled * self._unit
        if self._config.align:
            before = torch.from_numpy(state.written_positions[replicas])
            positions = superpose(torch.from_numpy(positions), before).numpy()
        flags = self._validity.update(replicas, positions) & self._mask
        time_ps = self._times_ps[frames.step : frames.step + 1]
        for replica, frame, flag in zip(replicas.tolist(), positions, flags.tolist(), strict=True):
            if self._config.check != "drop" or not flag:
                self._writer(replica).append(frame[None], time_ps)
            if self._config.check != "off":
                self._flag_writer(replica).append(flag)
        state.positions[replicas] = scaled
        state.written_positions[replicas] = positions
        state.n_steps_done[replicas] = frames.step

    def checkpoint(self, *, sync: bool) -> None:
        """Write what is buffered, then record the state that it belongs to.

        A kill of the process loses nothing either way; ``sync`` also outlives a loss of power, for
        milliseconds a file.
        """
        for replica, writer in self._writers.items():
            self._state.tokens[replica] = writer.flush(sync=sync)
        for flag_writer in self._flag_writers.values():
            flag_writer.flush(sync=sync)
        self._state = replace(self._state, validity=self._validity.to_dict())
        self._directory.save_state(self._state)

    def log(self, row: Mapping[str, object]) -> None:
        """Add a line to ``log.csv``."""
        self._directory.append_log(row)

    def finish(self) -> dict[str, Any]:
        """Write ``validity.json`` and the status; return the validity."""
        validity = self._validity.result()
        if self._config.check != "off":
            validity["check"] = self._checked()
        self._directory.save_validity(validity)
        self._directory.set_status("failed" if self.lost else "finished")
        return validity

    def close_files(self) -> None:
        """Close the files that are open, once they are in a checkpoint."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self._flag_writers.clear()

    def close(self) -> None:
        """Let other processes have the directory."""
        self._directory.close()

    def interrupted(self) -> None:
        """Record that the run stopped before its end."""
        self._directory.set_status("interrupted")

    def _write_starts(self, replicas: IntArray) -> None:
        """Write frame 0, as it was given."""
        starts = self._state.positions[replicas] * self._unit
        self._state.written_positions[replicas] = starts
        for replica, frame in zip(replicas.tolist(), starts, strict=True):
            self._writer(replica).append(frame[None], self._times_ps[:1])
            if self._config.check != "off":
                # Given, not sampled, and not counted either.
                self._flag_writer(replica).append(0)

    def _writer(self, replica: int) -> FrameWriter:
        if replica not in self._writers:
            token = int(self._state.tokens[replica])
            self._writers[replica] = self._directory.open_writer(replica, token=token)
        return self._writers[replica]

    def _flag_writer(self, replica: int) -> FlagWriter:
        if replica not in self._flag_writers:
            self._flag_writers[replica] = self._directory.open_flags(
                replica, n_steps_done=int(self._state.n_steps_done[replica])
            )
        return self._flag_writers[replica]

    def _checked(self) -> dict[str, Any]:
        """Return how many frames are unsound, by replica; counted in the files, which no state need repeat."""
        bits = self._config.flag_bits
        replicas = []
        for replica, n_steps in enumerate(self._state.n_steps_done.tolist()):
            flags = np.zeros(0, dtype=np.uint8)
            if n_steps:
                flags = frame_flags(self.path, replica)[1 : n_steps + 1]
            replicas.append(
                {
                    "frames": len(flags),
                    "unsound_frames": int(np.count_nonzero(flags)),
                    **{name: int(np.count_nonzero(flags & bit)) for name, bit in bits.items()},
                }
            )
        names = ("frames", "unsound_frames", *bits)
        totals = {name: sum(counts[name] for counts in replicas) for name in names}
        return {
            "mode": self._config.check,
            "flag_bits": bits,
            "all": totals,
            "replicas": replicas,
        }


def run_settings(
    model: TitoModel, config: RolloutConfig, starts: NDArray[np.float64]
) -> dict[str, Any]:
    """Return all that the trajectories follow from, and what may change, as JSON keeps it."""
    flow = flow_settings(model, config)
    with forward_precision(config.precision, model.device), torch.no_grad():
        backend = model.resolve_backend(config.backend)
    return {
        "model_hash": model_hash(model),
        "lag_times_ps": list(config.lag_times_ps),
        "n_ode_steps": n_ode_steps_of(model, config),
        "solver": solver_of(model, config),
        "seed": config.seed,
        "temperature_k": config.temperature_k,
        "base_std": flow.base_std,
        "vector_start": flow.vector_start,
        "precision": config.precision,
        "backend": backend,
        "instruction_set": str(build_info()["isa"]) if backend == "native" else None,
        "format": config.format,
        "align": config.align,
        "check": config.check,
        **(
            {"interpolation_times_ps": list(config.interpolation_times_ps)}
            if config.interpolation_times_ps
            else {}
        ),
        **({"check_criteria": config.flag_bits} if config.check != "off" else {}),
        "starts": blake2b(
            np.ascontiguousarray(starts, dtype="<f8").tobytes(), digest_size=8
        ).hexdigest(),
        "device": config.device,
        "devices": config.devices,
        "n_threads": config.n_threads,
        "batch_size": config.batch_size,
    }
