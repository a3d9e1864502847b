"""C++ kernels of ``painn_message`` as ``torch.ops.tito_fast.painn_message`` and its backward.

Names without an underscore serve the Triton kernels' registration, too: their op and its backward take one more
argument at the end, ``precision``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.library import define, dtype_suffix, implement, implement_fake
from tito_fast.ops.mlp_parameters import MlpParameters
from tito_fast.ops.painn_message.graph import MessageGraph

INPUTS = (
    "Tensor scalars, Tensor? vectors, Tensor edge_features, Tensor pair_dist, Tensor vec_saturated, "
    "Tensor[] graph, Tensor[] phi, Tensor[] filter, float distance_length, bool has_edges, bool adds_edges"
)
define(f"painn_message({INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)")
define(
    "painn_message_backward(Tensor grad_scalars, Tensor grad_vectors, Tensor grad_edges, Tensor cross_sum, "
    f"{INPUTS}, bool wants_geometry) -> Tensor[]"
)

_N_MLP = len(MlpParameters._fields)


class MessageTensors(NamedTuple):
    """The differentiable inputs apart from weights."""

    scalars: Tensor
    vectors: Tensor | None
    edge_features: Tensor
    pair_dist: Tensor
    vec_saturated: Tensor


class MessageOptions(NamedTuple):
    """Numbers and switches."""

    distance_length: float
    has_edges: bool
    adds_edges: bool


_N_OPTIONS = len(MessageOptions._fields)


def painn_message_native(
    tensors: MessageTensors,
    graph: MessageGraph,
    phi: MlpParameters,
    filter_: MlpParameters,
    options: MessageOptions,
) -> tuple[Tensor, Tensor, Tensor]:
    """Call the registered op; arguments already checked."""
    scalars, vectors, edges, _ = torch.ops.tito_fast.painn_message(
        *tensors, list(graph), list(phi), list(filter_), *options
    )
    return scalars, vectors, edges


def _addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


class _Call(NamedTuple):
    """What both kernels take; keeps the contiguous copies alive."""

    tensors: list[Tensor | None]
    graph: list[Tensor]
    phi: list[Tensor]
    filter_: list[Tensor]
    arguments: tuple[list[int], list[int], list[int], list[int], list[int]]
    options: tuple[int, bool, bool, bool, float, int]


def _call(
    tensors: Sequence[Tensor | None],
    graph: Sequence[Tensor],
    phi: Sequence[Tensor],
    filter_: Sequence[Tensor],
    options: MessageOptions,
) -> _Call:
    whole = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    edges = [tensor.contiguous() for tensor in graph]
    phi, filter_ = ([tensor.contiguous() for tensor in mlp] for mlp in (phi, filter_))
    source, _, edge_ptr, edge_pair, pair_edges, batch_ptr, *_ = edges
    scalars = tensors[0]
    width = 0 if scalars is None else scalars.shape[1]
    sizes = [edge_ptr.shape[0] - 1, source.shape[0], pair_edges.shape[0], batch_ptr.shape[0] - 1]
    return _Call(
        whole,
        edges,
        phi,
        filter_,
        (
            _addresses([batch_ptr, edge_ptr, source, edge_pair, pair_edges]),
            sizes,
            _addresses(whole),
            _addresses(phi),
            _addresses(filter_),
        ),
        (
            width,
            tensors[1] is not None,
            options.has_edges,
            options.adds_edges,
            options.distance_length,
            torch.get_num_threads(),
        ),
    )


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    outputs = fake_message(
        scalars, vectors, edge_features, pair_dist, vec_saturated, graph, phi, filter_,
        distance_length, has_edges, adds_edges,
    )  # fmt: skip
    call = _call(
        (scalars, vectors, edge_features, pair_dist, vec_saturated),
        graph,
        phi,
        filter_,
        MessageOptions(distance_length, has_edges, adds_edges),
    )
    kernel = getattr(native_module(), f"painn_message_fwd_cpu_{dtype_suffix(scalars.dtype)}")
    ds, dv, edges, cross_sum = outputs
    kept = [ds, dv, edges if has_edges else None, None if vectors is None else cross_sum]
    kernel(*call.arguments, _addresses(kept), *call.options)
    return outputs


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
) -> list[Tensor]:
    call = _call(
        (scalars, vectors, edge_features, pair_dist, vec_saturated),
        graph,
        phi,
        filter_,
        MessageOptions(distance_length, has_edges, adds_edges),
    )
    results = empty_gradients(
        scalars, vectors, edge_features, pair_dist, vec_saturated, phi, filter_, wants_geometry
    )
    d_scalars, d_vectors, d_edges, d_dist, d_vec = results[:5]
    has_vectors = vectors is not None
    whole = [
        grad_scalars.contiguous(),
        grad_vectors.contiguous(),
        grad_edges.contiguous() if has_edges else None,
        cross_sum.contiguous() if has_vectors else None,
    ]
    written = [
        d_scalars,
        d_vectors if has_vectors else None,
        d_edges,
        *((d_dist, d_vec) if wants_geometry else (None, None)),
    ]
    kernel = getattr(native_module(), f"painn_message_bwd_cpu_{dtype_suffix(scalars.dtype)}")
    kernel(
        *call.arguments,
        _addresses([*whole, *written]),
        _addresses(results[5 : 5 + _N_MLP]),
        _addresses(results[5 + _N_MLP :]),
        *call.options,
    )
    return results


def empty_gradients(
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    phi: list[Tensor],
    filter_: list[Tensor],
    wants_geometry: bool,
) -> list[Tensor]:
    """Return empty gradients of all inputs; those that are not wanted have no elements."""
    none = scalars.new_empty((0,))
    geometry = (pair_dist, vec_saturated) if wants_geometry else (none, none)
    inputs = (scalars, none if vectors is None else vectors, edge_features, *geometry)
    return [tensor.new_empty(tensor.shape) for tensor in (*inputs, *phi, *filter_)]


implement("painn_message", _forward, "CPU")
implement("painn_message_backward", _backward, "CPU")


def fake_message(
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,  # noqa: ARG001, the schema's argument
    vec_saturated: Tensor,  # noqa: ARG001
    graph: list[Tensor],  # noqa: ARG001
    phi: list[Tensor],  # noqa: ARG001
    filter_: list[Tensor],  # noqa: ARG001
    distance_length: float,  # noqa: ARG001
    has_edges: bool,
    adds_edges: bool,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return empty sums of scalars and of vectors, edges, and sums of crosses, as the op makes them."""
    n_atoms, width = scalars.shape
    return (
        scalars.new_empty((n_atoms, width)),
        scalars.new_empty((n_atoms, 3, width)),
        edge_features.new_empty((edge_features.shape[0] if has_edges else 0, width)),
        scalars.new_empty((n_atoms if vectors is not None else 0, 3, width)),
    )


