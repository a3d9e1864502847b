"""The network on named systems: which cases are timed, their backends, and what is recorded beside a time.

A case is timed where its call takes less than a limit, by the estimates below (one thread); nothing is
said of the others. Compiling takes half a minute, so few cases are compiled. On the CPU the compiler
sees eager's padding to whole blocks per thread with the number of threads as a constant: left as a call,
it breaks the graph in 55 pieces, which are slower than eager itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from benchmarks.systems import N_ATOMS, System, sgemm_gflops, system
from tito_fast._extension import build_info
from tito_fast.errors import BackendUnavailableError
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.models.tito.native_network import packed_network
from tito_fast.precision import forward_precision

BACKENDS = ("reference", "eager", "compiled-eager", "native", "native-bf16")
SYSTEMS = [system(name, n_replicas) for name in N_ATOMS for n_replicas in (1, 16, 64)]
# What the goals are stated for.
SYSTEMS.insert(SYSTEMS.index(system("tetrapeptide", 16)), system("tetrapeptide", 8))
N_FEATURES = (64, 128)
LENGTH_UNIT_NM = 0.2

# Edges of a case that is only checked, without timing.
MOST_EDGES_OF_CHECK = 500

# torch.compile itself uses what torch deprecates, and says that it looks through caches.
COMPILER_WARNINGS = (
    "ignore:`torch.jit.script_method`:DeprecationWarning",
    "ignore:.*should not be instantiated:DeprecationWarning",
    "ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning",
)


@dataclass(frozen=True)
class Case:
    """One bar of a benchmark."""

    system: System
    n_features: int
    backend: str

    def __str__(self) -> str:
        """Return the name in parameters: letters, digits and hyphens, for pytest's ``-k``."""
        size = f"{self.system.n_atoms}x{self.system.n_replicas}"
        return f"{size}-F{self.n_features}-{self.backend}"

    @property
    def is_compiled(self) -> bool:
        """Whether torch.compile is in it."""
        return self.backend == "compiled-eager"

    @property
    def model_backend(self) -> str:
        """Name of the backend in the package."""
        return {"compiled-eager": "eager", "native-bf16": "native"}.get(self.backend, self.backend)

    @property
    def dtype(self) -> str:
        """What the products are computed in."""
        return "bf16" if self.backend == "native-bf16" else "float32"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which cases a file times: those whose call is estimated to take less than a limit.

    Parameters
    ----------
    us_per_edge
        About what each backend takes, per edge at 64 features on one thread.
    most_seconds
        The limit on a call, per backend.
    compiled
        The systems that are compiled; the others of these sizes say why they are not.
    why_not_compiled
        What they say.
    """

    us_per_edge: dict[str, float]
    most_seconds: dict[str, float]
    compiled: tuple[System, ...]
    why_not_compiled: str = "compiling takes half a minute or more: two systems must do"

    def cases(self) -> list[Case]:
        """Return the cases, all backends of a system together."""
        cases = (
            Case(system, n_features, backend)
            for n_features, system, backend in product(N_FEATURES, SYSTEMS, self.most_seconds)
        )
        return [case for case in cases if self.seconds(case) <= self.most_seconds[case.backend]]

    def seconds(self, case: Case) -> float:
        """Return about how long one call takes."""
        width = (case.n_features / 64) ** 2
        return self.us_per_edge[case.backend] * case.system.n_edges * width * 1e-6

    def rounds(self, benchmark: Any, case: Case) -> dict[str, int]:
        """Return the rounds that fit into about 1.5 s, two at least, and one to warm up if it is short."""
        if benchmark.disabled:
            return {"rounds": 1, "iterations": 1}
        seconds = self.seconds(case)
        rounds = min(max(2, int(1.5 / seconds)), 30)
        return {"rounds": rounds, "iterations": 1, "warmup_rounds": 1 if seconds < 2 else 0}

    def skip_unless_it_runs(self, benchmark: Any, case: Case) -> None:
        """Skip with the reason what cannot be timed here, or takes longer than a check may."""
        if benchmark.disabled and (case.system.n_edges > MOST_EDGES_OF_CHECK or case.is_compiled):
            pytest.skip("takes longer than a check may")
        if benchmark.disabled and case.n_features != N_FEATURES[0] and case.system.n_atoms != 18:
            pytest.skip("checked at 18 atoms")
        is_planned = case.system in self.compiled and case.n_features == N_FEATURES[0]
        if case.is_compiled and not is_planned:
            pytest.skip(self.why_not_compiled)
        if case.backend == "native-bf16" and bf16_problem():
            pytest.skip(bf16_problem())


@cache
def model_of(n_features: int, *, readout: float = 1.0) -> TitoModel:
    """Return the default network with random weights, its readout scaled."""
    config, info = TitoConfig(n_features=n_features), ModelInfo(length_unit_nm=LENGTH_UNIT_NM)
    model = TitoModel.create(config, info, seed=0)
    model.network.velocity.readout.v.weight.data *= readout
    return model


def scaled_positions(system: System) -> Tensor:
    """Return the positions of all replicas in model units, float32."""
    positions = torch.as_tensor(system.molecule().positions, dtype=torch.float32)
    return positions.repeat(system.n_replicas, 1) / LENGTH_UNIT_NM


@contextmanager
def precision_of(case: Case) -> Iterator[None]:
    """Compute in the case's precision, without gradients."""
    with (
        torch.no_grad(),
        forward_precision("bf16" if case.dtype == "bf16" else "fp32", torch.device("cpu")),
    ):
        yield


