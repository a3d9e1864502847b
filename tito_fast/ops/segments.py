"""Sums over the atoms of each molecule in plain PyTorch, one fixed order per molecule."""

from typing import Any

import torch
from torch import Tensor


def molecule_sizes(batch_ptr: Tensor) -> Tensor:
    """Return the number of atoms of each molecule, (n_molecules,) int64."""
    return batch_ptr.diff()


def centered(positions: Tensor, batch_ptr: Tensor) -> Tensor:
    """Return ``positions_i - mean_{j in molecule(i)} positions_j``.

    Parameters
    ----------
    positions
        (n_atoms, 3) float.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.

    Returns
    -------
    Tensor
        (n_atoms, 3), dtype of ``positions``.

    Notes
    -----
    Each molecule is summed by itself in the order of its atoms: deterministic, and bitwise
    independent of the rest of the batch, forward and backward. Differentiable in ``positions`` any
    number of times. No synchronisation.
    """
    result: Tensor = _Centered.apply(positions, batch_ptr)  # type: ignore[no-untyped-call]
    return result


def _subtract_means(positions: Tensor, batch_ptr: Tensor) -> Tensor:
    sizes = molecule_sizes(batch_ptr)
    if positions.shape[0] == 0 or sizes.numel() == 0:
        return torch.zeros_like(positions)
    sums = torch.segment_reduce(
        positions.contiguous(), "sum", offsets=batch_ptr, axis=0, initial=0.0
    )
    means = sums / sizes.clamp(min=1).unsqueeze(1).to(positions.dtype)
    return positions - means.repeat_interleave(sizes, dim=0, output_size=positions.shape[0])


class _Centered(torch.autograd.Function):
    """Centring is a symmetric projection, so its backward is itself.

    Autograd's own backward would scatter the means' gradient with atomics on CUDA.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401, torch gives it no type
        positions: Tensor,
        batch_ptr: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(batch_ptr)
        return _subtract_means(positions, batch_ptr)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor, None]:
        (batch_ptr,) = ctx.saved_tensors
        return centered(grad, batch_ptr), None