implement_fake("painn_message", fake_message)


def fake_message_backward(
    grad_scalars: Tensor,  # noqa: ARG001, the schema's argument
    grad_vectors: Tensor,  # noqa: ARG001
    grad_edges: Tensor,  # noqa: ARG001
    cross_sum: Tensor,  # noqa: ARG001
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    graph: list[Tensor],  # noqa: ARG001
    phi: list[Tensor],
    filter_: list[Tensor],
    distance_length: float,  # noqa: ARG001
    has_edges: bool,  # noqa: ARG001
    adds_edges: bool,  # noqa: ARG001
    wants_geometry: bool,
) -> list[Tensor]:
    """Return empty gradients, as the backward makes them."""
    return empty_gradients(
        scalars, vectors, edge_features, pair_dist, vec_saturated, phi, filter_, wants_geometry
    )


implement_fake("painn_message_backward", fake_message_backward)


class _Message(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        op: str,
        graph: list[Tensor],
        options: tuple[Any, ...],
        *inputs: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tensors, phi, filter_ = inputs[:5], inputs[5 : 5 + _N_MLP], inputs[5 + _N_MLP :]
        with torch._C._AutoDispatchBelowAutograd():
            outputs: tuple[Tensor, Tensor, Tensor, Tensor] = getattr(torch.ops.tito_fast, op)(
                *tensors, graph, list(phi), list(filter_), *options
            )
        ctx.save_for_backward(*inputs, *graph, outputs[3])
        ctx.backward_op, ctx.options = f"{op}_backward", options
        ctx.mark_non_differentiable(outputs[3])
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_scalars: Tensor,
        grad_vectors: Tensor,
        grad_edges: Tensor,
        _: Tensor,
    ) -> tuple[Tensor | None, ...]:
        n_inputs = 5 + 2 * _N_MLP
        saved = ctx.saved_tensors
        inputs, graph, cross_sum = saved[:n_inputs], saved[n_inputs:-1], saved[-1]
        wants_geometry = any(ctx.needs_input_grad[6:8])
        gradients = getattr(torch.ops.tito_fast, ctx.backward_op)(
            grad_scalars,
            grad_vectors,
            grad_edges,
            cross_sum,
            *inputs[:5],
            list(graph),
            list(inputs[5 : 5 + _N_MLP]),
            list(inputs[5 + _N_MLP :]),
            *ctx.options[:_N_OPTIONS],
            wants_geometry,
            # Precision and whether atoms are added, if there are; packed weights are the forward's alone.
            *ctx.options[_N_OPTIONS : _N_OPTIONS + 2],
        )
        needed = ctx.needs_input_grad[3:]
        return (
            None,
            None,
            None,
            *(
                gradient if wanted else None
                for gradient, wanted in zip(gradients, needed, strict=True)
            ),
        )


def register_message_gradient(op: str) -> None:
    """Register the gradient of ``op``, whose backward is ``<op>_backward``."""

    def autograd(
        scalars: Tensor,
        vectors: Tensor | None,
        edge_features: Tensor,
        pair_dist: Tensor,
        vec_saturated: Tensor,
        graph: list[Tensor],
        phi: list[Tensor],
        filter_: list[Tensor],
        *options: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tensors = (scalars, vectors, edge_features, pair_dist, vec_saturated)
        inputs = (*tensors, *phi, *filter_)
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
            result: tuple[Tensor, Tensor, Tensor, Tensor] = _Message.apply(  # type: ignore[no-untyped-call]
                op, graph, options, *inputs
            )
            return result
        with torch._C._AutoDispatchBelowAutograd():
            outputs: tuple[Tensor, Tensor, Tensor, Tensor] = getattr(torch.ops.tito_fast, op)(
                *tensors, graph, phi, filter_, *options
            )
        return outputs

    implement(op, autograd, "Autograd")


register_message_gradient("painn_message")
