"""Gradients of weights from rows that a Triton kernel left: products and sums over all rows."""

import contextlib
from collections.abc import Mapping

import torch
from torch import Tensor

from tito_fast.ops.triton_launch import Launch, LaunchTable
from tito_fast.ops.triton_mlp import ACTIVATIONS, WORK_SLOTS, rows_product_kernel
from tito_fast.types import PRODUCT_PRECISIONS, ProductPrecision

ROWS_PRODUCT = Launch({"TILE": 32, "BLOCK": 32}, num_warps=4)

_FEWEST_ROWS = 256
_MOST_SPLITS = 64


def mlp_launches(tiles: Mapping[int, tuple[int, int]]) -> LaunchTable:
    """Return one table for both architectures and every precision: (rows of a program, warps) by features."""
    return {
        (architecture, width, precision): Launch({"BLOCK": block}, num_warps)
        for architecture in (80, 90)
        for precision in PRODUCT_PRECISIONS
        for width, (block, num_warps) in tiles.items()
    }


def on_device(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context in which kernels are launched on the device of ``like``."""
    return torch.cuda.device(like.device) if like.is_cuda else contextlib.nullcontext()


def n_wide_outputs(n_out: int, width: int) -> int:
    """Return how many blocks of ``width`` a last linear has, or 0 where it has another number of outputs."""
    return n_out // width if n_out % width == 0 else 0


def rows_product(left: Tensor, right: Tensor, precision: ProductPrecision) -> Tensor:
    """Return ``left.T @ right``, (n_left, n_right), of dense (n_rows, n_left) and (n_rows, n_right).

    Rows are cut into at most 64 splits by their number alone, each summed in order, and the sums added in
    order: deterministic, no atomics.
    """
    n_rows, n_left, n_right = left.shape[0], left.shape[1], right.shape[1]
    if n_rows == 0:
        return left.new_zeros((n_left, n_right))
    block, tile = ROWS_PRODUCT.tile["BLOCK"], ROWS_PRODUCT.tile["TILE"]
    rows_per_split = max(_FEWEST_ROWS, -(-n_rows // (_MOST_SPLITS * block)) * block)
    n_splits = -(-n_rows // rows_per_split)
    partial = left.new_empty((n_splits, n_left, n_right))
    grid = (n_splits * -(-n_left // tile) * -(-n_right // tile),)
    rows_product_kernel[grid](
        left,
        right,
        partial,
        n_rows,
        rows_per_split,
        n_left,
        n_right,
        PRECISION=precision,
        **ROWS_PRODUCT.options,
    )
    return partial.sum(0)


def empty_work(like: Tensor, n_rows: int, width: int, *, wants: bool) -> Tensor:
    """Return memory for what the kernels call ``work``; without elements where it is not wanted."""
    return like.new_empty((WORK_SLOTS, n_rows, width) if wants else 0)


def mlp_gradients(
    work: Tensor, grad: Tensor, first_weight: Tensor, precision: ProductPrecision
) -> list[Tensor]:
    """Return the gradients of an mlp's ten tensors, in their order.

    Parameters
    ----------
    work
        (8, n_rows, F), as a kernel wrote it.
    grad
        (n_rows, n_out), of the outputs.
    first_weight
        The first of the ten, already computed.
    precision
        Of the products.
    """
    # One at a time: outputs of an op may not be views of the same memory.
    sums = [rows.sum(0) for rows in work[ACTIVATIONS:]]
    return [
        first_weight,
        *sums[:3],
        rows_product(work[5], work[0], precision),
        *sums[3:],
        rows_product(grad, work[1], precision),
        grad.sum(0),
    ]


def first_hidden_gradient(work: Tensor) -> Tensor:
    """Return the gradient of what the first linear gave, (n_rows, F)."""
    return work[ACTIVATIONS]
