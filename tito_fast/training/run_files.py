"""The directory of a training run: settings, log, state to resume from, models."""

import csv
import errno
import fcntl
import io
import json
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import yaml

from tito_fast.models.load import save_model
from tito_fast.models.tito.model import TitoModel
from tito_fast.training.config import TrainingConfig, read_yaml_mapping

# Settings that a resumed run may change: they do not contradict what was trained so far.
_MAY_CHANGE = (
    "out",
    "n_steps",
    "backend",
    "device",
    "devices",
    "n_nodes",
    "log_every",
    "validate_every",
    "checkpoint_every",
    "tensorboard",
    "data.store",
    "data.on_device",
    "optimizer.learning_rate",
    "optimizer.gradient_clip",
)

_SETTINGS = "config.yaml"
_LOG = "log.csv"
_STATE = "state.pt"
_LOCK = ".lock"
_STATE_VERSION = 2


class LogRow(NamedTuple):
    """One line of ``log.csv``."""

    step: int
    train_loss: float
    validation_loss: float | None
    learning_rate: float
    gradient_norm: float
    samples_per_s: float


_HEAD = ",".join(LogRow._fields)


@dataclass(frozen=True, kw_only=True)
class RunState:
    """All that the next step follows from, apart from the settings and the data.

    Parameters
    ----------
    network, optimizer, average : dict
        Their ``state_dict``.
    step : int
        Steps taken.
    best : float or None
        Lowest validation loss so far; None where it was measured on other pairs.
    train_loss, validation_loss : float or None
        The last ones.
    info : dict or None
        ``ModelInfo.to_dict``; a state of version 1 has none.
    """

    network: dict[str, Any]
    optimizer: dict[str, Any]
    average: dict[str, Any]
    step: int
    best: float | None
    train_loss: float | None = None
    validation_loss: float | None = None
    info: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what is written to ``state.pt``."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {"format_version": _STATE_VERSION, **own}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the state that ``to_dict`` described, in this version or an earlier one."""
        version = values.get("format_version", 1)
        if version > _STATE_VERSION:
            raise ValueError(f"expected format_version up to {_STATE_VERSION}, got {version}")
        own = {name: value for name, value in values.items() if name != "format_version"}
        if version == 1:
            # Its validation noise came from another generator, so its losses compare with none here.
            own["best"] = None
        return cls(**own)


