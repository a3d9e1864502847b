"""Rotations of all molecules at once in plain PyTorch: nothing is read back from the device."""

import torch
from torch import Tensor

from tito_fast.ops.segments import molecule_sizes

# Squaring k times tells eigenvalues apart that differ by a relative 37 / 2^k; 48 are enough for 1e-13,
# below which every rotation in question is as good as the best.
_N_SQUARINGS = 48
_SQUARINGS_BETWEEN_SCALINGS = 4
# Trace of the square of a projector over the square of its trace: 1 over its rank.
_PURITY_OF_ONE_AND_A_HALF = 0.75
# Squared cosine of half an angle, below which a rotation is a half turn.
_HALF_TURN = 1e-20


def ot_couple_rotations(x_0: Tensor, x_1: Tensor, batch_ptr: Tensor) -> Tensor:
    """Return ``x_0`` with each molecule turned onto ``x_1``; arguments as in :func:`tito_fast.ops.ot_couple`.

    The best rotation as a quaternion is the eigenvector of the largest eigenvalue of Horn's 4 × 4
    matrix K. ``K + |K| I`` is positive; squared again and again it becomes a multiple of the
    projector on that eigenvector. Where several rotations are equally good, the projector's first
    column is the one of the smallest angle.

    References
    ----------
    Horn, J. Opt. Soc. Am. A 4, 629 (1987), doi:10.1364/JOSAA.4.000629.
    """
    source, goal = x_0.to(torch.float64), x_1.to(torch.float64)
    sizes = molecule_sizes(batch_ptr)
    if source.shape[0] == 0 or sizes.numel() == 0:
        return torch.zeros_like(x_0)
    products = source.unsqueeze(2) * goal.unsqueeze(1)
    correlation = torch.segment_reduce(
        products.view(-1, 9), "sum", offsets=batch_ptr, axis=0, initial=0.0
    )
    rotation = _rotation(_quaternion(_horn(correlation)))
    of_atom = rotation.repeat_interleave(sizes, dim=0, output_size=source.shape[0])
    turned = (
        of_atom[:, :, 0] * source[:, None, 0]
        + of_atom[:, :, 1] * source[:, None, 1]
        + of_atom[:, :, 2] * source[:, None, 2]
    )
    return turned.to(x_0.dtype)


def _horn(correlation: Tensor) -> Tensor:
    """Return Horn's matrices (n_molecules, 4, 4) of ``sum_a source_i goal_j`` (n_molecules, 9)."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = correlation.unbind(1)
    rows = [
        *(xx + yy + zz, yz - zy, zx - xz, xy - yx),
        *(yz - zy, xx - yy - zz, xy + yx, zx + xz),
        *(zx - xz, xy + yx, yy - xx - zz, yz + zy),
        *(xy - yx, zx + xz, yz + zy, zz - xx - yy),
    ]
    return torch.stack(rows, dim=1).view(-1, 4, 4)


def _quaternion(horn: Tensor) -> Tensor:
    """Return the unit eigenvectors (n_molecules, 4) of the largest eigenvalues."""
    identity = torch.eye(4, dtype=horn.dtype, device=horn.device)
    size = horn.abs().amax(dim=(1, 2), keepdim=True)
    is_zero = size == 0
    scaled = horn / torch.where(is_zero, torch.ones_like(size), size)
    # No eigenvalue is below −4, as no entry is; a molecule without extent may keep its orientation.
    power = _scaled(torch.where(is_zero, identity, scaled + 4 * identity))
    for index in range(_N_SQUARINGS):
        power = _square(power)
        if index % _SQUARINGS_BETWEEN_SCALINGS == _SQUARINGS_BETWEEN_SCALINGS - 1:
            power = _scaled(power)
    weight = power.diagonal(dim1=1, dim2=2)
    # The column of the largest diagonal element is the one with the fewest lost digits.
    column = weight.argmax(dim=1)
    is_ambiguous = _trace(_square(power)) < _PURITY_OF_ONE_AND_A_HALF
    column = torch.where(is_ambiguous & (weight[:, 0] > _HALF_TURN), 0, column)
    found = power.gather(2, column.view(-1, 1, 1).expand(-1, 4, 1)).squeeze(2)
    length = torch.linalg.vector_norm(found, dim=1, keepdim=True)
    return found / length


def _square(matrix: Tensor) -> Tensor:
    """Return products (n, 4, 4) of symmetric matrices with themselves, each by itself: no library picks by n."""
    total = matrix[:, :, 0, None] * matrix[:, None, 0, :]
    for inner in (1, 2, 3):
        total = torch.addcmul(total, matrix[:, :, inner, None], matrix[:, None, inner, :])
    return total


def _trace(matrix: Tensor) -> Tensor:
    return matrix[:, 0, 0] + matrix[:, 1, 1] + matrix[:, 2, 2] + matrix[:, 3, 3]


def _scaled(matrix: Tensor) -> Tensor:
    return matrix / _trace(matrix).view(-1, 1, 1)


def _rotation(quaternion: Tensor) -> Tensor:
    w, x, y, z = quaternion.unbind(1)
    rows = [
        *(w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z),
    ]
    return torch.stack(rows, dim=1).view(-1, 3, 3)
