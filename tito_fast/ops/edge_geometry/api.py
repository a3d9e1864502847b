"""Public function of the op ``edge_geometry``."""

from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.ops.edge_geometry.reference import edge_geometry_reference
from tito_fast.ops.painn_message import MessageGraph
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import Backend
from tito_fast.validation import check_dtype, check_floating, check_same_device, check_shape


class EdgeGeometry(NamedTuple):
    """What ``painn_message`` reads of positions.

    Attributes
    ----------
    pair_dist
        (n_pairs,), the distance of each pair's atoms.
    vec_saturated
        (n_edges, 3), ``edge_vec / (1 + edge_dist)``.
    """

    pair_dist: Tensor
    vec_saturated: Tensor


def edge_geometry(
    positions: Tensor, graph: MessageGraph, *, backend: Backend = "auto"
) -> EdgeGeometry:
    """Measure the edges of a graph: distances once per pair, saturated vectors per edge.

    ``edge_vec = positions[source] - positions[receiver]``, ``edge_dist = sqrt(max(|edge_vec|², tiny))`` with
    the dtype's smallest normal number, so that a distance of zero has a gradient (of zero);
    ``vec_saturated = edge_vec / (1 + edge_dist)``, and ``pair_dist`` is that of ``pair_edges[:, 0]``.

    Parameters
    ----------
    positions
        (n_atoms, 3) float32 or float64, the model's unit of length.
    graph
        From ``message_graph``; its content is not checked.
    backend
        ``auto``, ``triton``, ``reference`` or ``eager`` (the same as ``reference``).

    Returns
    -------
    EdgeGeometry

    Raises
    ------
    ValueError
        A shape is wrong, or tensors are on several devices.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.

    Notes
    -----
    Triton: one launch forward, one backward, both deterministic and bitwise independent of the rest of the
    batch; no synchronisation, CUDA graphs yes. Differentiable in ``positions``, with Triton once.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import edge_geometry, message_graph
    >>> graph = message_graph(torch.tensor([[1, 0], [0, 1]]), batch_ptr=torch.tensor([0, 2]), n_atoms=2)
    >>> edge_geometry(torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), graph)
    EdgeGeometry(pair_dist=tensor([3.]), vec_saturated=tensor([[ 0.0000,  0.7500,  0.0000],
            [ 0.0000, -0.7500,  0.0000]]))
    """
    check_floating("positions", positions)
    _check_graph(graph, positions)
    check_shape("positions", positions, (graph.n_atoms, 3))
    if resolve_backend("edge_geometry", backend, positions.device) == "triton":
        from tito_fast.ops.edge_geometry import triton_op  # noqa: PLC0415  optional

        return EdgeGeometry(*triton_op.edge_geometry_triton(positions, graph))
    return EdgeGeometry(*edge_geometry_reference(positions, graph))


def _check_graph(graph: MessageGraph, positions: Tensor) -> None:
    n_edges = graph.source.numel()
    shapes: dict[str, tuple[int | str, ...]] = {
        "edge_ptr": ("n_atoms + 1",),
        "source_ptr": (graph.edge_ptr.numel(),),
        "pair_edges": ("n_pairs", 2),
        "batch_ptr": ("n_molecules + 1",),
    }
    for name, tensor in zip(graph._fields, graph, strict=True):
        check_shape(f"graph.{name}", tensor, shapes.get(name, (n_edges,)))
        check_dtype(f"graph.{name}", tensor, torch.int64)
        check_same_device(f"graph.{name}", tensor, "positions", positions)
    if graph.edge_ptr.numel() == 0:
        raise ValueError("graph.edge_ptr: expected one start or more, got none")
