"""Rollout steps as ``tito-fast sample`` takes them, on every backend and in every precision."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from benchmarks.gpu_report_cases import Case, Check, Lab, Result
from benchmarks.network import LENGTH_UNIT_NM
from benchmarks.precision_products import RoundedProducts
from benchmarks.systems import System
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.rollout.chunk import Chunk, Row
from tito_fast.rollout.config import RolloutConfig
from tito_fast.types import Precision

LAG_PS = 100.0
N_FEATURES = 64
# Replicas of a result that are compared with the reference.
N_CHECKED = 4
# Untrained weights on crowded atoms make a chaotic flow, where rounding alone decides the end; a weak
# readout tames it at the same cost.
READOUTS = {3: 0.1, 18: 0.1, 20: 0.1, 22: 0.1, 68: 1e-3, 166: 3e-5}
# Of the error of plain PyTorch with the same rounding of factors; autocast rounds more than factors.
ERROR_FACTORS = {"triton": 3.0, "eager": 3.0, "eager-bf16": 10.0}
ERROR_FLOOR = 1e-5
# How each precision is emulated on plain PyTorch: in float32 torch itself splits nothing.
PRODUCTS = {("triton", "fp32"): "fp32", ("eager", "fp32"): "ieee", ("compiled", "fp32"): "ieee"}


class CompiledModel(TitoModel):
    """A model whose velocity is compiled."""

    def __init__(self, model: TitoModel) -> None:
        super().__init__(model.config, model.info, model.network)
        self.velocity = torch.compile(model.velocity, dynamic=False)


def model_on(lab: Lab, n_atoms: int) -> TitoModel:
    """Return the default network with random weights, its readout scaled for molecules of ``n_atoms``."""

    def make() -> TitoModel:
        config, info = TitoConfig(n_features=N_FEATURES), ModelInfo(length_unit_nm=LENGTH_UNIT_NM)
        model = TitoModel.create(config, info, seed=0)
        model.network.velocity.readout.v.weight.data *= READOUTS[n_atoms]
        return model.to(device=lab.device)

    return lab.keep(("model", READOUTS[n_atoms]), make)


class Rollout:
    """Steps of one system, to be timed.

    Parameters
    ----------
    system : System
    backend : str
        ``triton``, ``eager`` or ``compiled`` (``eager`` under torch.compile).
    precision : Precision
    """

    def __init__(self, system: System, backend: str, precision: Precision) -> None:
        self.system, self.backend, self.precision = system, backend, precision

    def __call__(self, lab: Lab) -> Result:
        n_ode_steps = 2 if lab.is_quick else 20
        found = self._chunk(lab, self.system.n_replicas, n_ode_steps)
        after_one = found(0, 1)
        check = self._check(lab, after_one, n_ode_steps)
        if lab.is_cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        # The first step may have compiled and captured; now a step is a step.
        timing = lab.clock.time([lambda: found(1, 2)])
        figures = timing.figures() | {
            "n_ode_steps": n_ode_steps,
            "transitions_per_s": self.system.n_replicas / timing.median_s,
            "ns_per_edge_evaluation": 1e9 * timing.median_s / self.system.n_edges / n_ode_steps,
        }
        if lab.is_cuda:
            figures["peak_bytes_above_start"] = torch.cuda.max_memory_allocated() - before
            figures["peak_bytes"] = torch.cuda.max_memory_allocated()
        return Result(figures, [check])

    def _chunk(
        self,
        lab: Lab,
        n_replicas: int,
        n_ode_steps: int,
        *,
        backend: str = "",
        precision: Precision | None = None,
    ):
        """Return a function that takes steps of the first replicas and returns the last positions."""
        backend = backend or self.backend
        model = model_on(lab, self.system.n_atoms)
        if backend == "compiled":
            torch.compiler.reset()
            model = CompiledModel(model)
        molecule = self.system.molecule()
        config = RolloutConfig(
            lag_times_ps=(LAG_PS,),
            n_rollout_steps=2,
            n_replicas=n_replicas,
            n_ode_steps=n_ode_steps,
            precision=precision or self.precision,
            backend="eager" if backend == "compiled" else backend,
            device=str(lab.device),
        )
        chunk = Chunk(model, [Row(0, molecule, replica) for replica in range(n_replicas)], config)
        positions = torch.as_tensor(molecule.positions, dtype=torch.float32, device=lab.device)
        positions = positions.repeat(n_replicas, 1) / LENGTH_UNIT_NM

        def steps(first: int, last: int) -> Tensor:
            for now in chunk.run(positions, first_step=first, last_step=last):
                x = now
            return x

        return steps

    def _check(self, lab: Lab, found: Tensor, n_ode_steps: int) -> Check:
        """Compare the first replicas with the reference, in units of what the network adds."""
        n_checked = min(N_CHECKED, self.system.n_replicas)

        def expected_of(backend: str, contexts: AbstractContextManager[object]) -> Tensor:
            with contexts:
                steps = self._chunk(lab, n_checked, n_ode_steps, backend=backend, precision="fp32")
                return steps(0, 1).double()

        key = ("rollout", self.system.n_atoms, n_checked, n_ode_steps)
        expected = lab.keep(key, lambda: expected_of("reference", nullcontext()))
        products = PRODUCTS.get((self.backend, self.precision), self.precision)
        rounded = lab.keep(
            (*key, products), lambda: expected_of("eager", RoundedProducts(products))
        )
        alone = lab.keep(
            (*key, "alone"), lambda: self._without_network(lab, n_checked, n_ode_steps)
        )
        scale = (expected - alone).square().mean().sqrt()

        def error(positions: Tensor) -> float:
            difference = positions[: len(expected)].double() - expected
            return float(difference.square().mean().sqrt() / scale)

        kind = "triton" if self.backend == "triton" else "eager"
        if kind == "eager" and self.precision == "bf16":
            kind = "eager-bf16"
        allowed = ERROR_FACTORS[kind] * error(rounded) + ERROR_FLOOR
        name = (
            f"rms error of {n_checked} replicas over what the network adds, against the reference"
        )
        return Check(name, error(found) if found.isfinite().all() else float("nan"), allowed)

    def _without_network(self, lab: Lab, n_checked: int, n_ode_steps: int) -> Tensor:
        """Return the positions that a network of zero velocity leads to."""
        model = model_on(lab, self.system.n_atoms)
        readout = model.network.velocity.readout.v.weight.data
        before = readout.clone()
        readout.zero_()
        try:
            steps = self._chunk(lab, n_checked, n_ode_steps, backend="reference", precision="fp32")
            return steps(0, 1).double()
        finally:
            readout.copy_(before)


ATOMS, REPLICAS = (18, 20, 22, 68, 166), (1, 64, 1024)


def rollout_cases(lab: Lab) -> Iterator[Case]:
    """Yield all systems: Triton in its three precisions, plain PyTorch in float32 and bf16, compiled."""
    if lab.is_quick:
        for backend in ("triton", "eager"):
            yield _case(System("tiny", 3, 2), backend, "bf16", 1, 10)
        return
    for n_atoms in ATOMS:
        for n_replicas in REPLICAS if n_atoms != 20 else (1024,):
            system = System(f"{n_atoms} atoms", n_atoms, n_replicas)
            is_goal = (n_atoms, n_replicas) in {(20, 1024), (18, 1)}
            of_triton = 12 + 2e-7 * system.n_edges
            for precision in ("bf16", "fp32", "tf32"):
                first = 1 if is_goal else 2
                importance = first if precision == "bf16" else first + 2
                yield _case(system, "triton", precision, importance, of_triton)
            of_eager = 3 + 4 * 20 * 4e-8 * system.n_edges
            baseline = 2 if is_goal else 4
            yield _case(system, "eager", "fp32", baseline, of_eager)
            yield _case(system, "eager", "bf16", baseline + 2, of_eager)
            if n_replicas != 64 or n_atoms == 18:
                yield _case(system, "compiled", "bf16", 3 if is_goal else 8, 45 + of_eager)


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
        name=f"rollout {system.n_atoms}x{system.n_replicas} {backend} {precision}",
        kind="rollout",
        about=about,
        importance=importance,
        seconds=seconds,
        run=Rollout(system, backend, precision),
    )