class RunFiles:
    """Reads and writes the files of one run; every file is replaced whole or appended to by lines.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved_step: int | None = None
        self._lock: int | None = None

    @classmethod
    def open(cls, path: Path, config: TrainingConfig, *, overwrite: bool, note: str = "") -> Self:
        """Create the run, or take up the one that is there; hold it until ``close``.

        Parameters
        ----------
        path : Path
        config : TrainingConfig
        overwrite : bool
            Remove the run that is there.
        note : str
            One line for people at the top of ``config.yaml``: what the machine made of the settings.

        Raises
        ------
        ValueError
            If ``path`` holds something else, or a run with other settings.
        RuntimeError
            If another process works on this run.
        OSError
            If the directory cannot be written.
        """
        if path.exists() and not path.is_dir():
            raise ValueError(f"out: expected a directory, got the file {path}")
        # A run that was killed at its very start has left no more than these two.
        ours = (_LOCK, f"{_SETTINGS}.new")
        others = [p.name for p in path.iterdir() if p.name not in ours] if path.is_dir() else []
        if others and _SETTINGS not in others:
            raise ValueError(
                f"out: expected an empty directory or a training run, got {path} with {others[0]}"
            )
        files = cls(path)
        with files._writing(path):
            path.mkdir(parents=True, exist_ok=True)
            files._hold()
        try:
            files._sort(config, overwrite=overwrite, note=note)
        except BaseException:
            files.close()
            raise
        return files

    def close(self) -> None:
        """Let another process work on the run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def model_path(self, name: str) -> Path:
        """Return the path of the model ``best`` or ``last``."""
        return self.path / f"{name}.safetensors"

    def save_model(self, name: str, model: TitoModel) -> None:
        """Write a model with everything that a user of it needs."""
        with self._writing(self.model_path(name)):
            save_model(model, self.model_path(name))

    def save_state(self, state: RunState) -> None:
        """Write the state to resume from; the old one stays until the new one is whole."""
        # Through memory: torch.save to a path hides a full disk behind an internal error.
        buffer = io.BytesIO()
        torch.save(state.to_dict(), buffer)
        with self._writing(self.path / _STATE):
            _replace(self.path / _STATE, buffer.getvalue())
        self.saved_step = state.step

    def load_state(self, *, device: torch.device) -> RunState | None:
        """Return the saved state, or None if there is none.

        Raises
        ------
        ValueError
            If the file is damaged or not ours.
        """
        path = self.path / _STATE
        if not path.is_file():
            return None
        try:
            values = torch.load(path, map_location=device, weights_only=True)
            state = RunState.from_dict(dict(values))
        except (RuntimeError, pickle.UnpicklingError, EOFError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{path}: expected the state of a training run, got a damaged or foreign file "
                f"({reason}); start afresh with overwrite, or from last.safetensors with init_from"
            ) from error
        self.saved_step = state.step
        return state

    def log(self, row: LogRow) -> None:
        """Append a line to ``log.csv``."""
        path = self.path / _LOG
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not path.is_file() or path.stat().st_size == 0:
            text.write(f"{_HEAD}\n")
        writer.writerow(["" if value is None else value for value in row])
        with self._writing(path), path.open("a", newline="") as file:
            file.write(text.getvalue())

    def cut_log(self, last_step: int) -> None:
        """Drop lines after ``last_step``: a killed run logged steps that will be taken again."""
        path = self.path / _LOG
        if not path.is_file():
            return
        lines = path.read_text().splitlines()
        kept = [line for line in lines if _is_whole(line) and int(line.split(",")[0]) <= last_step]
        with self._writing(path):
            _replace(path, "".join(f"{line}\n" for line in [_HEAD, *kept]).encode())

    def kept(self) -> str:
        """Return a clause that says what a run that stops now has kept."""
        if self.saved_step is None:
            return "nothing was saved yet"
        return f"the last good state, of step {self.saved_step}, is kept in {self.path}"

    def _sort(self, config: TrainingConfig, *, overwrite: bool, note: str) -> None:
        """Check the run against ``config``, or remove it; write ``config`` down."""
        settings = self.path / _SETTINGS
        if overwrite:
            for name in (_STATE, _LOG, "last.safetensors", "best.safetensors"):
                (self.path / name).unlink(missing_ok=True)
            for events in self.path.glob("events.out.tfevents.*"):
                events.unlink()
        elif (self.path / _STATE).is_file():
            self._check_same(config, TrainingConfig.from_dict(read_yaml_mapping(settings)))
        with self._writing(settings):
            text = yaml.safe_dump(config.to_dict(), sort_keys=False)
            _replace(settings, f"# {note}\n{text}".encode() if note else text.encode())

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Turn an error of the file system into one sentence that says what is kept."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f"{path}: cannot be written: {error.strerror or error}; {self.kept()}; "
                "make room or set another out, and run the same command again"
            ) from error

    def _hold(self) -> None:
        """Lock the run; the lock goes with the process, however that ends."""
        lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(lock)
                raise RuntimeError(
                    f"out: expected a run that nothing works on, got {self.path}, which another "
                    "process trains now; wait for it, stop it, or set another out"
                ) from error
            warnings.warn(
                f"out: {self.path} is on a file system without locks; take care that only one "
                "process trains there",
                stacklevel=4,
            )
        self._lock = lock

    def _check_same(self, new: TrainingConfig, old: TrainingConfig) -> None:
        was, now = _flat(old.to_dict()), _flat(new.to_dict())
        for name in was:
            if name not in _MAY_CHANGE and was[name] != now[name]:
                raise ValueError(
                    f"{name}: expected {json.dumps(was[name])}, as the run in {self.path} has it, "
                    f"got {json.dumps(now[name])}; set another out, or overwrite"
                )


def _is_whole(line: str) -> bool:
    cells = line.split(",")
    return len(cells) == len(LogRow._fields) and cells[0].isdecimal()


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
