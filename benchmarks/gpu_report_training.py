"""Training steps (forward, backward, clipping, Adam) on every backend and in every precision, with their memory."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.gpu_report_cases import Case, Check, Lab, Result
from benchmarks.network import LENGTH_UNIT_NM
from benchmarks.precision_products import RoundedProducts
from benchmarks.systems import System
from benchmarks.training_step import GRADIENT_LIMIT, SIGMA, training_batch
from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.precision import forward_precision, matmul_precision
from tito_fast.training.batches import TrainingBatch, batch_loss
from tito_fast.training.config import OptimizerConfig
from tito_fast.training.optimization import (
    capturable_rate,
    changed_by,
    clip_gradients,
    make_optimizer,
)
from tito_fast.training.step_plan import StepPlans
from tito_fast.types import Backend, Precision

N_FEATURES = 64
# What the released formulation keeps per directed edge and layer at 64 features, counted on its tensors; 7 layers.
REFERENCE_BYTES_PER_EDGE = 10.56e3 * 7
# Edges that plain PyTorch takes at once in the check, and up to which gradients are checked, not only the loss.
SHARD_EDGES = 200_000
MOST_EDGES_OF_GRADIENTS = 2_000_000
# Of the error of plain PyTorch with the same rounding on the first shard; autocast rounds more than factors.
ERROR_FACTORS = {"triton": 3.0, "eager": 3.0, "eager-bf16": 10.0}
ERROR_FLOOR = 1e-5


def drawn_on(lab: Lab, system: System) -> TrainingBatch:
    """Return the pairs of ``system`` on the device."""

    def make() -> TrainingBatch:
        drawn = training_batch(system, N_FEATURES)
        moved = {
            name: value.to(lab.device)
            for name, value in vars(drawn).items()
            if isinstance(value, (Tensor, MoleculeBatch))
        }
        return replace(drawn, **moved)

    return lab.keep(("pairs", system), make)


def shards_of(drawn: TrainingBatch, n_atoms: int) -> Iterator[TrainingBatch]:
    """Yield consecutive molecules of ``drawn`` with their share of its loss."""
    n_molecules = drawn.batch.n_molecules
    size = max(1, SHARD_EDGES // (n_atoms * (n_atoms - 1)))
    for first in range(0, n_molecules, size):
        last = min(first + size, n_molecules)
        atoms, bonds = (
            slice(first * n_atoms, last * n_atoms),
            drawn.batch.bond_index[1].div(n_atoms, rounding_mode="floor"),
        )
        inside = (bonds >= first) & (bonds < last)
        yield TrainingBatch(
            batch=MoleculeBatch(
                atomic_numbers=drawn.batch.atomic_numbers[atoms],
                batch_ptr=drawn.batch.batch_ptr[first : last + 1] - first * n_atoms,
                bond_index=drawn.batch.bond_index[:, inside] - first * n_atoms,
                bond_type=drawn.batch.bond_type[inside],
                sizes=drawn.batch.sizes[first:last],
            ),
            scaled_current=drawn.scaled_current[atoms],
            x_0=drawn.x_0[atoms],
            x_1=drawn.x_1[atoms],
            flow_time=drawn.flow_time[first:last],
            lag_time_ps=drawn.lag_time_ps[first:last],
            temperature_k=None,
            epsilon=drawn.epsilon[atoms],
            vectors=drawn.vectors[atoms],
            share=(last - first) / n_molecules,
        )


def in_float64(drawn: TrainingBatch) -> TrainingBatch:
    tensors = {
        name: value.double() for name, value in vars(drawn).items() if isinstance(value, Tensor)
    }
    return replace(drawn, **tensors)


class Trainer:
    """A network and its optimizer, from the same weights each time."""

    def __init__(self, lab: Lab, *, dtype: torch.dtype = torch.float32) -> None:
        config, info = TitoConfig(n_features=N_FEATURES), ModelInfo(length_unit_nm=LENGTH_UNIT_NM)
        self.model = TitoModel.create(config, info, seed=0).to(device=lab.device, dtype=dtype)
        self.parameters = list(self.model.network.parameters())
        self.optimizer = make_optimizer(OptimizerConfig(), self.parameters)
        self.start = copy.deepcopy(self.model.network.state_dict())

    def reset(self) -> None:
        self.model.network.load_state_dict(self.start)
        self.optimizer.zero_grad(set_to_none=True)

    def gradient(self) -> Tensor:
        """Return all gradients in one, float64."""
        zero = torch.zeros((), device=self.parameters[0].device, dtype=torch.float64)
        return torch.cat(
            [
                (zero.expand(each.shape) if each.grad is None else each.grad).double().flatten()
                for each in self.parameters
            ]
        )


def planned(trainer: Trainer) -> StepPlans:
    """Return steps at fixed addresses, clipping and Adam included; captured on CUDA."""
    capturable_rate(trainer.optimizer, trainer.model.device)

    def update() -> Tensor:
        norm = clip_gradients(trainer.parameters, limit=GRADIENT_LIMIT)
        trainer.optimizer.step()
        return norm

    return StepPlans(
        trainer.model, sigma=SIGMA, update=update, state=lambda: changed_by(trainer.optimizer)
    )


class TrainingStep:
    """Steps on one system, to be timed.

    Parameters
    ----------
    system : System
    backend : str
        ``triton``, ``eager``, ``reference`` or ``compiled`` (``eager`` under torch.compile).
    precision : Precision
    """

    def __init__(self, system: System, backend: str, precision: Precision) -> None:
        self.system, self.backend, self.precision = system, backend, precision

    def __call__(self, lab: Lab) -> Result:
        trainer, drawn = Trainer(lab), drawn_on(lab, self.system)
        backend: Backend = "eager" if self.backend == "compiled" else self.backend
        loss_of = batch_loss
        if self.backend == "compiled":
            torch.compiler.reset()
            loss_of = torch.compile(batch_loss, dynamic=False)

        def backward() -> Tensor:
            trainer.optimizer.zero_grad(set_to_none=True)
            with (
                matmul_precision(self.precision),
                forward_precision(self.precision, lab.device),
            ):
                loss = loss_of(trainer.model, drawn, sigma=SIGMA, backend=backend)
            loss.backward()
            return loss

        def step() -> None:
            backward()
            clip_gradients(trainer.parameters, limit=GRADIENT_LIMIT)
            trainer.optimizer.step()

        loss = backward().detach().double()
        checks = self._checks(lab, drawn, loss, trainer.gradient())
        if not lab.is_quick:
            # Adam makes its averages.
            step()
        figures = self._memory(lab, trainer, step)
        if self.backend == "triton":
            # What `tito-fast train` runs on this backend; the launches of a step alone are timed beside it.
            figures["not_planned_s"] = lab.clock.time([step]).median_s
            plans = planned(trainer)

            def run() -> None:
                with matmul_precision(self.precision):
                    plans.step(drawn)

            run()
        else:
            run = step
        timing = lab.clock.time([run])
        figures |= timing.figures() | {
            "pairs_per_s": self.system.n_replicas / timing.median_s,
            "ns_per_edge": 1e9 * timing.median_s / self.system.n_edges,
        }
        return Result(figures, checks)

    def _memory(self, lab: Lab, trainer: Trainer, step) -> dict[str, float]:
        """Return the peak above what is held before a step: weights, Adam's averages, the batch."""
        if not lab.is_cuda:
            return {}
        trainer.optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        counted = REFERENCE_BYTES_PER_EDGE * self.system.n_edges
        return {
            "peak_bytes_above_start": peak,
            "reference_bytes_counted": counted,
            "share_of_reference_bytes": peak / counted,
        }

    def _checks(
        self, lab: Lab, drawn: TrainingBatch, loss: Tensor, gradient: Tensor
    ) -> list[Check]:
        """Compare the loss and, where it does not take too long, its gradient with float64."""
        has_gradients = self.system.n_edges <= MOST_EDGES_OF_GRADIENTS
        key = ("expected", self.system)
        expected_loss, expected = lab.keep(
            key, lambda: self._exact(lab, drawn, has_gradients=has_gradients)
        )
        product = {("eager", "fp32"): "ieee", ("compiled", "fp32"): "ieee"}
        products = product.get((self.backend, self.precision), self.precision)
        loss_error, gradient_error = lab.keep(
            (*key, products), lambda: self._rounded(lab, drawn, products)
        )
        kind = "triton" if self.backend == "triton" else "eager"
        if kind == "eager" and self.precision == "bf16":
            kind = "eager-bf16"
        factor = ERROR_FACTORS[kind]
        off = float(abs(loss - expected_loss) / expected_loss)
        checks = [
            Check("loss, relative to float64", off, factor * loss_error + ERROR_FLOOR),
        ]
        if has_gradients:
            scale = float(expected.norm())
            error = float((gradient - expected).norm()) / scale
            allowed = factor * gradient_error / scale + ERROR_FLOOR
            checks.append(Check("gradient, relative to float64", error, allowed))
        return checks

    @staticmethod
    def _exact(lab: Lab, drawn: TrainingBatch, *, has_gradients: bool) -> tuple[Tensor, Tensor]:
        """Return the loss and its gradient in float64, shard by shard."""
        trainer = Trainer(lab, dtype=torch.float64)
        total = torch.zeros((), device=lab.device, dtype=torch.float64)
        for shard in shards_of(drawn, drawn.batch.sizes[0]):
            with torch.set_grad_enabled(has_gradients):
                loss = batch_loss(trainer.model, in_float64(shard), sigma=SIGMA, backend="eager")
            if has_gradients:
                loss.backward()
            total += loss.detach()
        return total, trainer.gradient()

    @staticmethod
    def _rounded(lab: Lab, drawn: TrainingBatch, products: str) -> tuple[float, float]:
        """Return the errors of plain PyTorch with rounded factors on the first shard.

        That of its loss is relative. Errors of shards of equal size average: that of the whole gradient is not larger.
        """
        shard = replace(next(shards_of(drawn, drawn.batch.sizes[0])), share=1.0)

        def of(dtype: torch.dtype, contexts: AbstractContextManager[object]):
            trainer = Trainer(lab, dtype=dtype)
            pairs = in_float64(shard) if dtype == torch.float64 else shard
            with ExitStack() as stack:
                stack.enter_context(contexts)
                loss = batch_loss(trainer.model, pairs, sigma=SIGMA, backend="eager")
                loss.backward()
            return loss.detach().double(), trainer.gradient()

        exact_loss, exact = of(torch.float64, nullcontext())
        loss, gradient = of(torch.float32, RoundedProducts(products))
        return float(abs(loss - exact_loss) / exact_loss), float((gradient - exact).norm())


