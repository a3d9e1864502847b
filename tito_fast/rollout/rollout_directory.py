"""The directory of a rollout: a run's, with the state of all replicas."""

from collections.abc import Mapping
from typing import Any, ClassVar

from tito_fast.data.frame_flags import FlagWriter, flags_path
from tito_fast.data.run_directory import ADVICE, RunDirectory
from tito_fast.data.writers.disk import replace_file
from tito_fast.rollout.run_state import RolloutState

_STATE = "state.npz"


class RolloutDirectory(RunDirectory):
    """A rollout on disk; ``state.npz`` says where each replica is, and how long its file then was."""

    KIND: ClassVar[str] = "rollout"
    CHANGEABLE_SETTINGS: ClassVar[frozenset[str]] = frozenset(
        {"batch_size", "device", "devices", "instruction_set", "n_threads", "threads"}
    )
    EARLIER_SETTINGS: ClassVar[Mapping[str, Any]] = {"check": "off"}
    OWN_FILES: ClassVar[tuple[str, ...]] = (_STATE, "rep_*.flags")

    def open_flags(self, replica: int, *, n_steps_done: int) -> FlagWriter:
        """Return the writer of the flags of ``replica``, whose file is cut to the steps that a state counts."""
        n_frames = n_steps_done + 1 if n_steps_done else 0
        return FlagWriter(flags_path(self.path, replica), n_frames=n_frames)

    def load_state(self) -> RolloutState | None:
        """Return the state recorded last, or None if there is none yet.

        Raises
        ------
        ValueError
            If the file is not a state of this molecule.
        """
        path = self.path / _STATE
        if not path.is_file():
            return None
        state = RolloutState.from_bytes(path.read_bytes(), source=path)
        if state.positions.shape[1] != self.molecule.n_atoms:
            raise ValueError(
                f"{path}: expected the state of {self.molecule.n_atoms} atoms, got "
                f"{state.positions.shape[1]}; {ADVICE}"
            )
        return state

    def save_state(self, state: RolloutState) -> None:
        """Record ``state``, whose tokens must come from writers that were flushed; whole or not at all.

        Raises
        ------
        ValueError
            If it is of another number of atoms.
        OSError
            If it cannot be written; the state before it stays.
        """
        if state.positions.shape[1] != self.molecule.n_atoms:
            raise ValueError(
                f"state: expected {self.molecule.n_atoms} atoms, got {state.positions.shape[1]}"
            )
        replace_file(self.path / _STATE, state.to_bytes())
