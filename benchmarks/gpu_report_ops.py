"""Ceilings of the device, and every operation against its plain PyTorch definition.

The error of each timed result is held to three times that of plain PyTorch with its factors rounded likewise
(``benchmarks/precision_products.py``), both against float64.
"""

import math
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_report_cases import Case, Check, Lab, Result, relative_error
from benchmarks.gpu_report_timing import Timing
from benchmarks.precision_products import RoundedProducts
from tito_fast import ops
from tito_fast.models.tito.layers import LayerShape, Message, Mlp
from tito_fast.ops import MlpParameters

LENGTH = 10.0
# Of plain PyTorch's error with the same rounding; below the floor nothing is asked.
ERROR_FACTOR, ERROR_FLOOR = 3.0, 1e-6
# Inputs are rotated, so that they are not in the cache from the call before.
N_INPUTS = 3
PRECISIONS = ("bf16", "tf32", "fp32")

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class Work:
    """One call of an op.

    Parameters
    ----------
    call : callable
        Takes backend and precision, returns all results.
    leaves : sequence of Tensor
        What gradients are taken of; empty where there is no backward.
    n_bytes, n_flops, n_lanes : float
        What a forward must move, multiply and compute element by element.
    """

    call: Callable[[str, str], Tensors]
    leaves: Tensors = ()
    n_bytes: float = 0.0
    n_flops: float = 0.0
    n_lanes: float = 0.0


Make = Callable[["Draw", int, int, int], Work]


class Draw:
    """Random inputs that are the same in every dtype."""

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int) -> None:
        self.device, self.dtype = device, dtype
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def normal(self, *shape: int, leaf: bool = False, scale: float = 1.0) -> Tensor:
        drawn = scale * torch.randn(*shape, generator=self._generator, device=self.device)
        return drawn.to(self.dtype).requires_grad_(leaf)

    def module(self, module: torch.nn.Module) -> Any:
        """Return ``module`` with normal weights that keep the size of what goes through."""
        for name, parameter in module.named_parameters():
            is_scale = parameter.ndim == 1 and "norm" in name and "weight" in name
            width = parameter.shape[-1] if parameter.ndim == 2 else 100
            parameter.data = self.normal(*parameter.shape, scale=width**-0.5) + is_scale
        return module

    def mlp(self, n_in: int, n_hidden: int, n_out: int) -> MlpParameters:
        return parameters_of(self.module(Mlp(n_in, n_hidden, n_out)))


def parameters_of(mlp: Mlp) -> MlpParameters:
    (first, second, last), (first_norm, second_norm) = mlp.linears, mlp.norms
    return MlpParameters(
        *(first.weight, first.bias, first_norm.weight, first_norm.bias),
        *(second.weight, second.bias, second_norm.weight, second_norm.bias),
        *(last.weight, last.bias),
    )


def complete_graph(device: torch.device, n: int, b: int) -> tuple[ops.MessageGraph, Tensor]:
    """Return the graph of all edges of ``b`` molecules of ``n`` atoms, and their starts."""
    batch_ptr = n * torch.arange(b + 1, device=device)
    edges = (~torch.eye(n, dtype=torch.bool, device=device)).nonzero().T.flip(0)
    edge_index = (batch_ptr[:-1, None, None] + edges).transpose(0, 1).reshape(2, -1)
    graph = ops.message_graph(edge_index, batch_ptr=batch_ptr, n_atoms=n * b)
    return graph, batch_ptr


