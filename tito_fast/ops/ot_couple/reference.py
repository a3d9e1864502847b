"""The definition of ``ot_couple``: torch's SVD and SciPy's assignment, one molecule at a time."""

from itertools import pairwise

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tito_fast.types import Coupling

# Ratio of the second to the first singular value below which only an axis is known.
_RANK_ONE_RATIO = 1e-12


def ot_couple_reference(x_0: Tensor, x_1: Tensor, batch_ptr: Tensor, plan: Coupling) -> Tensor:
    """Return the coupled ``x_0``; arguments as in :func:`tito_fast.ops.ot_couple`, checked."""
    coupled = x_0.to(torch.float64, copy=True)
    target = x_1.to(torch.float64)
    starts = batch_ptr.tolist()
    letters = {"none": "", "released": "r"}.get(plan, plan)
    check_finite(x_0, x_1, batch_ptr)
    for start, end in pairwise(starts):
        source, goal = coupled[start:end], target[start:end]
        for letter in letters:
            if letter == "p":
                source = source[_best_permutation(source, goal)]
            else:
                source = source @ _best_rotation(source, goal).T
        coupled[start:end] = source
    return coupled.to(x_0.dtype)


def check_finite(x_0: Tensor, x_1: Tensor, batch_ptr: Tensor) -> None:
    """Raise ``ValueError`` with the first molecule that has a coordinate that is not finite."""
    is_bad = ~(x_0.isfinite() & x_1.isfinite()).all(dim=1)
    if is_bad.any():
        first = is_bad.nonzero()[0].to(batch_ptr.dtype)
        molecule = int(torch.searchsorted(batch_ptr, first, right=True)) - 1
        raise ValueError(
            f"x_0, x_1: expected finite coordinates, got NaN or infinity in molecule {molecule}"
        )


def _best_permutation(source: Tensor, goal: Tensor) -> Tensor:
    squared_distances = (goal[:, None, :] - source[None, :, :]).square().sum(dim=2)
    _, columns = linear_sum_assignment(squared_distances.cpu().numpy())
    return torch.as_tensor(columns, device=source.device)


def _best_rotation(source: Tensor, goal: Tensor) -> Tensor:
    """Return R (3, 3), det R = 1, that minimises ``sum_i |goal_i - R source_i|^2``."""
    left, size, right = torch.linalg.svd(goal.T @ source)
    if size[0] == 0:
        return torch.eye(3, dtype=source.dtype, device=source.device)
    if size[1] <= _RANK_ONE_RATIO * size[0]:
        return _smallest_rotation(right[0], left[:, 0])
    signs = torch.ones_like(size)
    signs[2] = torch.linalg.det(left @ right).sign()
    rotation: Tensor = left @ torch.diag(signs) @ right
    return rotation


def _smallest_rotation(origin: Tensor, goal: Tensor) -> Tensor:
    """Return the rotation by the smallest angle that takes one unit vector to another."""
    if origin @ goal >= 0:
        return _acute_rotation(origin, goal)
    # A half turn about the same axis first, then the small rest: stable up to opposite directions,
    # where the axis is lost and any perpendicular one serves.
    identity = torch.eye(3, dtype=origin.dtype, device=origin.device)
    axis = torch.linalg.cross(origin, goal)
    if axis.norm() < _RANK_ONE_RATIO:
        axis = torch.linalg.cross(origin, identity[origin.abs().argmin()])
    axis = axis - (axis @ origin) * origin
    axis = axis / axis.norm()
    half_turn = 2 * torch.outer(axis, axis) - identity
    return _acute_rotation(-origin, goal) @ half_turn


def _acute_rotation(origin: Tensor, goal: Tensor) -> Tensor:
    """Return ``I + K + K K / (1 + cosine)``, K the cross product matrix of origin × goal."""
    identity = torch.eye(3, dtype=origin.dtype, device=origin.device)
    axis = torch.linalg.cross(origin, goal)
    skew = torch.linalg.cross(identity, axis.expand(3, 3), dim=1)
    rotation: Tensor = identity + skew + skew @ skew / (1 + origin @ goal)
    return rotation
