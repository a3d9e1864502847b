"""Triton kernels of ``painn_message`` as ``torch.ops.tito_fast.painn_message_triton`` and its backward."""

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.mlp_parameters import MlpParameters
from tito_fast.ops.native_call import dense
from tito_fast.ops.painn_message.graph import MessageGraph
from tito_fast.ops.painn_message.native import (
    INPUTS,
    MessageOptions,
    MessageTensors,
    fake_message,
    fake_message_backward,
    register_message_gradient,
)
from tito_fast.ops.painn_message.triton_kernel import FORWARD, painn_message_fwd_kernel
from tito_fast.ops.painn_message.triton_pack import PackedWeights, pack_weights
from tito_fast.ops.triton_gradients import on_device
from tito_fast.ops.triton_launch import choose_launch
from tito_fast.types import ProductPrecision

define(
    f"painn_message_triton({INPUTS}, str precision, bool adds_atoms=False, Tensor[]? packed=None, int low_offset=0) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
define(
    "painn_message_triton_backward(Tensor grad_scalars, Tensor grad_vectors, Tensor grad_edges, Tensor cross_sum, "
    f"{INPUTS}, bool wants_geometry, str precision, bool adds_atoms=False) -> Tensor[]"
)

_PROGRAMS_PER_MULTIPROCESSOR = 4


def painn_message_triton(
    tensors: MessageTensors,
    graph: MessageGraph,
    phi: MlpParameters,
    filter_: MlpParameters,
    options: MessageOptions,
    precision: ProductPrecision,
    adds_atoms: bool,
    packed: PackedWeights | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Call the registered op; arguments already checked."""
    more = () if packed is None else packed
    scalars, vectors, edges, _ = torch.ops.tito_fast.painn_message_triton(
        *tensors, list(graph), list(phi), list(filter_), *options, precision, adds_atoms, *more
    )
    return scalars, vectors, edges


def _forward(
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    graph: list[Tensor],
    phi: list[Tensor],
    filter_: list[Tensor],
    distance_length: float,
    has_edges: bool,
    adds_edges: bool,
    precision: ProductPrecision,
    adds_atoms: bool = False,
    packed: list[Tensor] | None = None,
    low_offset: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    outputs = fake_message(
        scalars, vectors, edge_features, pair_dist, vec_saturated, graph, phi, filter_,
        distance_length, has_edges, adds_edges,
    )  # fmt: skip
    n_atoms, width = scalars.shape
    if n_atoms == 0:
        return outputs
    if pair_dist.dtype == torch.float64:
        # Numbers reach kernels as float32.
        pair_dist, distance_length = pair_dist / distance_length, 1.0
    if packed is None:
        both = MlpParameters(*phi), MlpParameters(*filter_)
        ((packed, low_offset),) = pack_weights([both], precision)
    launch = choose_launch(FORWARD, scalars.device, width, precision)
    inputs = dense(
        scalars,
        scalars if vectors is None else vectors,
        edge_features,
        pair_dist,
        vec_saturated,
        *(graph[index] for index in (0, 2, 3)),
        *_with_weights(phi, packed[:3]),
        *_with_weights(filter_, packed[3:]),
    )
    n_tiles = -(-n_atoms // launch.tile["RECEIVERS"])
    with on_device(scalars):
        painn_message_fwd_kernel[(min(n_tiles, _most_programs(scalars.device)),)](
            *inputs,
            *outputs,
            n_atoms,
            distance_length,
            low_offset,
            HAS_VECTORS=vectors is not None,
            HAS_EDGES=has_edges,
            ADDS_EDGES=adds_edges,
            ADDS_ATOMS=adds_atoms,
            WIDTH=width,
            PRECISION=precision,
            **launch.options,
        )
    return outputs


def _with_weights(parameters: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Return the parameters of an mlp with other weights."""
    first, second, last = weights
    return list(
        MlpParameters(*parameters)._replace(
            first_weight=first, second_weight=second, last_weight=last
        )
    )


def _most_programs(device: torch.device) -> int:
    """Return how many programs share a device's tiles; no result depends on it."""
    if device.type != "cuda":
        return 2
    n_multiprocessors: int = torch.cuda.get_device_properties(device).multi_processor_count
    return n_multiprocessors * _PROGRAMS_PER_MULTIPROCESSOR


def _backward(
    grad_scalars: Tensor,
    grad_vectors: Tensor,
    grad_edges: Tensor,
    cross_sum: Tensor,
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    graph: list[Tensor],
    phi: list[Tensor],
    filter_: list[Tensor],
    distance_length: float,
    has_edges: bool,
    adds_edges: bool,
    wants_geometry: bool,
    precision: ProductPrecision,
    adds_atoms: bool = False,
) -> list[Tensor]:
    from tito_fast.ops.painn_message.triton_backward import (  # noqa: PLC0415  evaluation needs none of it
        painn_message_backward_triton,
    )

    d_scalars, d_vectors, *others = painn_message_backward_triton(
        grad_scalars, grad_vectors, grad_edges, cross_sum,
        scalars, vectors, edge_features, pair_dist, vec_saturated,
        graph, phi, filter_, distance_length, has_edges, adds_edges, wants_geometry, precision,
    )  # fmt: skip
    if adds_atoms:
        d_scalars = d_scalars + grad_scalars
        d_vectors = d_vectors if vectors is None else d_vectors + grad_vectors
    return [d_scalars, d_vectors, *others]


def _fake_forward(
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    graph: list[Tensor],
    phi: list[Tensor],
    filter_: list[Tensor],
    distance_length: float,
    has_edges: bool,
    adds_edges: bool,
    precision: str,  # noqa: ARG001, the schema's argument
    adds_atoms: bool = False,  # noqa: ARG001
    packed: list[Tensor] | None = None,  # noqa: ARG001
    low_offset: int = 0,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return fake_message(
        scalars, vectors, edge_features, pair_dist, vec_saturated, graph, phi, filter_,
        distance_length, has_edges, adds_edges,
    )  # fmt: skip


def _fake_backward(
    grad_scalars: Tensor,
    grad_vectors: Tensor,
    grad_edges: Tensor,
    cross_sum: Tensor,
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    graph: list[Tensor],
    phi: list[Tensor],
    filter_: list[Tensor],
    distance_length: float,
    has_edges: bool,
    adds_edges: bool,
    wants_geometry: bool,
    precision: str,  # noqa: ARG001, the schema's argument
    adds_atoms: bool = False,  # noqa: ARG001
) -> list[Tensor]:
    return fake_message_backward(
        grad_scalars, grad_vectors, grad_edges, cross_sum,
        scalars, vectors, edge_features, pair_dist, vec_saturated,
        graph, phi, filter_, distance_length, has_edges, adds_edges, wants_geometry,
    )  # fmt: skip


for _device in ("CPU", "CUDA"):
    implement("painn_message_triton", _forward, _device)
    implement("painn_message_triton_backward", _backward, _device)
implement_fake("painn_message_triton", _fake_forward)
implement_fake("painn_message_triton_backward", _fake_backward)
register_message_gradient("painn_message_triton")