ATOMS, REPLICAS = (18, 22, 68, 166), (1, 64, 1024)


def training_cases(lab: Lab) -> Iterator[Case]:
    """Yield all systems: Triton in its three precisions, plain PyTorch, compiled, the released formulation."""
    if lab.is_quick:
        for backend in ("triton", "eager"):
            yield _case(System("tiny", 3, 2), backend, "bf16", 1, 10)
        return
    for n_atoms in ATOMS:
        for n_replicas in REPLICAS:
            system = System(f"{n_atoms} atoms", n_atoms, n_replicas)
            is_goal = (n_atoms, n_replicas) == (18, 1024)
            checking = 2 + 1.5e-6 * system.n_edges
            for precision in ("bf16", "fp32", "tf32"):
                first = 1 if is_goal else 2
                importance = first if precision == "bf16" else first + 2
                seconds = 15 + 2e-7 * system.n_edges + checking
                yield _case(system, "triton", precision, importance, seconds)
            of_eager = 3 + 4 * 1.2e-7 * system.n_edges + checking
            for precision in ("bf16", "fp32"):
                importance = 2 if is_goal else 5
                yield _case(system, "eager", precision, importance, of_eager)
            if is_goal or (n_atoms, n_replicas) in {(18, 64), (68, 64)}:
                for precision in ("bf16", "fp32"):
                    importance = 2 if is_goal else 8
                    yield _case(system, "compiled", precision, importance, 70 + of_eager)
    yield _case(System("18 atoms", 18, 64), "reference", "fp32", 4, 8)


def _case(
    system: System, backend: str, precision: Precision, importance: int, seconds: float
) -> Case:
    about = {
        "backend": backend,
        "precision": precision,
        "n_atoms": system.n_atoms,
        "n_replicas": system.n_replicas,
        "n_edges": system.n_edges,
        "n_features": N_FEATURES,
    }
    return Case(
        name=f"training {system.n_atoms}x{system.n_replicas} {backend} {precision}",
        kind="training",
        about=about,
        importance=importance,
        seconds=seconds,
        run=TrainingStep(system, backend, precision),
    )
