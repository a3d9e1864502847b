"""The training loop: draw, couple, step, average; validate, log and checkpoint on the way."""

import copy
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tito_fast._extension import build_info
from tito_fast.data.pairs import PairSampler
from tito_fast.data.store import Store, open_store
from tito_fast.errors import NonFiniteError, ProcessLostError
from tito_fast.models.tito.config import ModelInfo
from tito_fast.models.tito.model import TitoModel
from tito_fast.precision import forward_precision, matmul_precision
from tito_fast.training.batches import (
    TRAIN_USE,
    VALIDATION_USE,
    BatchSource,
    TrainingBatch,
    batch_loss,
    pair_range,
)
from tito_fast.training.config import TrainingConfig
from tito_fast.training.event_log import EventLog, check_tensorboard
from tito_fast.training.interrupts import StopRequest
from tito_fast.training.optimization import learning_rate
from tito_fast.training.run_files import LogRow, RunFiles, RunState
from tito_fast.training.starting_model import starting_model, warn_about
from tito_fast.training.step_plan import plans_problem
from tito_fast.training.stepper import Stepper
from tito_fast.training.workers import Workers, start_workers

_RATE_WINDOW = 50
"""Steps over which ``samples_per_s`` is measured."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a progress display is told after a step."""

    step: int
    n_steps: int
    loss: float
    validation_loss: float | None
    samples_per_s: float
    remaining_s: float


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Where a run ended.

    Parameters
    ----------
    step : int
    train_loss, validation_loss, best_validation_loss : float or None
        None: none was computed.
    model_path : Path
        The averaged weights at the end.
    rank : int
        Number of this process among those of the run; 0 wrote the files.
    """

    step: int
    train_loss: float | None
    validation_loss: float | None
    best_validation_loss: float | None
    model_path: Path
    rank: int


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
        Told of every step, in the process that writes.
    overwrite : bool
        Start afresh where a run exists.

    Returns
    -------
    TrainingResult

    Raises
    ------
    NonFiniteError
        If loss, gradients or weights are not finite; the last good state stays on disk.
    FileNotFoundError, ValueError
        No store; settings that contradict the run that exists or the machine.
    ImportError
        If an extra is needed that is not installed.
    OSError
        If a file cannot be written; the last good state stays on disk.
    ProcessLostError
        If another process of the run ended; the last good state stays on disk.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, when the state is saved.

    Notes
    -----
    Resuming after a kill repeats the uninterrupted run exactly on one CPU with one number of threads:
    pairs and noise follow from the step's number. The same pairs are drawn on any number of devices;
    sums then differ by rounding. Reads two numbers from the device in every step.
    """
    for name, value in (("out", config.out), ("data.store", config.data.store)):
        if not value:
            raise ValueError(f"{name}: expected a directory, got none; set it in the config")
    workers = start_workers(config)
    if workers.is_writer:
        warn_about(config)
    try:
        return _train(config, workers, on_step, overwrite=overwrite)
    except Exception:
        workers.end_others()
        raise
    finally:
        workers.close()


def _train(
    config: TrainingConfig,
    workers: Workers,
    on_step: Callable[[Progress], None] | None,
    *,
    overwrite: bool,
) -> TrainingResult:
    if config.tensorboard:
        check_tensorboard()
    store = open_store(config.data.store)
    samplers = _samplers(config, store)
    model = starting_model(config, store, samplers[TRAIN_USE])
    model.to(device=workers.device)
    model.to(dtype=torch.float64 if config.precision == "fp64" else torch.float32)
    sources = {
        use: BatchSource(store, sampler, model, config=config, use=use)
        for use, sampler in samplers.items()
    }
    with forward_precision(config.precision, model.device):
        backend = model.resolve_backend(config.backend)
    # Last of all, for from here on an earlier run may be overwritten.
    files = RunFiles(Path(config.out))
    if workers.is_writer:
        files = RunFiles.open(
            Path(config.out), config, overwrite=overwrite, note=_trained_with(backend)
        )
    # The others read the state only when the writer has sorted the directory.
    workers.wait()
    try:
        with matmul_precision(config.precision):
            is_planned = backend == "triton" and not plans_problem(model)
            return _Run(config, workers, files, model, sources, is_planned=is_planned).finish(
                on_step
            )
    except ProcessLostError as error:
        if not workers.is_writer:
            raise
        raise ProcessLostError(
            f"{error}; {files.kept()}; run the same command again to go on"
        ) from error
    finally:
        files.close()


