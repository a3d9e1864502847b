"""Where each replica of a rollout is: all that the next step follows from."""

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import IntArray

_ARRAYS = ("n_steps_done", "positions", "written_positions", "tokens", "lost_at_step")


@dataclass(frozen=True, eq=False, kw_only=True)
class RolloutState:
    """The state of all replicas at one moment.

    Parameters
    ----------
    n_steps_done : ndarray, shape (n_replicas,), int64
    positions : ndarray, shape (n_replicas, n_atoms, 3), float32 or float64
        What the next step starts from, not aligned; unit as the caller keeps it.
    written_positions : ndarray, shape (n_replicas, n_atoms, 3), float32 or float64
        The last frame as it was written, on which the next one is superposed; also where it was left out.
    tokens : ndarray, shape (n_replicas,), int64
        What the writers' ``flush`` returned; 0 for a replica without a file yet.
    lost_at_step : ndarray, shape (n_replicas,), int64
        Step at which a replica became NaN or infinite; -1 where it did not.
    validity : dict
        ``ValidityCounter.to_dict`` of the frames sampled; empty if none.
    """

    n_steps_done: IntArray
    positions: NDArray[np.floating]
    written_positions: NDArray[np.floating]
    tokens: IntArray
    lost_at_step: IntArray
    validity: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes, so that a damaged state is not taken up."""
        shape = self.positions.shape
        if len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"positions: expected shape (n_replicas, n_atoms, 3), got {shape}")
        if self.written_positions.shape != shape:
            raise ValueError(
                f"written_positions: expected shape {shape}, got {self.written_positions.shape}"
            )
        for name in ("n_steps_done", "tokens", "lost_at_step"):
            values = getattr(self, name)
            if values.shape != shape[:1]:
                raise ValueError(f"{name}: expected shape {shape[:1]}, got {values.shape}")
            if values.dtype != np.int64:
                raise TypeError(f"{name}: expected dtype int64, got {values.dtype}")

    @classmethod
    def at_start(cls, positions: NDArray[np.floating]) -> Self:
        """Return the state of replicas that start at ``positions`` (n_replicas, n_atoms, 3)."""
        n_replicas = positions.shape[0]
        return cls(
            n_steps_done=np.zeros(n_replicas, dtype=np.int64),
            positions=positions.copy(),
            written_positions=positions.copy(),
            tokens=np.zeros(n_replicas, dtype=np.int64),
            lost_at_step=np.full(n_replicas, -1, dtype=np.int64),
        )

    def extended(self, positions: NDArray[np.floating]) -> Self:
        """Return the state with further replicas that start at ``positions`` (n, n_atoms, 3)."""
        more = type(self).at_start(positions.astype(self.positions.dtype))
        arrays = {
            name: np.concatenate([getattr(self, name), getattr(more, name)]) for name in _ARRAYS
        }
        return type(self)(**arrays, validity=self.validity)

    def to_bytes(self) -> bytes:
        """Return the content of ``state.npz``."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez(buffer, **arrays, validity=np.array(json.dumps(self.validity)))
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
                arrays = {name: file[name] for name in _ARRAYS}
                return cls(**arrays, validity=json.loads(str(file["validity"])))
        except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{source}: expected the state of a rollout, got other data ({error}); "
                "pass --overwrite to start again, or choose another --out"
            ) from error