def message_work(draw: Draw, n: int, b: int, width: int) -> Work:
    """One message with edges wanted, over the complete graphs.

    Must: 21 F² multiply-adds' flop per directed edge (14 F² of φ, whose share of the source is counted per atom, and
    14 F² of the filter per pair); read and write the edge's features; 55 F lane instructions per edge (two norms and
    two activations of φ, half of those of the filter, gates and sums).
    """
    graph, _ = complete_graph(draw.device, n, b)
    positions = draw.normal(n * b, 3)
    vec = positions[graph.source] - positions[graph.receiver]
    dist = vec.norm(dim=1)
    pair_dist = dist[graph.pair_edges[:, 0]].requires_grad_()
    vec_saturated = (vec / (1 + dist).unsqueeze(1)).requires_grad_()
    message = draw.module(Message(LayerShape(width, None, LENGTH)))
    scalars, vectors = draw.normal(n * b, width, leaf=True), draw.normal(n * b, 3, width, leaf=True)
    n_edges = graph.source.shape[0]
    edge_features = draw.normal(n_edges, width, leaf=True)

    def call(backend: str, precision: str) -> Tensors:
        result = ops.painn_message(
            scalars,
            vectors,
            edge_features,
            pair_dist=pair_dist,
            vec_saturated=vec_saturated,
            graph=graph,
            phi=parameters_of(message.phi),
            filter_=parameters_of(message.filter),
            distance_length=LENGTH,
            backend=backend,
            precision=precision,
        )
        return [each for each in result if each is not None]

    return Work(
        call,
        (scalars, vectors, edge_features, pair_dist, vec_saturated, *message.parameters()),
        n_bytes=8.0 * n_edges * width + 4 * 8 * n * b * width,
        n_flops=21.0 * n_edges * width**2 + 2.0 * n * b * width**2,
        n_lanes=55.0 * n_edges * width,
    )


def update_work(draw: Draw, n: int, b: int, width: int) -> Work:
    atoms = n * b
    scalars, vectors = draw.normal(atoms, width, leaf=True), draw.normal(atoms, 3, width, leaf=True)
    weights = [draw.normal(width, width, leaf=True, scale=width**-0.5) for _ in range(2)]
    parameters = draw.mlp(2 * width, width, 3 * width)

    def call(backend: str, precision: str) -> Tensors:
        return ops.painn_update(
            scalars,
            vectors,
            u_weight=weights[0],
            v_weight=weights[1],
            parameters=parameters,
            backend=backend,
            precision=precision,
        )

    return Work(
        call,
        (scalars, vectors, *weights, *parameters),
        n_bytes=4.0 * 8 * atoms * width,
        n_flops=24.0 * atoms * width**2,
    )


def mlp_work(draw: Draw, n: int, b: int, width: int) -> Work:
    inputs, parameters = draw.normal(n * b, width, leaf=True), draw.mlp(width, width, width)
    return Work(
        lambda backend, precision: [
            ops.mlp(inputs, parameters, backend=backend, precision=precision)
        ],
        (inputs, *parameters),
        n_bytes=8.0 * n * b * width,
        n_flops=6.0 * n * b * width**2,
    )


def time_embed_work(draw: Draw, n: int, b: int, width: int) -> Work:
    batch_ptr = n * torch.arange(b + 1, device=draw.device)
    scalars, encodings = draw.normal(n * b, width, leaf=True), draw.normal(b, 2 * width)
    parameters = draw.mlp(3 * width, width, width)
    return Work(
        lambda backend, precision: [
            ops.time_embed(
                scalars,
                encodings,
                batch_ptr,
                parameters=parameters,
                backend=backend,
                precision=precision,
            )
        ],
        (scalars, *parameters),
        n_bytes=8.0 * n * b * width,
        n_flops=6.0 * n * b * width**2,
    )


def readout_work(draw: Draw, n: int, b: int, width: int) -> Work:
    batch_ptr = n * torch.arange(b + 1, device=draw.device)
    scalars, vectors = draw.normal(n * b, width), draw.normal(n * b, 3, width)
    positions, v_weight = draw.normal(n * b, 3), draw.normal(1, width, scale=width**-0.5)
    parameters = draw.mlp(width, width, 1)
    parameters = MlpParameters(*(each.detach() for each in parameters))
    return Work(
        lambda backend, precision: ops.readout_step(
            scalars,
            vectors,
            positions,
            v_weight=v_weight,
            parameters=parameters,
            batch_ptr=batch_ptr,
            step_size=0.05,
            backend=backend,
            precision=precision,
        ),
        n_bytes=16.0 * n * b * width,
        n_flops=4.0 * n * b * width**2,
    )


