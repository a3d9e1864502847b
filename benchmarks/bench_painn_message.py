"""One message: native against plain PyTorch, as written, as dense tiles, and compiled.

``share_of_sgemm`` is the rate of the products that the native kernel needs (21 F² flop per edge forward: 14 F² of φ
and, per pair, 14 F² of the filter; four times that with the backward, which runs the forward again and has two
products for each of its own) over the rate of sgemm at the shape of its largest product, measured in the same run.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.systems import System, sgemm_gflops
from tito_fast.models.tito import eager_layers
from tito_fast.models.tito.eager_blocks import pair_encoding
from tito_fast.models.tito.eager_tiles import make_tiles, tile_geometry
from tito_fast.models.tito.eager_weights import CROSS, DIRECTION, EDGES, GATE, SCALARS
from tito_fast.models.tito.eager_weights import message_weights as eager_weights
from tito_fast.models.tito.layers import LayerShape, Message, Mlp
from tito_fast.ops import message_graph, painn_message
from tito_fast.ops.mlp_parameters import MlpParameters
from tito_fast.ops.painn_message.reference import painn_message_reference
from tito_fast.testing.tolerance import check_against_reference

SYSTEMS = [
    System(f"{n_atoms} atoms", n_atoms, n_replicas)
    for n_atoms, n_replicas in product((18, 22, 68, 166, 250), (1, 16, 64))
]
LENGTH = 10.0
BACKENDS = ("native", "eager", "reference")
DIRECTIONS = ("forward", "forward and backward")
# Multiply-adds of a case that plain PyTorch does within about a second.
MOST_WORK = 1.3e10
# Edges of a case that is only checked.
MOST_EDGES_OF_CHECK = 500
COMPILED = System("22 atoms", 22, 16)


def _fits(case: System, width: int, direction: str) -> bool:
    return case.n_edges * 21 * width**2 * (1 if direction == "forward" else 4) <= MOST_WORK


CASES = [
    (backend, case, width, direction)
    for case, width, direction, backend in product(SYSTEMS, (64, 128), DIRECTIONS, BACKENDS)
    if _fits(case, width, direction)
]
# Compiling takes far longer than all the rest.
CASES += [("compiled reference", COMPILED, 64, direction) for direction in DIRECTIONS]


class Inputs:
    """The arguments of one message over all edges of a system, in one dtype."""

    def __init__(self, case: System, width: int, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        self.case, self.width, n = case, width, case.n_atoms
        self.batch = case.batch()
        n_atoms, n_edges = self.batch.n_atoms, case.n_edges
        starts = torch.arange(case.n_replicas).repeat_interleave(n * (n - 1)) * n
        edges = (~torch.eye(n, dtype=torch.bool)).nonzero().T.flip(0).repeat(1, case.n_replicas)
        self.graph = message_graph(starts + edges, batch_ptr=self.batch.batch_ptr, n_atoms=n_atoms)
        self.positions = torch.randn(n_atoms, 3, generator=generator).to(dtype)
        vec = self.positions[self.graph.source] - self.positions[self.graph.receiver]
        dist = vec.norm(dim=1)
        self.pair_dist = dist[self.graph.pair_edges[:, 0]]
        self.vec_saturated = vec / (1 + dist).unsqueeze(1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.message = Message(LayerShape(width, None, LENGTH))
        self.message.to(dtype)
        self.features = [
            torch.randn(*shape, width, generator=generator).to(dtype).requires_grad_()
            for shape in ((n_atoms,), (n_atoms, 3), (n_edges,))
        ]
        self.grads = [
            torch.randn(feature.shape, generator=generator).to(dtype) for feature in self.features
        ]

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.features, *self.message.parameters()]

    def arguments(self) -> tuple[Any, ...]:
        """Arguments of the reference."""
        mlps = [_parameters(mlp) for mlp in (self.message.phi, self.message.filter)]
        return (*self.features, self.pair_dist, self.vec_saturated, self.graph, *mlps, LENGTH, True)


def _parameters(mlp: Mlp) -> MlpParameters:
    (first, second, last), (first_norm, second_norm) = mlp.linears, mlp.norms
    return MlpParameters(
        *(first.weight, first.bias, first_norm.weight, first_norm.bias),
        *(second.weight, second.bias, second_norm.weight, second_norm.bias),
        *(last.weight, last.bias),
    )


def _dense_tiles(inputs: Inputs) -> Callable[[], Sequence[Tensor]]:
    """Return the message as the eager backend computes it; tiles and geometry are made before."""
    tiles, _, _ = make_tiles(inputs.batch, n_features=inputs.width)
    geometries = [
        tile_geometry(tile, inputs.positions, graph_of=(), scaled_cutoff=None) for tile in tiles
    ]
    n = inputs.case.n_atoms
    is_edge = ~torch.eye(n, dtype=torch.bool).flatten()
    is_edge = is_edge.repeat(inputs.case.n_replicas)
    sizes = [tile.n_edges for tile in tiles]
    rows = torch.zeros(is_edge.numel(), dtype=torch.int64)
    rows[is_edge] = torch.arange(inputs.case.n_edges)

    def message() -> Sequence[Tensor]:
        scalars, vectors, edge_features = inputs.features
        weights = eager_weights(inputs.message, [GATE, DIRECTION, SCALARS, CROSS, EDGES])
        # The diagonal's edges are any: their filters are zero.
        edges = edge_features[rows].split(sizes)
        work = [
            eager_layers.Work(
                tile,
                geometry,
                pair_encoding(geometry.pair_dist, n_features=inputs.width, length=LENGTH),
            )
            for tile, geometry in zip(tiles, geometries, strict=True)
        ]
        shares = [eager_layers.edge_share_of(weights, tile_edges) for tile_edges in edges]
        sums = eager_layers.message_sums(weights, work, scalars, vectors, shares, owns_shares=False)
        return (
            torch.cat([each.scalars for each in sums]),
            torch.cat([each.vectors for each in sums]),
            edge_features + torch.cat([each.edges for each in sums])[is_edge],
        )

    return message


def _message(backend: str, inputs: Inputs) -> Callable[[], Sequence[Tensor]]:
    if backend == "eager":
        return _dense_tiles(inputs)
    if backend == "native":
        *data, pair_dist, vec_saturated, graph, phi, filter_, length, adds_edges = (
            inputs.arguments()
        )
        return lambda: painn_message(
            *data,
            pair_dist=pair_dist,
            vec_saturated=vec_saturated,
            graph=graph,
            phi=phi,
            filter_=filter_,
            distance_length=length,
            adds_edges=adds_edges,
            backend="native",
        )
    reference: Callable[..., Sequence[Tensor]] = painn_message_reference
    if backend == "compiled reference":
        torch.compiler.reset()
        reference = torch.compile(painn_message_reference, dynamic=False)
    return lambda: reference(*inputs.arguments())


def _run(backend: str, inputs: Inputs, direction: str) -> Callable[[], Sequence[Tensor]]:
    message = _message(backend, inputs)

    def forward() -> Sequence[Tensor]:
        with torch.no_grad():
            return message()

    def forward_and_backward() -> Sequence[Tensor]:
        results = message()
        return (*results, *torch.autograd.grad(results, inputs.leaves, inputs.grads))

    return forward if direction == "forward" else forward_and_backward


def _check(found: Sequence[Tensor], plain: Sequence[Tensor], exact: Sequence[Tensor]) -> None:
    """Hold all results together to the reference, each in units of its largest element."""
    scales = [float(each.detach().abs().max()) for each in exact]
    kernel, same_dtype, reference64 = (
        torch.cat(
            [(each.detach() / scale).flatten() for each, scale in zip(many, scales, strict=True)]
        )
        for many in (found, plain, exact)
    )
    check_against_reference(kernel, same_dtype, reference64)


# torch.compile itself uses what torch deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("backend", "case", "width", "direction"),
    CASES,
    ids=lambda value: f"{value.name} x {value.n_replicas}" if isinstance(value, System) else None,
)
def test_painn_message(benchmark: Any, backend, case, width, direction):
    if benchmark.disabled and (
        case.n_edges > MOST_EDGES_OF_CHECK or backend == "compiled reference"
    ):
        pytest.skip("takes longer than a check may")
    inputs = Inputs(case, width, torch.float32)
    run = _run(backend, inputs, direction)
    if backend == "compiled reference":
        _compile_or_skip(run)
    found = benchmark(run)
    exact = _run("reference", Inputs(case, width, torch.float64), direction)()
    _check(found, _run("reference", inputs, direction)(), exact)

    flops = case.n_edges * 21 * width**2 * (1 if direction == "forward" else 4)
    benchmark.extra_info |= {
        "device": "cpu",
        "dtype": "float32",
        "threads": torch.get_num_threads(),
        "n_atoms": case.n_atoms * case.n_replicas,
        "n_edges": case.n_edges,
        "width": width,
        "flops": flops,
    }
    if benchmark.disabled:
        return
    seconds = benchmark.stats.stats.min
    sgemm = sgemm_gflops(4096, width, 5 * width)
    benchmark.extra_info |= {
        "ns_per_edge": round(1e9 * seconds / case.n_edges, 1),
        "gflops": round(1e-9 * flops / seconds, 2),
        "sgemm_gflops": round(sgemm, 1),
        "share_of_sgemm": round(1e-9 * flops / seconds / sgemm, 3),
    }


def _compile_or_skip(run: Callable[[], object]) -> None:
    try:
        run()
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"torch.compile cannot compile here: {error}")
