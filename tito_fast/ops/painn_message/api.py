"""Public function of the op ``painn_message``."""

from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.ops.mlp_parameters import MlpParameters, triton_mlp_problem
from tito_fast.ops.painn_message import native
from tito_fast.ops.painn_message.graph import MessageGraph
from tito_fast.ops.painn_message.reference import painn_message_reference
from tito_fast.ops.painn_message.triton_pack import PackedWeights
from tito_fast.ops.resolve import resolve_backend
from tito_fast.ops.triton_launch import check_product
from tito_fast.types import Backend, ProductPrecision
from tito_fast.validation import (
    check_dtype,
    check_floating,
    check_positive,
    check_same_device,
    check_shape,
)


class MessageResult(NamedTuple):
    """What a message gives.

    Parameters
    ----------
    scalars : (n_atoms, width)
        ``Σ_j ds_ij``, added to ``scalars`` if wanted.
    vectors : (n_atoms, 3, width)
        ``Σ_j gate_ij v_j + dir_ij u_ij + cross_ij (u_ij × v_i)``, likewise.
    edges : (n_edges, width) or None
        ``e_ij + de_ij``, or ``de_ij``; None if they were not wanted.
    """

    scalars: Tensor
    vectors: Tensor
    edges: Tensor | None


def painn_message(  # noqa: PLR0913, the layer as it is
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    *,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    graph: MessageGraph,
    phi: MlpParameters,
    filter_: MlpParameters,
    distance_length: float,
    has_edges: bool = True,
    adds_edges: bool = True,
    adds_atoms: bool = False,
    backend: Backend = "auto",
    precision: ProductPrecision = "ieee",
    packed: PackedWeights | None = None,
) -> MessageResult:
    """Send scalars, vectors and edge features along the edges and sum them over sources.

    ``[gate, dir, ds, de, cross] = phi([s_j, e_ij]) ⊙ filter(enc(d_ij))``, with u the saturated edge vector;
    the cross product takes the receiver's vectors.

    Parameters
    ----------
    scalars
        (n_atoms, width) float32 or float64.
    vectors
        (n_atoms, 3, width), or None: all zero, and the gate and cross blocks are then not computed.
    edge_features
        (n_edges, width); backend ``triton`` takes and returns bfloat16 edges, too.
    pair_dist
        (n_pairs,), distance of each pair of atoms, in the unit of ``distance_length``.
    vec_saturated
        (n_edges, 3), ``edge_vec / (1 + edge_dist)``.
    graph
        From :func:`tito_fast.ops.message_graph`.
    phi
        2 width → width → 5 width.
    filter_
        width → width → 5 width; reads the encoded distance.
    distance_length
        Length of the encoding: cos and sin of kπ d / length, k = 1 … width / 2.
    has_edges
        Whether the new edge features are wanted; a last layer leaves them out.
    adds_edges
        Whether ``edges`` are ``e + de`` or ``de`` alone.
    adds_atoms
        Whether ``scalars`` and ``vectors`` are the given ones plus the sums, or the sums alone.
    backend
        ``auto``, ``native``, ``triton`` (widths 32, 64, 128), ``reference`` or ``eager`` (the same as
        ``reference``).
    precision
        How backend ``triton`` multiplies: ``ieee``, ``fp32`` (three bf16 products), ``tf32`` or ``bf16``; the others
        know ``ieee`` only.
    packed
        What :func:`tito_fast.ops.painn_message.triton_pack.pack_weights` made of ``phi`` and ``filter_`` in this
        precision, for ``triton``, which else does so at every call.

    Returns
    -------
    MessageResult

    Raises
    ------
    ValueError
        A shape is wrong, the width is odd, or the graph is none.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here, or not at this width, or not in ``precision``.

    Notes
    -----
    Native: no tensor of (n_edges, 5 width) is ever made; the backward computes the edges' MLPs again, so that a
    layer keeps only its inputs. 28 width² multiply-adds per edge forward, of which half are shared by the two
    edges of a pair. Deterministic, and bitwise independent of the batch and of the number of threads; gradients of
    weights are summed in an order that follows from the graph. Differentiable once, in all tensors but the graph's.

    References
    ----------
    PaiNN, arXiv:2102.03150, eqs. 7-8; TITO, arXiv:2510.07589 (edge features, cross product).

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import message_graph, painn_message
    >>> from tito_fast.ops.mlp_parameters import MlpParameters
    >>> def mlp(n_in, n, n_out):
    ...     norm = torch.zeros(n), torch.ones(n), torch.zeros(n)
    ...     first, second, last = torch.eye(n, n_in), torch.eye(n), torch.eye(n_out, n)
    ...     return MlpParameters(first, *norm, second, *norm, last, torch.zeros(n_out))
    >>> graph = message_graph(torch.tensor([[1, 0], [0, 1]]), batch_ptr=torch.tensor([0, 2]), n_atoms=2)
    >>> result = painn_message(
    ...     torch.ones(2, 4), None, torch.ones(2, 4), pair_dist=torch.ones(1), graph=graph,
    ...     vec_saturated=torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]]),
    ...     phi=mlp(8, 4, 20), filter_=mlp(4, 4, 20), distance_length=10.0)
    >>> result.vectors.shape
    torch.Size([2, 3, 4])
    """
    _check_graph(graph, scalars)
    _check(scalars, vectors, edge_features, pair_dist, vec_saturated, graph)
    width = scalars.shape[1]
    check_positive("distance_length", distance_length)
    check_mlp("phi", phi, (2 * width, width, 5 * width), scalars)
    check_mlp("filter_", filter_, (width, width, 5 * width), scalars)
    implementation = resolve_backend(
        "painn_message", backend, scalars.device, triton_limit=triton_mlp_problem(filter_)
    )
    check_product(implementation, precision, scalars)
    if implementation != "triton" or edge_features.dtype != torch.bfloat16:
        check_dtype("edge_features", edge_features, scalars.dtype)
    tensors = native.MessageTensors(scalars, vectors, edge_features, pair_dist, vec_saturated)
    options = native.MessageOptions(distance_length, has_edges, adds_edges)
    if implementation == "native":
        ds, dv, edges = native.painn_message_native(tensors, graph, phi, filter_, options)
    elif implementation == "triton":
        from tito_fast.ops.painn_message import triton_op  # noqa: PLC0415  Triton is optional

        ds, dv, edges = triton_op.painn_message_triton(
            tensors, graph, phi, filter_, options, precision, adds_atoms, packed
        )
    else:
        ds, dv, edges = painn_message_reference(
            scalars,
            vectors,
            edge_features,
            pair_dist,
            vec_saturated,
            graph,
            phi,
            filter_,
            distance_length,
            adds_edges,
        )
    # The Triton kernel has added them.
    if adds_atoms and implementation != "triton":
        ds, dv = scalars + ds, dv if vectors is None else vectors + dv
    return MessageResult(ds, dv, edges if has_edges else None)