class _Run:
    """The state of one training run in one process."""

    def __init__(
        self,
        config: TrainingConfig,
        workers: Workers,
        files: RunFiles,
        model: TitoModel,
        sources: dict[int, BatchSource],
        *,
        is_planned: bool,
    ) -> None:
        self.config, self.workers, self.files, self.model = config, workers, files, model
        self.sources = sources
        self._drawn: TrainingBatch | None = None
        self.stepper = Stepper(model, workers, config, loss=self._loss)
        self.step = 0
        self.best: float | None = None
        self.train_loss: float | None = None
        self.validation_loss: float | None = None
        saved = files.load_state(device=model.device)
        if saved is not None:
            self._restore(saved)
        if is_planned:
            self.stepper.plan()
        self.has_validation = VALIDATION_USE in sources
        self.validation = self._validation_batches() if self.has_validation else []
        self.events: EventLog | None = None
        if workers.is_writer:
            files.cut_log(self.step)
            if config.tensorboard:
                self.events = EventLog(files.path, first_step=self.step + 1)
        self.times = deque([time.perf_counter()], maxlen=_RATE_WINDOW + 1)

    def finish(self, on_step: Callable[[Progress], None] | None) -> TrainingResult:
        """Take the steps that are left."""
        try:
            with StopRequest() as request:
                while self.step < self.config.n_steps:
                    if self._next(request, on_step):
                        self._stop()
        finally:
            if self.events is not None:
                self.events.close()
        return TrainingResult(
            step=self.step,
            train_loss=self.train_loss,
            validation_loss=self.validation_loss,
            best_validation_loss=self.best,
            model_path=self.files.model_path("last"),
            rank=self.workers.rank,
        )

    def _next(self, request: StopRequest, on_step: Callable[[Progress], None] | None) -> bool:
        """Take one step with all that is due after it; return whether somebody asked to stop."""
        config = self.config
        rate = learning_rate(config.optimizer, self.step, n_steps=config.n_steps)
        loss, gradient_norm, n_requests = self._advance(rate, is_stopped=request.is_set)
        self.step += 1
        self.train_loss = loss
        is_last = self.step == config.n_steps
        validated = None
        if self.has_validation and (is_last or self.step % config.validate_every == 0):
            validated = self._validate()
        self.times.append(time.perf_counter())
        samples_per_s = (len(self.times) - 1) * config.batch_size / (self.times[-1] - self.times[0])
        if is_last or self.step % config.log_every == 0 or validated is not None:
            self._log(LogRow(self.step, loss, validated, rate, gradient_norm, samples_per_s))
        if is_last or self.step % config.checkpoint_every == 0:
            self._checkpoint()
        if on_step is not None and self.workers.is_writer:
            on_step(
                Progress(
                    step=self.step,
                    n_steps=config.n_steps,
                    loss=loss,
                    validation_loss=self.validation_loss,
                    samples_per_s=samples_per_s,
                    remaining_s=(config.n_steps - self.step) * config.batch_size / samples_per_s,
                )
            )
        return n_requests > 0 and not is_last

    def _advance(self, rate: float, *, is_stopped: bool) -> tuple[float, float, float]:
        """Take one optimizer step; return loss, gradient norm, and how many were asked to stop."""
        drawn, self._drawn = self._next_batch(), None
        share, norm = self.stepper.step(drawn, rate)
        if self.stepper.is_planned:
            # The host draws while the device computes.
            self._drawn = self._draw(self.step + 1)
        # All processes must stop after the same step, so the request travels with the loss.
        told = self.workers.sum(torch.stack([share, share.new_tensor(float(is_stopped))]))
        loss, n_requests, gradient_norm = torch.cat([told, norm.reshape(1)]).tolist()
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise self._not_finite(f"loss {loss:g}, gradient norm {gradient_norm:g}")
        return loss, gradient_norm, n_requests

    @torch.no_grad()
    def _validate(self) -> float:
        """Return the loss of the averaged weights over all validation atoms; keep the best model."""
        model = self._averaged_model()
        total = torch.zeros((), dtype=torch.float64, device=model.device)
        for drawn in self.validation:
            total += self._loss(model, drawn)
        loss = self.workers.sum(total).item()
        if not math.isfinite(loss):
            raise self._not_finite(f"validation loss {loss:g}")
        self.validation_loss = loss
        if self.best is None or loss < self.best:
            self.best = loss
            if self.workers.is_writer:
                self.files.save_model("best", model)
        return loss

    def _checkpoint(self) -> None:
        """Write the state and the averaged model, if the next step can start from them."""
        self._check_good()
        if not self.workers.is_writer:
            return
        self.files.save_state(
            RunState(
                network=self.model.network.state_dict(),
                optimizer=self.stepper.optimizer.state_dict(),
                average=self.stepper.average.state_dict(),
                step=self.step,
                best=self.best,
                train_loss=self.train_loss,
                validation_loss=self.validation_loss,
                info=self.model.info.to_dict(),
            )
        )
        self.files.save_model("last", self._averaged_model())

    @torch.no_grad()
    def _check_good(self) -> None:
        """Raise unless the next batch has a finite loss: a state that fails at once is not good."""
        loss = self.workers.sum(self._loss(self.model, self._next_batch())).item()
        sums = [weight.double().sum() for weight in self.stepper.average.weights.values()]
        if not (math.isfinite(loss) and torch.stack(sums).isfinite().all()):
            raise self._not_finite(f"the next loss is {loss:g}")

    def _next_batch(self) -> TrainingBatch:
        """Return this process' share of the pairs of the next step; draw it unless that is done."""
        if self._drawn is None:
            self._drawn = self._draw(self.step)
        return self._drawn

    def _draw(self, step: int) -> TrainingBatch:
        n_pairs, workers = self.config.batch_size, self.workers
        part = pair_range(n_pairs, rank=workers.rank, n_ranks=workers.n_ranks)
        return self.sources[TRAIN_USE].draw(n_pairs, step=step, part=part)

    def _loss(self, model: TitoModel, drawn: TrainingBatch) -> Tensor:
        with forward_precision(self.config.precision, model.device):
            return batch_loss(
                model, drawn, sigma=self.config.flow_sigma, backend=self.config.backend
            )

    def _stop(self) -> None:
        """Save the state and say how to go on."""
        self._checkpoint()
        # Whoever leaves first must not take the others down before the state is written.
        self.workers.wait()
        if not self.workers.is_writer:
            raise KeyboardInterrupt
        raise KeyboardInterrupt(
            f"training stopped after step {self.step} of {self.config.n_steps}; "
            f"the state is saved in {self.files.path}; run the same command again to go on"
        )

    def _log(self, row: LogRow) -> None:
        if self.workers.is_writer:
            self.files.log(row)
            if self.events is not None:
                self.events.log(row)

    def _restore(self, saved: RunState) -> None:
        model, path = self.model, self.files.path
        if saved.info is not None:
            info = ModelInfo.from_dict(saved.info)
            if info.training_set_hash != model.info.training_set_hash:
                raise ValueError(
                    f"data.store: expected the data that the run in {path} was trained on (content "
                    f"hash {info.training_set_hash[:12]}), got {self.config.data.store} "
                    f"({model.info.training_set_hash[:12]}); set another out, or overwrite"
                )
            model.info = info
        try:
            model.network.load_state_dict(saved.network)
            self.stepper.load(saved.optimizer, saved.average)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{path}: expected the state of the model in its config.yaml, got another ({reason}); "
                "set another out, or overwrite"
            ) from error
        self.step, self.best = saved.step, saved.best
        self.train_loss, self.validation_loss = saved.train_loss, saved.validation_loss

    def _validation_batches(self) -> list[TrainingBatch]:
        """Return this process' part of the validation pairs with their noise, drawn once."""
        n_pairs, workers = self.config.n_validation_pairs, self.workers
        part = pair_range(n_pairs, rank=workers.rank, n_ranks=workers.n_ranks)
        size = max(self.config.batch_size // workers.n_ranks, 1)
        return [
            self.sources[VALIDATION_USE].draw(
                n_pairs, step=0, part=slice(start, min(start + size, part.stop))
            )
            for start in range(part.start, part.stop, size)
        ]

    def _averaged_model(self) -> TitoModel:
        network = copy.deepcopy(self.model.network)
        network.load_state_dict(self.stepper.average.weights)
        return self.model.with_network(network)

    def _not_finite(self, what: str) -> NonFiniteError:
        return NonFiniteError(
            f"training stopped at step {self.step}: {what}; {self.files.kept()}; lower "
            "optimizer.learning_rate or optimizer.gradient_clip and run the same command again"
        )


def _trained_with(backend: str) -> str:
    """Return what the step's numbers follow from apart from the settings, as one line."""
    isa = f", instruction set {build_info()['isa']}" if backend == "native" else ""
    return f"backend {backend}{isa}"


def _samplers(config: TrainingConfig, store: Store) -> dict[int, PairSampler]:
    """Return the sampler of each use that the run has."""
    splits = {TRAIN_USE: config.data.train_split}
    if config.data.validation_split and config.n_validation_pairs:
        splits[VALIDATION_USE] = config.data.validation_split
    for name, split in zip(("train_split", "validation_split"), splits.values(), strict=False):
        if split not in store.splits:
            hint = '; set it to "" to train without validation' if name != "train_split" else ""
            raise ValueError(
                f"data.{name}: expected one of {', '.join(store.splits)}, got {split!r}{hint}"
            )
    return {
        use: PairSampler(
            store, split=split, max_lag_ps=config.model.max_lag_ps, lag_law=config.data.lag_law
        )
        for use, split in splits.items()
    }
