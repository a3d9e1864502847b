"""Training of equilibrium flows: single frames instead of pairs, no coupling, every molecule of the same weight."""

import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from tito_fast.data.store import open_store
from tito_fast.data.writers.disk import replace_file
from tito_fast.devices import resolve_device
from tito_fast.errors import NonFiniteError
from tito_fast.models.tbg.checkpoint import write_tbg_checkpoint
from tito_fast.models.tbg.config import TbgConfig
from tito_fast.models.tbg.model import TbgModel
from tito_fast.models.tito.config import ModelInfo
from tito_fast.training.batches import TRAIN_USE, VALIDATION_USE
from tito_fast.training.config import OptimizerConfig
from tito_fast.training.equilibrium_batches import FrameSampler, draw_batch, equilibrium_loss
from tito_fast.training.interrupts import StopRequest
from tito_fast.training.optimization import (
    MovingAverage,
    clip_gradients,
    learning_rate,
    make_optimizer,
)
from tito_fast.validation import check_at_least, check_positive

PUBLISHED_LENGTH_UNIT_NM: Final = 1.0 / 30.0
"""Positions in nm times 30, as published for dipeptides."""

MODEL: Final = "last.safetensors"
_SETTINGS, _STATE, _LOG = "config.json", "state.pt", "log.csv"
# These a resumed run may change: they do not contradict what was trained so far.
_MAY_CHANGE: Final = ("store", "out", "n_steps", "device", "log_every", "checkpoint_every")


