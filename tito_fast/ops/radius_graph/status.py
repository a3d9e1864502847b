"""What a search found out about itself: two int64 on the device, read when the host wants to know."""

from torch import Tensor

from tito_fast.errors import CapacityError

# Bits of the first number, as csrc/radius_graph/radius_graph_cuda.h has them.
_PROBLEMS: dict[int, str] = {
    1: "batch_ptr: expected non-decreasing starts from 0 to n_atoms, got others",
    2: "positions: expected finite values, got NaN or infinity",
    4: "box: expected finite values, got NaN or infinity",
    8: "box: expected linearly independent rows, got a singular box",
    16: "positions: expected within 1048576 boxes of the origin, got some beyond; wrap the positions into the box",
    32: (
        "cutoff: expected fewer than 2147483647 images of the atoms within reach, got more; "
        "use a shorter cutoff or a larger box"
    ),
}


def check_status(problems: int, n_edges: int, capacity: int) -> None:
    """Raise what a search found.

    Parameters
    ----------
    problems
        Bits.
    n_edges
        Found.
    capacity
        Edges that there was room for.

    Raises
    ------
    ValueError
        Inputs were wrong.
    CapacityError
        There were more edges.
    """
    for bit, message in _PROBLEMS.items():
        if problems & bit:
            raise ValueError(message)
    if n_edges > capacity:
        raise CapacityError(
            f"radius_graph: found {n_edges} edges, capacity is {capacity}; pass capacity={n_edges} or more"
        )


def good_status(like: Tensor, n_edges: int) -> Tensor:
    """Return the status of a search without problems, (2,) int64 on the device of ``like``, an int64 tensor."""
    return like.new_tensor([0, n_edges])