def edge_embed_work(draw: Draw, n: int, b: int, width: int) -> Work:
    n_edges = b * n * (n - 1)
    edge_type = (torch.arange(n_edges, device=draw.device) * 7919) % 13
    table = draw.normal(13, width, leaf=True)
    return Work(
        lambda backend, _: [ops.edge_embed(edge_type, table, backend=backend)],
        (table,),
        n_bytes=n_edges * (8.0 + 4 * width),
    )


def geometry_work(draw: Draw, n: int, b: int, width: int) -> Work:
    del width
    graph, _ = complete_graph(draw.device, n, b)
    positions = draw.normal(n * b, 3, leaf=True)
    return Work(
        lambda backend, _: ops.edge_geometry(positions, graph, backend=backend),
        (positions,),
        n_bytes=graph.source.shape[0] * (8.0 * 2 + 12 + 2),
    )


def philox_work(draw: Draw, n: int, b: int, width: int) -> Work:
    rows = torch.arange(b, device=draw.device)
    counts = torch.full_like(rows, 3 * n * width)
    return Work(
        lambda backend, _: [
            ops.philox_normal(
                rows + 1,
                rows,
                counts,
                rollout_step=3,
                stream_evaluation=5,
                n_total=3 * n * width * b,
                backend=backend,
            )
        ],
        n_bytes=12.0 * n * width * b,
    )


def ode_step_work(draw: Draw, n: int, b: int, width: int, *, n_stages: int = 1) -> Work:
    del width
    batch_ptr = n * torch.arange(b + 1, device=draw.device)
    positions, velocities = draw.normal(n * b, 3), draw.normal(n_stages, n * b, 3)
    weights = [(-0.5) ** k for k in range(n_stages)]
    return Work(
        lambda backend, _: [
            ops.ode_step(
                positions,
                velocities,
                weights=weights,
                step_size=0.05,
                batch_ptr=batch_ptr,
                backend=backend,
            )
        ],
        n_bytes=12.0 * (2 + n_stages) * n * b,
    )


def center_work(draw: Draw, n: int, b: int, width: int) -> Work:
    del width
    batch_ptr = n * torch.arange(b + 1, device=draw.device)
    positions = draw.normal(n * b, 3, leaf=True)
    return Work(
        lambda backend, _: [ops.center(positions, batch_ptr=batch_ptr, backend=backend)],
        (positions,),
        n_bytes=24.0 * n * b,
    )