def check_mlp(
    name: str, parameters: MlpParameters, sizes: tuple[int, int, int], like: Tensor
) -> None:
    """Raise unless ``parameters`` map n_in → n_hidden → n_out in the dtype and on the device of ``like``."""
    n_in, n_hidden, n_out = sizes
    for field, tensor in zip(parameters._fields, parameters, strict=True):
        shapes: dict[str, tuple[int, ...]] = {
            "first_weight": (n_hidden, n_in),
            "second_weight": (n_hidden, n_hidden),
            "last_weight": (n_out, n_hidden),
            "last_bias": (n_out,),
        }
        check_shape(f"{name}.{field}", tensor, shapes.get(field, (n_hidden,)))
        check_dtype(f"{name}.{field}", tensor, like.dtype)
        check_same_device(f"{name}.{field}", tensor, "scalars", like)


def _check_graph(graph: MessageGraph, like: Tensor) -> None:
    n_edges = graph.source.numel()
    shapes: dict[str, tuple[int | str, ...]] = {
        "edge_ptr": ("n_atoms + 1",),
        "source_ptr": ("n_atoms + 1",),
        "pair_edges": ("n_pairs", 2),
        "batch_ptr": ("n_molecules + 1",),
    }
    for name, tensor in zip(graph._fields, graph, strict=True):
        check_shape(f"graph.{name}", tensor, shapes.get(name, (n_edges,)))
        check_dtype(f"graph.{name}", tensor, torch.int64)
        check_same_device(f"graph.{name}", tensor, "scalars", like)
        if name.endswith("_ptr") and tensor.numel() == 0:
            raise ValueError(f"graph.{name}: expected one start or more, got none")


def _check(
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    graph: MessageGraph,
) -> None:
    check_floating("scalars", scalars)
    check_shape("scalars", scalars, (graph.n_atoms, "width"))
    width, n_edges = scalars.shape[1], graph.source.shape[0]
    if width < 2 or width % 2:
        raise ValueError(f"scalars: expected an even width of 2 or more, got {width}")
    tensors = {
        "edge_features": (edge_features, (n_edges, width)),
        "pair_dist": (pair_dist, (graph.n_pairs,)),
        "vec_saturated": (vec_saturated, (n_edges, 3)),
    }
    if vectors is not None:
        tensors["vectors"] = (vectors, (graph.n_atoms, 3, width))
    for name, (tensor, shape) in tensors.items():
        if name != "edge_features":
            check_dtype(name, tensor, scalars.dtype)
        check_shape(name, tensor, shape)
        check_same_device(name, tensor, "scalars", scalars)
