"""The directory of a training run: settings, log, state to resume from, models."""

import csv
import json
import os
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import yaml

from tito_fast.models.load import save_model
from tito_fast.models.tito.model import TitoModel
from tito_fast.training.config import TrainingConfig

# Settings that a resumed run may change: they do not touch what was trained so far.
_MAY_CHANGE = ("out", "n_steps", "device", "log_every", "checkpoint_every", "data.store")


class LogRow(NamedTuple):
    """One line of ``log.csv``."""

    step: int
    train_loss: float
    validation_loss: float | None
    learning_rate: float
    gradient_norm: float
    samples_per_s: float


class RunFiles:
    """Reads and writes the files of one run; every file is replaced whole or appended to by lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, config: TrainingConfig, *, overwrite: bool) -> Self:
        """Create the run, or take up the one that is there.

        Raises
        ------
        ValueError
            If ``path`` is empty text, holds something else, or a run with other settings.
        """
        if str(path) in ("", "."):
            raise ValueError("out: expected a directory for the run, got none; set out: in the config")
        files = cls(path)
        settings = path / "config.yaml"
        if settings.is_file() and not overwrite:
            files._check_same(config, TrainingConfig.from_dict(yaml.safe_load(settings.read_text())))
        elif path.is_dir() and any(path.iterdir()) and not settings.is_file():
            raise ValueError(f"out: expected an empty directory or a training run, got {path} with other files")
        elif path.exists() and not path.is_dir():
            raise ValueError(f"out: expected a directory, got the file {path}")
        path.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for name in ("state.pt", "log.csv", "last.safetensors", "best.safetensors"):
                (path / name).unlink(missing_ok=True)
        _replace(settings, yaml.safe_dump(config.to_dict(), sort_keys=False).encode())
        return files

    def model_path(self, name: str) -> Path:
        """Return the path of the model ``best`` or ``last``."""
        return self.path / f"{name}.safetensors"

    def save_model(self, name: str, model: TitoModel) -> None:
        """Write a model with everything that a user of it needs."""
        save_model(model, self.model_path(name))

    def save_state(self, state: dict[str, Any]) -> None:
        """Write the state to resume from; the old one stays until the new one is whole."""
        temporary = self.path / "state.pt.new"
        torch.save(state, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.path / "state.pt")

    def load_state(self, *, device: torch.device) -> dict[str, Any] | None:
        """Return the saved state, or None; cut the log back to it."""
        path = self.path / "state.pt"
        if not path.is_file():
            self._cut_log(0)
            return None
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        self._cut_log(state["step"])
        return state

    def log(self, row: LogRow) -> None:
        """Append a line to ``log.csv``."""
        path = self.path / "log.csv"
        is_new = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(LogRow._fields)
            writer.writerow(["" if value is None else value for value in row])

    def _cut_log(self, last_step: int) -> None:
        """Drop lines after ``last_step``: a killed run logged steps that will be taken again."""
        path = self.path / "log.csv"
        if not path.is_file():
            return
        head, *lines = path.read_text().splitlines()
        kept = [line for line in lines if line.count(",") == head.count(",") and int(line.split(",")[0]) <= last_step]
        _replace(path, "".join(f"{line}\n" for line in [head, *kept]).encode())

    def _check_same(self, new: TrainingConfig, old: TrainingConfig) -> None:
        was, now = _flat(old.to_dict()), _flat(new.to_dict())
        for name in was:
            if name not in _MAY_CHANGE and was[name] != now[name]:
                raise ValueError(
                    f"{name}: the run in {self.path} has {json.dumps(was[name])}, got {json.dumps(now[name])}; "
                    "use another out, or overwrite"
                )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.replace(path)
