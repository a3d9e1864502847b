"""Public function of the op ``edge_embed``."""

import torch
from torch import Tensor

from tito_fast.ops.edge_embed import native
from tito_fast.ops.edge_embed.reference import edge_embed_reference
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import Backend
from tito_fast.validation import check_dtype, check_floating, check_same_device, check_shape


def edge_embed(edge_type: Tensor, table: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Look up the features of each edge's bond type: ``features[e] = table[edge_type[e]]``.

    Parameters
    ----------
    edge_type
        (n_edges,) int64, 0 to n_types - 1; 0 where the atoms are not bonded, else the bond's code.
    table
        (n_types, n_features) float32 or float64.
    backend
        ``auto``, ``native`` (CPU tensors), ``triton``, ``reference`` or ``eager`` (the same as
        ``reference``).

    Returns
    -------
    Tensor
        (n_edges, n_features), dtype of ``table``, a new tensor.

    Raises
    ------
    ValueError
        A shape is wrong, or ``edge_type`` holds a type that ``table`` lacks. The content of
        ``edge_type`` is checked on CPU tensors; on CUDA tensors that would wait for the device.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.

    Notes
    -----
    Differentiable in ``table``, any number of times. Native: the gradient of a row is the sum over
    its edges in double, in fixed chunks that are added in their order, rounded once: deterministic,
    independent of the number of threads, no atomics. Triton: the same chunks of fixed lengths, in the
    dtype of ``table``; a type that ``table`` lacks gives NaN. No synchronisation.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import edge_embed
    >>> edge_embed(torch.tensor([2, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    tensor([[5., 6.],
            [1., 2.]])
    """
    check_dtype("edge_type", edge_type, torch.int64)
    check_shape("edge_type", edge_type, ("n_edges",))
    check_floating("table", table)
    check_shape("table", table, ("n_types", "n_features"))
    check_same_device("table", table, "edge_type", edge_type)
    chosen = resolve_backend("edge_embed", backend, edge_type.device)
    if chosen == "native":
        return native.edge_embed_native(edge_type, table)
    if edge_type.device.type == "cpu":
        _check_types(edge_type, table.shape[0])
    if chosen == "triton":
        from tito_fast.ops.edge_embed.triton_op import edge_embed_triton  # noqa: PLC0415  optional

        return edge_embed_triton(edge_type, table)
    return edge_embed_reference(edge_type, table)


def _check_types(edge_type: Tensor, n_types: int) -> None:
    bad = (edge_type < 0) | (edge_type >= n_types)
    if bad.any():
        edge = int(bad.nonzero()[0])
        raise ValueError(
            f"edge_type: expected 0 to n_types - 1 with n_types = {n_types}, "
            f"got {int(edge_type[edge])} at edge {edge}"
        )
