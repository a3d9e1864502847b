"""Frames turned onto other frames, so that a trajectory does not tumble from one frame to the next."""

import torch
from torch import Tensor

from tito_fast.validation import check_floating, check_same_device, check_shape


def superpose(positions: Tensor, reference: Tensor) -> Tensor:
    """Return ``positions`` centered and turned onto the centered ``reference``, frame by frame.

    Minimises Σ_a |R positions_a − reference_a|² over proper rotations R: mirror images stay mirror
    images. R comes from the eigenvector of the largest eigenvalue of Horn's 4 × 4 matrix.

    Parameters
    ----------
    positions : Tensor, shape (n_frames, n_atoms, 3), float32 or float64
    reference : Tensor, shape (n_frames, n_atoms, 3)
        Of any unit, the same as ``positions``.

    Returns
    -------
    Tensor, shape (n_frames, n_atoms, 3)
        Centroid at the origin; dtype and device of ``positions``. A frame with NaN becomes NaN and
        leaves the others alone.

    Raises
    ------
    ValueError
        If shapes or devices differ.
    TypeError
        If a tensor is not float32 or float64.

    Notes
    -----
    Computed in float64. Sums run over atoms in one fixed tree and the eigenvectors one matrix at a
    time on the host, so a frame's result is the same, bit for bit, whatever frames are beside it.
    On a GPU this synchronises.

    Where several rotations are equally good (one atom, atoms on a line) one of them is taken.

    References
    ----------
    Horn, J. Opt. Soc. Am. A 4, 629 (1987), doi:10.1364/JOSAA.4.000629.
    """
    check_shape("positions", positions, ("n_frames", "n_atoms", 3))
    check_shape("reference", reference, tuple(positions.shape))
    check_floating("positions", positions)
    check_floating("reference", reference)
    check_same_device("reference", reference, "positions", positions)
    if positions.numel() == 0:
        return positions.clone()
    moving, fixed = _centered(positions.double()), _centered(reference.double())
    # The product of the two point clouds: correlation[..., i, j] = Σ_a moving_i fixed_j.
    correlation = _sum_over_atoms(moving.unsqueeze(3) * fixed.unsqueeze(2))
    rotation = _rotation(correlation)
    rows = [
        rotation[:, i, 0, None] * moving[:, :, 0]
        + rotation[:, i, 1, None] * moving[:, :, 1]
        + rotation[:, i, 2, None] * moving[:, :, 2]
        for i in range(3)
    ]
    return torch.stack(rows, dim=2).to(positions.dtype)


def _centered(positions: Tensor) -> Tensor:
    centroid = _sum_over_atoms(positions) / positions.shape[1]
    return positions - centroid.unsqueeze(1)


def _sum_over_atoms(values: Tensor) -> Tensor:
    """Sum over dimension 1 by halves: elementwise additions only, whose bits no batch size changes."""
    n_left = values.shape[1]
    while n_left > 1:
        half = n_left // 2
        folded = values[:, :half] + values[:, half : 2 * half]
        values = torch.cat([folded, values[:, 2 * half :]], dim=1) if n_left % 2 else folded
        n_left = values.shape[1]
    return values[:, 0]


def _rotation(correlation: Tensor) -> Tensor:
    """Return the rotations (n_frames, 3, 3) that turn the first cloud of each correlation onto the second."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = correlation.flatten(1).unbind(1)
    horn = torch.stack(
        [
            *(xx + yy + zz, yz - zy, zx - xz, xy - yx),
            *(yz - zy, xx - yy - zz, xy + yx, zx + xz),
            *(zx - xz, xy + yx, yy - xx - zz, yz + zy),
            *(xy - yx, zx + xz, yz + zy, zz - xx - yy),
        ],
        dim=1,
    ).view(-1, 4, 4)
    # A frame that is not finite must not stop the others; its positions carry the NaN on.
    is_finite = torch.isfinite(horn).all(dim=2).all(dim=1)
    horn = torch.where(is_finite.view(-1, 1, 1), horn, torch.zeros_like(horn))
    # On the host, where each matrix is solved for itself; a GPU picks its method by their number.
    quaternion = torch.linalg.eigh(horn.cpu())[1][:, :, -1].to(horn.device)
    w, x, y, z = quaternion.unbind(1)
    return torch.stack(
        [
            *(w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z),
        ],
        dim=1,
    ).view(-1, 3, 3)
