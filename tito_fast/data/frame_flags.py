"""Which frames of a run are unsound: a file of flags beside each trajectory, one byte a frame.

``rep_0000.flags`` has the byte of each frame of replica 0 in the order of time, the start first: 0 for a sound
frame, else the sum of the bits that ``check_criteria`` in the settings of ``run.json`` names. The start was given,
not sampled: its byte is 0. Frames that a run dropped have their bytes too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray
from tito_fast.data.run_directory import cumulative_times_ps, read_run
from tito_fast.data.writers.disk import AppendFile


class FlagWriter:
    """Appends flags to a file; they reach it when flushed.

    Parameters
    ----------
    path : Path
    n_frames : int
        Frames that the run's state counts, the start included: what the file has of later ones is cut off.

    Raises
    ------
    ValueError
        If the file has fewer.
    """

    def __init__(self, path: Path, *, n_frames: int) -> None:
        self._file = AppendFile(path, token=n_frames)
        self._pending = bytearray()

    def append(self, flag: int) -> None:
        """Add the flag of the next frame."""
        self._pending.append(flag)

    def flush(self, *, sync: bool) -> None:
        """Write what is buffered; ``sync`` also waits until the disk has it.

        Raises
        ------
        OSError
            If the file cannot be written; it is then as before.
        """
        data = bytes(self._pending)
        # Forgotten before writing: after a failure the run resumes from its state.
        self._pending.clear()
        if data or sync:
            self._file.append(data, sync=sync)


def flags_path(run: Path | str, replica: int) -> Path:
    """Return the file of the flags of ``replica``."""
    return Path(run) / f"rep_{replica:04d}.flags"


def frame_flags(run: Path | str, replica: int) -> NDArray[np.uint8]:
    """Return the flag of each frame that was sampled of ``replica``, the start first.

    Parameters
    ----------
    run : path
        Directory of a run that was sampled with the check ``mark`` or ``drop``.
    replica : int

    Returns
    -------
    ndarray, shape (n_frames,), uint8
        0 for a sound frame. With ``mark`` of every frame in the trajectory; with ``drop`` the trajectory
        has those with 0. Of a run that was killed, the trajectory may have more frames, or fewer, until it is resumed.

    Raises
    ------
    ValueError
        If the run has no flags.
    OSError
        If they cannot be read.
    """
    path = flags_path(run, replica)
    if not path.is_file():
        if read_run(run)["settings"].get("check", "off") == "off":
            raise ValueError(
                f"run: expected one sampled with --check mark or drop, got {str(run)!r} without flags"
            )
        raise FileNotFoundError(f"{path}: expected the flags of replica {replica}, got no file")
    return np.fromfile(path, dtype=np.uint8)


def replica_times_ps(
    run: Path | str, replica: int, *, record: Mapping[str, Any] | None = None
) -> FloatArray:
    """Return the exact times of the frames in the trajectory of ``replica``, (n_frames,), float64.

    Those of ``run.json``, without the times of frames that the run dropped. Where a replica was lost, or a
    run stopped, the trajectory has the first ones only.

    Parameters
    ----------
    run : path
    replica : int
    record : mapping, optional
        What :func:`read_run` returned, so that many replicas do not read it again.

    Raises
    ------
    ValueError
        If ``run`` is not a run.
    OSError
        If its flags cannot be read.
    """
    record = read_run(run) if record is None else record
    settings = record["settings"]
    times_ps = cumulative_times_ps(settings["lag_times_ps"], int(record["n_steps"]))
    if settings.get("check") != "drop":
        return times_ps
    flags = frame_flags(run, replica)
    n_frames = min(len(flags), len(times_ps))
    return np.asarray(times_ps[:n_frames][flags[:n_frames] == 0])