@dataclass(frozen=True, kw_only=True)
class EquilibriumConfig:
    """One training run of an equilibrium flow; the defaults are those published for dipeptides where there are any.

    Parameters
    ----------
    store : str
        Directory written by ``tito-fast data convert``.
    out : str
        Directory of the run.
    model : TbgConfig
    optimizer : OptimizerConfig
    train_split, validation_split : str
        The validation split may be empty: no validation.
    n_steps, batch_size : int
        Optimizer steps in all; frames of each.
    length_unit_nm : float
        Nanometres in one model unit.
    flow_sigma : float
        Standard deviation of the noise on the interpolant, model units.
    seed : int
        Weights, frames and noise follow from it.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    log_every, checkpoint_every : int
        Steps between lines of the log, with a validation each, and between states to resume from.
    n_validation_frames : int
        Fixed frames with fixed noise.
    """

    store: str
    out: str
    model: TbgConfig = field(default_factory=TbgConfig)
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=5e-4, n_warmup_steps=0)
    )
    train_split: str = "train"
    validation_split: str = "val"
    n_steps: int = 10_000
    batch_size: int = 256
    length_unit_nm: float = PUBLISHED_LENGTH_UNIT_NM
    flow_sigma: float = 0.01
    seed: int = 0
    device: str = "auto"
    log_every: int = 100
    checkpoint_every: int = 1000
    n_validation_frames: int = 256

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("n_steps", "batch_size", "log_every", "checkpoint_every"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("n_validation_frames", self.n_validation_frames, 1)
        check_positive("length_unit_nm", self.length_unit_nm, unit="nm")
        if not (math.isfinite(self.flow_sigma) and self.flow_sigma >= 0):
            raise ValueError(f"flow_sigma: expected zero or more, got {self.flow_sigma:g}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: expected 0 to 2**63 - 1, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class EquilibriumProgress:
    """What is told when a line of the log is written."""

    step: int
    n_steps: int
    train_loss: float
    validation_loss: float | None
    frames_per_s: float


def train_equilibrium(
    config: EquilibriumConfig, *, on_log: Callable[[EquilibriumProgress], None] | None = None
) -> TbgModel:
    """Train an equilibrium flow with TBG's network, or go on with the run in ``config.out``.

    Parameters
    ----------
    config : EquilibriumConfig
    on_log : callable, optional
        Told whenever a line of the log is written.

    Returns
    -------
    TbgModel
        The averaged weights; ``last.safetensors`` in ``config.out`` holds the same.

    Raises
    ------
    NonFiniteError
        If the loss is not finite; the last good state stays on disk.
    ValueError
        No store, a molecule that the encoding does not know, a run with other settings.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, when the state is saved; the same call goes on.

    Notes
    -----
    Resuming repeats the uninterrupted run exactly on one CPU with one number of threads: frames and noise
    follow from the step's number.
    """
    run = _Run(config)
    with StopRequest() as stop:
        run.train(stop, on_log)
    return run.averaged()


class _Run:
    """A training run with its model, its files and where it is."""

    def __init__(self, config: EquilibriumConfig) -> None:
        self._config, self._path = config, Path(config.out)
        store = open_store(config.store)
        self._frames = FrameSampler(store, config.train_split)
        self._validation_frames = (
            FrameSampler(store, config.validation_split) if config.validation_split else None
        )
        self._take_up_settings()
        temperatures = self._frames.temperatures_k
        elements = {int(z) for molecule in self._frames.molecules for z in molecule.atomic_numbers}
        info = ModelInfo(
            length_unit_nm=config.length_unit_nm,
            elements=tuple(sorted(elements)),
            coupling="none",
            flow_sigma=config.flow_sigma,
            temperature_k=temperatures.pop() if len(temperatures) == 1 else None,
            training_set=Path(config.store).name,
            training_set_hash=store.content_hash,
        )
        self._model = TbgModel.create(config.model, info, seed=config.seed)
        # Before the first step: what the encoding does not know is said at once.
        self._model.prepare_molecules(self._frames.molecules)
        self._model.to(resolve_device(config.device))
        self._optimizer = make_optimizer(config.optimizer, self._model.network.parameters())
        self._average = MovingAverage(self._model.network, decay=config.optimizer.ema_decay)
        self._step = 0
        self._load()

    def train(
        self, stop: StopRequest, on_log: Callable[[EquilibriumProgress], None] | None
    ) -> None:
        config = self._config
        losses: list[Tensor] = []
        began = time.perf_counter()
        while self._step < config.n_steps:
            losses.append(self._advance())
            if self._step % config.log_every == 0 or self._step == config.n_steps:
                seconds = time.perf_counter() - began
                self._log(losses, len(losses) * config.batch_size / seconds, on_log)
                losses, began = [], time.perf_counter()
            if self._step % config.checkpoint_every == 0 or self._step == config.n_steps:
                self._save()
            if stop.is_set and self._step < config.n_steps:
                self._save()
                raise KeyboardInterrupt(f"step {self._step} is saved in {self._path}")

    def averaged(self) -> TbgModel:
        model = TbgModel.create(self._config.model, self._model.info, seed=0).to(self._model.device)
        model.network.load_state_dict(self._average.weights)
        return model

    def _advance(self) -> Tensor:
        config = self._config
        rate = learning_rate(config.optimizer, self._step, n_steps=config.n_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        drawn = draw_batch(
            self._frames,
            self._model,
            config.batch_size,
            seed=config.seed,
            use=TRAIN_USE,
            step=self._step,
        )
        self._optimizer.zero_grad(set_to_none=True)
        loss = equilibrium_loss(self._model, drawn, sigma=config.flow_sigma)
        torch.autograd.backward(loss)
        # What the velocity does not read has no gradient.
        reached = [p for p in self._model.network.parameters() if p.grad is not None]
        clip_gradients(reached, limit=config.optimizer.gradient_clip)
        self._optimizer.step()
        self._average.update(self._model.network)
        self._step += 1
        return loss.detach()

    def _log(
        self,
        losses: list[Tensor],
        frames_per_s: float,
        on_log: Callable[[EquilibriumProgress], None] | None,
    ) -> None:
        train_loss = float(torch.stack(losses).mean())
        if not math.isfinite(train_loss):
            raise NonFiniteError(
                f"loss: expected finite values, got {train_loss} before step {self._step}; lower the "
                f"learning rate, the last good state is in {self._path}"
            )
        validation_loss = self._validation_loss()
        row = [self._step, train_loss, "" if validation_loss is None else validation_loss]
        log = self._path / _LOG
        is_new = not log.exists()
        with log.open("a", encoding="ascii") as file:
            if is_new:
                file.write("step,train_loss,validation_loss,frames_per_s\n")
            file.write(",".join(map(str, [*row, f"{frames_per_s:.1f}"])) + "\n")
        if on_log is not None:
            on_log(
                EquilibriumProgress(
                    step=self._step,
                    n_steps=self._config.n_steps,
                    train_loss=train_loss,
                    validation_loss=validation_loss,
                    frames_per_s=frames_per_s,
                )
            )

    @torch.no_grad()
    def _validation_loss(self) -> float | None:
        if self._validation_frames is None:
            return None
        config, model = self._config, self.averaged()
        drawn = draw_batch(
            self._validation_frames,
            model,
            config.n_validation_frames,
            seed=config.seed,
            use=VALIDATION_USE,
            step=0,
        )
        return float(equilibrium_loss(model, drawn, sigma=config.flow_sigma))

    def _take_up_settings(self) -> None:
        file = self._path / _SETTINGS
        settings = json.loads(json.dumps(asdict(self._config)))
        # Before the first state nothing was trained that other settings would contradict.
        if file.is_file() and (self._path / _STATE).is_file():
            found = json.loads(file.read_text("utf-8"))
            for name, value in settings.items():
                if name not in _MAY_CHANGE and found.get(name) != value:
                    raise ValueError(
                        f"{name}: expected {found.get(name)!r}, as the run in {self._path} has it, got "
                        f"{value!r}; choose another directory"
                    )
        elif not file.is_file() and self._path.is_dir() and any(self._path.iterdir()):
            raise ValueError(
                f"out: expected an empty directory or a training run, got {str(self._path)!r}"
            )
        self._path.mkdir(parents=True, exist_ok=True)
        replace_file(file, json.dumps(settings, indent=1).encode())

    def _save(self) -> None:
        weights = self._average.weights.values()
        if not all(bool(torch.isfinite(weight).all()) for weight in weights):
            raise NonFiniteError(
                f"weights: expected finite values, got others before step {self._step}; lower the "
                f"learning rate, the last good state is in {self._path}"
            )
        buffer = io.BytesIO()
        torch.save(
            {
                "network": self._model.network.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "average": self._average.state_dict(),
                "step": self._step,
            },
            buffer,
        )
        replace_file(self._path / _STATE, buffer.getvalue())
        write_tbg_checkpoint(self.averaged(), self._path / MODEL)

    def _load(self) -> None:
        file = self._path / _STATE
        if file.is_file():
            state = torch.load(file, map_location=self._model.device, weights_only=True)
            self._model.network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._average.load_state_dict(state["average"])
            self._step = int(state["step"])
        log = self._path / _LOG
        if log.is_file():
            # Steps after the state are taken again.
            head, *rows = log.read_text("ascii").splitlines()
            kept = [row for row in rows if int(row.partition(",")[0]) <= self._step]
            replace_file(log, ("\n".join([head, *kept]) + "\n").encode())