@contextmanager
def compiling(case: Case) -> Iterator[None]:
    """Compile from nothing, the number of threads being a constant; do nothing for other cases."""
    if not case.is_compiled:
        yield
        return
    torch.compiler.reset()
    n_threads = torch.get_num_threads()
    with mock.patch("torch.get_num_threads", lambda: n_threads):  # noqa: PT008  the compiler reads it
        yield


def run_or_skip(case: Case, call: Callable[[], Any]) -> None:
    """Call once, which compiles; skip with the reason if that is what fails."""
    if not case.is_compiled:
        return
    try:
        call()
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"torch.compile cannot compile here: {error}")


@cache
def bf16_problem() -> str:
    """Return why the native backend cannot compute in bf16 here, or nothing."""
    try:
        with precision_of(Case(SYSTEMS[0], 64, "native-bf16")):
            model_of(64).prepare(SYSTEMS[0].batch(), backend="native")
    except BackendUnavailableError as error:
        return str(error)
    return ""


def flops_per_evaluation(case: Case) -> float:
    """Return what the backend's own matrix products take, in flop.

    Reference: seven layers, 210 F² per edge and 196 F² per atom. Eager: five layers with the exact savings,
    100 F² and 138 F². Native: 66 F² and 138 F², for a spline replaces the filters' MLPs; 100 F² where it does not.
    """
    per_edge, per_atom = {"reference": (210, 196), "eager": (100, 138), "native": (66, 138)}[
        case.model_backend
    ]
    if per_edge == 66 and packed_network(model_of(case.n_features).network).tables is None:
        per_edge = 100
    n_atoms = case.system.n_atoms * case.system.n_replicas
    return case.n_features**2 * (per_edge * case.system.n_edges + per_atom * n_atoms)


def record(benchmark: Any, case: Case, **more: Any) -> None:
    """Record the conditions."""
    benchmark.extra_info |= {
        "device": "cpu",
        "backend": case.backend,
        "dtype": case.dtype,
        "n_threads": torch.get_num_threads(),
        "isa": build_info()["isa"],
        "n_atoms": case.system.n_atoms,
        "n_replicas": case.system.n_replicas,
        "n_edges": case.system.n_edges,
        "n_features": case.n_features,
        **more,
    }


_BEST: dict[tuple[str, System, int], dict[str, float]] = {}


def record_speed(
    benchmark: Any, case: Case, *, what: str, flops: float, n_evaluations: int = 1
) -> None:
    """Record the best time per edge, the rate beside that of sgemm, and how often faster than the others."""
    if benchmark.disabled:
        return
    seconds = benchmark.stats.stats.min
    n_features = case.n_features
    sgemm = sgemm_gflops(4096, n_features, 5 * n_features)
    benchmark.extra_info |= {
        "us_per_edge": round(seconds / (case.system.n_edges * n_evaluations) * 1e6, 3),
        "counted_gflops": round(flops / seconds * 1e-9, 2),
        "sgemm_gflops": round(sgemm, 1),
        "share_of_sgemm": round(flops / seconds * 1e-9 / sgemm, 3),
    }
    best = _BEST.setdefault((what, case.system, n_features), {})
    best[case.backend] = seconds
    for other in ("reference", "eager", "compiled-eager"):
        if other in best and other != case.backend:
            name = f"times_{other.replace('-', '_')}"
            benchmark.extra_info[name] = round(best[other] / seconds, 2)