class OpRun:
    """One op at one size: time it, check it.

    Parameters
    ----------
    make : Make
    size : tuple of int
        Atoms of a molecule, molecules, features.
    backend, precision, direction : str
        ``direction`` is ``forward`` or ``backward`` (alone, after a forward that is not timed).
    keeps_expected : bool
        Whether another run with the same inputs will compare with the same results.
    can_capture : bool
        Whether a forward never waits for the device.
    """

    def __init__(
        self,
        make: Make,
        size: tuple[int, int, int],
        backend: str,
        precision: str,
        direction: str,
        *,
        keeps_expected: bool = False,
        can_capture: bool = True,
    ) -> None:
        self.can_capture = can_capture and direction == "forward"
        self.make, self.size, self.direction = make, size, direction
        self.backend, self.precision = backend, precision
        self.keeps_expected = keeps_expected

    def __call__(self, lab: Lab) -> Result:
        works = [
            self._work(lab, torch.float32, seed) for seed in range(1 if lab.is_quick else N_INPUTS)
        ]
        calls = [self._call(lab, work, self.backend, self.precision) for work in works]
        timing = lab.clock.time(calls, can_capture=self.can_capture)
        found = calls[0]()
        checks = [self._check(lab, works[0], found)]
        return Result(timing.figures() | self._rates(lab, works[0], timing), checks)

    def _work(self, lab: Lab, dtype: torch.dtype, seed: int) -> Work:
        return self.make(Draw(lab.device, dtype, seed), *self.size)

    def _call(
        self, lab: Lab, work: Work, backend: str, precision: str
    ) -> Callable[[], list[Tensor]]:
        if self.direction == "forward":

            def forward() -> list[Tensor]:
                with torch.no_grad():
                    return list(work.call(backend, precision))

            return forward
        results = [each for each in work.call(backend, precision) if each.requires_grad]
        draw = Draw(lab.device, results[0].dtype, 99)
        grads = [draw.normal(*each.shape) for each in results]

        def backward() -> list[Tensor]:
            return list(torch.autograd.grad(results, work.leaves, grads, retain_graph=True))

        return backward

    def _check(self, lab: Lab, work: Work, found: list[Tensor]) -> Check:
        def expect() -> tuple[list[Tensor], float]:
            exact = self._call(lab, self._work(lab, torch.float64, 0), "reference", "ieee")()
            is_rounded = self.precision != "ieee"
            with RoundedProducts(self.precision) if is_rounded else nullcontext():
                plain = self._call(lab, work, "reference", "ieee")()
            return exact, ERROR_FACTOR * relative_error(plain, exact) + ERROR_FLOOR

        key = ("op", self.make, self.size, self.direction, self.precision)
        exact, allowed = lab.keep(key, expect) if self.keeps_expected else expect()
        return Check("rms error against float64", relative_error(found, exact), allowed)

    def _rates(self, lab: Lab, work: Work, timing: Timing) -> dict[str, Any]:
        # The backward needs the forward once more, and two products for each of its own.
        times = 3 if self.direction == "backward" else 1
        figures = {
            "gb_per_s": 1e-9 * times * work.n_bytes / timing.median_s,
            "tflop_per_s": 1e-12 * times * work.n_flops / timing.median_s,
        }
        floors = floors_of(work, lab.ceilings, self.precision)
        if floors:
            floor = times * max(floors.values())
            figures |= {
                "floor_s": floor,
                "floor_of": max(floors, key=lambda name: floors[name]),
                "share_of_floor": floor / timing.median_s,
            }
        return figures


def floors_of(work: Work, ceilings: dict[str, float], precision: str) -> dict[str, float]:
    """Return the least seconds that products, memory and element-wise work each need, as far as ceilings are known."""
    rates = {
        "products": (work.n_flops, ceilings.get(f"{precision}_flop_per_s", 0.0)),
        "memory": (work.n_bytes, ceilings.get("bytes_per_s", 0.0)),
        "lanes": (work.n_lanes, ceilings.get("lanes_per_s", 0.0)),
    }
    return {name: amount / rate for name, (amount, rate) in rates.items() if amount and rate}


MAKERS: dict[str, tuple[Make, bool, bool]] = {
    # Maker, whether it has products, whether it has a backward.
    "painn_message": (message_work, True, True),
    "painn_update": (update_work, True, True),
    "mlp": (mlp_work, True, True),
    "time_embed": (time_embed_work, True, True),
    "readout_step": (readout_work, True, False),
    "edge_embed": (edge_embed_work, False, True),
    "edge_geometry": (geometry_work, False, True),
    "center": (center_work, False, True),
}
# First what the goals are stated for.
MESSAGE_SIZES = (
    (20, 1024, 64),
    (68, 64, 64),
    (166, 16, 64),
    (18, 64, 64),
    (20, 1024, 128),
    (20, 256, 32),
)


