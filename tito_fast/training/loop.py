"""The training loop: draw, couple, step, average; validate, log and checkpoint on the way."""

import copy
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tito_fast.data.pairs import PairSampler
from tito_fast.data.store import Store, open_store
from tito_fast.errors import NonFiniteError
from tito_fast.models.tito.config import ModelInfo
from tito_fast.models.tito.model import TitoModel
from tito_fast.training.batches import (
    TRAIN_STREAM,
    VALIDATION_STREAM,
    TrainingBatch,
    batch_loss,
    draw_batch,
    step_generator,
)
from tito_fast.training.config import TrainingConfig
from tito_fast.training.optimization import MovingAverage, learning_rate, make_optimizer
from tito_fast.training.run_files import LogRow, RunFiles
from tito_fast.types import Precision


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a progress display is told after a step."""

    step: int
    n_steps: int
    loss: float
    validation_loss: float | None
    samples_per_s: float


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Where a run ended."""

    step: int
    train_loss: float
    validation_loss: float | None
    best_validation_loss: float | None
    model_path: Path


def train(
    config: TrainingConfig,
    *,
    on_step: Callable[[Progress], None] | None = None,
    overwrite: bool = False,
) -> TrainingResult:
    """Train a model, or go on with the run in ``config.out``.

    Parameters
    ----------
    config : TrainingConfig
    on_step : callable, optional
        Told of every step.
    overwrite : bool
        Start afresh where a run exists.

    Returns
    -------
    TrainingResult

    Raises
    ------
    NonFiniteError
        If loss or gradients are not finite; the last good state stays on disk.
    FileNotFoundError, ValueError
        No store; settings that contradict the run that exists.

    Notes
    -----
    Resuming after a kill repeats the uninterrupted run exactly on one device: pairs and noise follow from
    the step's number.
    """
    device = resolve_device(config.device)
    store = open_store(config.data.store)
    files = RunFiles.open(Path(config.out), config, overwrite=overwrite)
    sampler = PairSampler(
        store, split=config.data.train_split, max_lag_ps=config.model.max_lag_ps, lag_law=config.data.lag_law
    )
    warn_about(config)
    model = _new_model(config, store, sampler).to(device=device)
    if config.precision == "fp64":
        model.to(dtype=torch.float64)
    return _Run(config, store, files, sampler, model).run(on_step)


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        config: TrainingConfig,
        store: Store,
        files: RunFiles,
        sampler: PairSampler,
        model: TitoModel,
    ) -> None:
        self.config, self.files, self.sampler, self.model = config, files, sampler, model
        self.optimizer = make_optimizer(config.optimizer, model.network.parameters())
        self.average = MovingAverage(model.network, decay=config.optimizer.ema_decay)
        self.step = 0
        self.best: float | None = None
        self.validation = self._validation_batches(store)
        saved = files.load_state(device=model.device)
        if saved is not None:
            model.network.load_state_dict(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.average.load_state_dict(saved["average"])
            self.step, self.best = saved["step"], saved["best"]

    def run(self, on_step: Callable[[Progress], None] | None) -> TrainingResult:
        config = self.config
        loss, validation_loss = float("nan"), None
        started, first = time.perf_counter(), self.step
        while self.step < config.n_steps:
            rate = learning_rate(config.optimizer, self.step, n_steps=config.n_steps)
            loss, gradient_norm = self._advance(rate)
            self.step += 1
            is_last = self.step == config.n_steps
            if self.validation and (is_last or self.step % config.validate_every == 0):
                validation_loss = self._validate()
                if self.best is None or validation_loss < self.best:
                    self.best = validation_loss
                    self.files.save_model("best", self._averaged_model())
            samples_per_s = (self.step - first) * config.batch_size / (time.perf_counter() - started)
            validated = validation_loss if self.step % config.validate_every == 0 or is_last else None
            if is_last or self.step % config.log_every == 0 or validated is not None:
                self.files.log(
                    LogRow(self.step, loss, validated, rate, gradient_norm, samples_per_s)
                )
            if is_last or self.step % config.checkpoint_every == 0:
                self._checkpoint()
            if on_step is not None:
                on_step(
                    Progress(
                        step=self.step,
                        n_steps=config.n_steps,
                        loss=loss,
                        validation_loss=validation_loss,
                        samples_per_s=samples_per_s,
                    )
                )
        return TrainingResult(
            step=self.step,
            train_loss=loss,
            validation_loss=validation_loss,
            best_validation_loss=self.best,
            model_path=self.files.model_path("last"),
        )

    def _advance(self, rate: float) -> tuple[float, float]:
        """Take one optimizer step; return its loss and the norm of its gradient."""
        config = self.config
        rng = step_generator(config.seed, TRAIN_STREAM, self.step)
        drawn = draw_batch(
            self.sampler, self.model, config.batch_size, rng, coupling=config.data.coupling
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with _precision(config.precision, self.model.device):
            loss = batch_loss(self.model, drawn, sigma=config.flow_sigma)
        loss.backward()
        limit = config.optimizer.gradient_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.network.parameters(), limit)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise NonFiniteError(
                f"training stopped at step {self.step}: loss {loss.item():g}, gradient norm {norm.item():g}; "
                f"the last good state is in {self.files.path}; lower optimizer.learning_rate and run again"
            )
        self.optimizer.step()
        self.average.update(self.model.network)
        return loss.item(), norm.item()

    def _validation_batches(self, store: Store) -> list[TrainingBatch]:
        """Draw the validation pairs and their noise once; they are the same in every run."""
        config = self.config
        if not config.data.validation_split or config.n_validation_pairs == 0:
            return []
        sampler = PairSampler(
            store,
            split=config.data.validation_split,
            max_lag_ps=config.model.max_lag_ps,
            lag_law=config.data.lag_law,
        )
        batches = []
        for index, start in enumerate(range(0, config.n_validation_pairs, config.batch_size)):
            n_pairs = min(config.batch_size, config.n_validation_pairs - start)
            rng = step_generator(config.seed, VALIDATION_STREAM, index)
            batches.append(draw_batch(sampler, self.model, n_pairs, rng, coupling=config.data.coupling))
        return batches

    @torch.no_grad()
    def _validate(self) -> float:
        """Return the loss of the averaged weights over all validation atoms."""
        model = self._averaged_model()
        total, n_atoms = 0.0, 0
        for drawn in self.validation:
            with _precision(self.config.precision, model.device):
                loss = batch_loss(model, drawn, sigma=self.config.flow_sigma)
            total += loss.item() * drawn.batch.n_atoms
            n_atoms += drawn.batch.n_atoms
        return total / n_atoms

    def _averaged_model(self) -> TitoModel:
        network = copy.deepcopy(self.model.network)
        network.load_state_dict(self.average.weights)
        return TitoModel(self.model.config, self.model.info, network)

    def _checkpoint(self) -> None:
        self.files.save_state(
            {
                "network": self.model.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict(),
                "step": self.step,
                "best": self.best,
            }
        )
        self.files.save_model("last", self._averaged_model())


def resolve_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:i`` means here.

    Raises
    ------
    ValueError
        If it is none of these, or CUDA was asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    name, _, index = device.partition(":")
    if name != "cuda" or not (index.isdecimal() or not index):
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:i, got {device!r}")
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: {device} was asked for, {torch.cuda.device_count()} CUDA devices are here")
    return torch.device(device)


def warn_about(config: TrainingConfig) -> None:
    """Warn of settings that train a model with a known defect."""
    if config.data.coupling in ("p", "pr", "rp"):
        warnings.warn(
            f"coupling {config.data.coupling!r} permutes base atoms by their targets, which changes the law of x_0 "
            "for labelled atoms; sampling cannot reproduce it. Use r, unless you mean to compare",
            stacklevel=2,
        )
    if config.model.n_embedding_layers == 1:
        warnings.warn(
            "n_embedding_layers=1: the condition cannot tell mirror images apart, since its only message "
            "starts from zero vectors; use 2 or more",
            stacklevel=2,
        )


def _new_model(config: TrainingConfig, store: Store, sampler: PairSampler) -> TitoModel:
    """Return the model to train, with the facts of its training data."""
    rows = [store.trajectories[index] for index in store.split_indices(config.data.train_split)]
    molecules = [store.molecules[index] for index in sorted({row.molecule_idx for row in rows})]
    temperatures = {row.temperature_k for row in rows}
    unit = config.data.length_unit_nm or _length_unit_nm(config, sampler)
    info = ModelInfo(
        length_unit_nm=unit,
        elements=tuple(sorted({int(z) for molecule in molecules for z in molecule.atomic_numbers})),
        bond_types=(0, *sorted({int(kind) for molecule in molecules for kind in molecule.bond_type})),
        formal_charges=tuple(sorted({0, *(q for molecule in molecules for q in molecule.formal_charges)})),
        min_lag_ps=min(row.frame_interval_ps for row in rows),
        coupling=config.data.coupling,
        flow_sigma=config.flow_sigma,
        temperature_k=temperatures.pop() if len(temperatures) == 1 else None,
        training_set=Path(config.data.store).name,
        training_set_hash=store.content_hash,
    )
    return TitoModel.create(config.model, info, seed=config.seed)


def _length_unit_nm(config: TrainingConfig, sampler: PairSampler) -> float:
    """Return the standard deviation of centred training positions, from 1,000 fixed frames."""
    drawn = sampler.draw(1000, step_generator(config.seed, VALIDATION_STREAM, 2**32))
    return float(np.round(drawn.next_positions.double().std().item(), 4))


def _precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    return nullcontext()
