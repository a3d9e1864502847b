"""From a file to verdicts: finds the format, and the checkpoint that goes with a recording."""

from dataclasses import dataclass
from pathlib import Path

import torch

from tito_fast.testing.golden.comparison import Line
from tito_fast.testing.golden.parts import replay_parts
from tito_fast.testing.golden.recording import (
    DTYPES,
    NotARecordingError,
    ReplaySettings,
    Section,
    open_recording,
)
from tito_fast.testing.golden.sampling import replay_sampling
from tito_fast.testing.golden.training import replay_training
from tito_fast.testing.golden.velocity import replay_velocity
from tito_fast.types import BACKENDS, Backend
from tito_fast.validation import check_choice

_FORMATS = tuple(f"tito-golden-{kind}-1" for kind in ("velocity", "train", "sample", "parts"))


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What came of one file.

    Parameters
    ----------
    path : Path
        The recording; for a checkpoint the one beside it that names it.
    format : str
    lines : tuple of Line
        One per quantity.
    """

    path: Path
    format: str
    lines: tuple[Line, ...]
    note: str = ""

    @property
    def n_compared(self) -> int:
        """Number of quantities that were compared."""
        return sum(line.is_compared for line in self.lines)

    @property
    def n_failed(self) -> int:
        """Number of quantities whose error is above the tolerance."""
        return sum(line.is_failed for line in self.lines)

    @property
    def is_ok(self) -> bool:
        """Whether something was compared and nothing failed."""
        return self.n_compared > 0 and self.n_failed == 0


def replay(
    path: str | Path,
    *,
    backend: Backend = "reference",
    dtype: str | None = None,
    device: torch.device | str = "cpu",
) -> Replay:
    """Run what ``path`` records through a backend, and compare.

    Parameters
    ----------
    path : str or Path
        A recording of format ``tito-golden-velocity-1``, ``-train-1``, ``-sample-1`` or ``-parts-1``,
        or a Lightning checkpoint with a recording ``*_expected.pt`` beside it that names it under
        ``checkpoint_file``.
    backend : Backend
        ``reference`` compares everything that is recorded, another what it computes.
    dtype : {"float32", "float64"} or None
        None: all that are recorded; float32 for ``triton`` on CUDA. In float64 the float32 weights
        and inputs are upcast.
    device : torch.device or str

    Returns
    -------
    Replay

    Raises
    ------
    FileNotFoundError
        If the file, or the checkpoint that it names, is not there.
    ValueError
        If the file is damaged, of another format, incomplete, or does not hold ``dtype``.
    BackendUnavailableError
        If the backend cannot run the network here.
    """
    check_choice("backend", backend, BACKENDS)
    if dtype is not None:
        check_choice("dtype", dtype, DTYPES)
    here, note = _device(device), ""
    if dtype is None and backend == "triton" and here.type == "cuda":
        dtype, note = "float32", "float32 only: the Triton kernels have no float64 on CUDA"
    settings = ReplaySettings(
        backend=backend, dtypes=() if dtype is None else (dtype,), device=here
    )
    found, recording = _find(Path(path))
    name = str(recording.raw("format"))
    try:
        lines = _replay(name, found, recording, settings)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{found}: {error}") from error
    return Replay(path=found, format=name, lines=tuple(lines), note=note)


def _replay(name: str, path: Path, recording: Section, settings: ReplaySettings) -> list[Line]:
    check_choice("format", name, _FORMATS)
    if name == "tito-golden-train-1":
        return replay_training(recording, settings)
    if name == "tito-golden-sample-1":
        return replay_sampling(recording, settings)
    if name == "tito-golden-parts-1":
        return replay_parts(recording, settings)
    checkpoint = None
    if "checkpoint_file" in recording:
        checkpoint = path.with_name(Path(str(recording.raw("checkpoint_file"))).name)
    return replay_velocity(recording, settings, checkpoint=checkpoint)


def _find(path: Path) -> tuple[Path, Section]:
    """Return the recording in ``path``, or the one beside it that names it as its checkpoint."""
    try:
        return path, open_recording(path)
    except NotARecordingError:
        for beside in sorted(path.parent.glob("*_expected.pt")):
            try:
                recording = open_recording(beside)
            except NotARecordingError:
                continue
            if "checkpoint_file" in recording and recording.raw("checkpoint_file") == path.name:
                return beside, recording
        raise


def _device(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device: expected cpu, cuda or cuda:i, got {device!r}") from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu, cuda or cuda:i, got {device!r}")
    n_devices = torch.cuda.device_count()
    if found.type == "cuda" and (found.index or 0) >= n_devices:
        raise ValueError(f"device: expected one of {n_devices} CUDA devices, got {device!r}")
    return found