def op_cases(lab: Lab) -> Iterator[Case]:
    """Yield the cases of the network's ops: Triton in each precision, and the definition in plain PyTorch."""
    for op, (_, has_products, has_backward) in MAKERS.items():
        is_message = op == "painn_message"
        sizes = MESSAGE_SIZES if is_message else ((20, 1024, 64),)
        if lab.is_quick:
            sizes = ((3, 2, 32),)
        directions = ("forward", "backward") if has_backward else ("forward",)
        for rank, size in enumerate(sizes):
            for direction in directions:
                for precision in PRECISIONS if has_products else ("ieee",):
                    if lab.is_quick and precision != "bf16" and has_products:
                        continue
                    importance = 1 if is_message and rank == 0 else 3 + rank
                    yield _case(op, size, "triton", precision, direction, importance)
                importance = (2 if is_message else 6) + rank
                yield _case(op, size, "reference", "ieee", direction, importance)


def _case(
    op: str,
    size: tuple[int, int, int],
    backend: str,
    precision: str,
    direction: str,
    importance: int,
) -> Case:
    n_atoms, n_molecules, width = size
    about = {
        "op": op,
        "direction": direction,
        "backend": backend,
        "precision": precision,
        "n_atoms": n_atoms,
        "n_replicas": n_molecules,
        "n_features": width,
    }
    return Case(
        name=f"{op} {direction} {n_atoms}x{n_molecules} F{width} {backend} {precision}",
        kind="op",
        about=about,
        importance=importance,
        seconds=4.0,
        run=OpRun(MAKERS[op][0], size, backend, precision, direction),
    )


def ceiling_cases() -> Iterator[Case]:
    """Yield the case that measures the ceilings, to be run before all others."""
    yield Case(
        name="ceilings",
        kind="ceiling",
        about={},
        importance=0,
        seconds=5.0,
        run=measure_ceilings,
    )


def measure_ceilings(lab: Lab) -> Result:
    """Measure what copies and products of large matrices reach; count the lanes."""
    figures = {"bytes_per_s": _copy_rate(lab)}
    figures |= {f"{name}_flop_per_s": rate for name, rate in _product_rates(lab).items()}
    lanes = _lanes_per_s(lab)
    if lanes is not None:
        figures["lanes_per_s"] = lanes
    lab.ceilings |= figures
    return Result(figures)


def _copy_rate(lab: Lab) -> float:
    """Return the bytes read and written per second in a copy of 4 GB."""
    n_bytes = 4 * 10**9 if lab.is_cuda else 10**7
    source = torch.ones(n_bytes // 4, device=lab.device)
    target = torch.empty_like(source)
    return 2 * n_bytes / lab.clock.time([lambda: target.copy_(source)]).median_s


def _product_rates(lab: Lab) -> dict[str, float]:
    """Return flop per second of square products, by precision of the Triton kernels."""
    n = 8192 if lab.is_cuda else 256
    rates = {}
    before = torch.get_float32_matmul_precision()
    for precision, dtype in (
        ("ieee", torch.float32),
        ("tf32", torch.float32),
        ("bf16", torch.bfloat16),
    ):
        a, b = (torch.randn(n, n, device=lab.device).to(dtype) for _ in range(2))
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        try:
            rates[precision] = 2 * n**3 / lab.clock.time([partial(torch.mm, a, b)]).median_s
        finally:
            torch.set_float32_matmul_precision(before)
    # Three products of bf16 each.
    rates["fp32"] = rates["bf16"] / 3
    return rates


def _lanes_per_s(lab: Lab) -> float | None:
    """Return element-wise instructions per second: 128 lanes of each multiprocessor at the highest clock."""
    if not lab.is_cuda:
        return None
    query = ["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout  # noqa: S603
        megahertz = float(said.splitlines()[0])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None
    n_multiprocessors = torch.cuda.get_device_properties(lab.device).multi_processor_count
    rate = 128.0 * n_multiprocessors * megahertz * 1e6
    return rate if math.isfinite(rate) else None
