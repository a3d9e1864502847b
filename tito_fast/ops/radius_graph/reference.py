"""The definition of ``radius_graph`` in plain PyTorch."""

import itertools
import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from tito_fast.ops.radius_graph.status import check_status, good_status

# Candidates tested at once.
_CHUNK = 1 << 18
_MOST_WRAPS = 1 << 20
_MOST_IMAGES = (1 << 31) - 1
# Below this share of the product of the rows' lengths a determinant counts as zero.
_SMALLEST_RELATIVE_VOLUME = 1e-6


def radius_graph_reference(
    positions: Tensor,
    batch_ptr: Tensor,
    box: Tensor | None,
    cutoff: float,
    capacity: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return edge_index, edge_ptr, edge_vec, edge_dist, shifts and status.

    Arguments as in :func:`tito_fast.ops.radius_graph`, already checked but for their values.
    """
    check_positions(positions)
    n_atoms, n_molecules = positions.shape[0], batch_ptr.shape[0] - 1
    boxes = None if box is None else box.expand(n_molecules, 3, 3)
    if boxes is not None:
        _check_boxes(boxes)
    found = [positions.new_empty((0, 5), dtype=torch.int64)]
    starts = batch_ptr.tolist()
    for molecule, (start, end) in enumerate(itertools.pairwise(starts)):
        rows = None if boxes is None else boxes[molecule]
        edges = _edges_of_molecule(positions[start:end].detach(), rows, cutoff, start)
        found.append(edges + edges.new_tensor([start, start, 0, 0, 0]))
    edges = torch.cat(found)
    receiver, source, shifts = edges[:, 0], edges[:, 1], edges[:, 2:]

    offset = None
    if boxes is not None:
        molecule_of_atom = torch.arange(n_molecules, device=positions.device).repeat_interleave(
            batch_ptr.diff(), output_size=n_atoms
        )
        offset = _offset(shifts.to(positions.dtype), boxes[molecule_of_atom[receiver]])
    edge_vec = _vectors(positions[source], positions[receiver], offset)
    edge_dist = _length(edge_vec)
    edge_ptr = torch.searchsorted(
        receiver.contiguous(), torch.arange(n_atoms + 1, device=positions.device)
    )
    n_edges = source.shape[0]
    if capacity is not None:
        check_status(0, n_edges, capacity)
    n_empty = 0 if capacity is None else capacity - n_edges
    return (
        pad(torch.stack((source, receiver)), (0, n_empty), value=-1),
        edge_ptr,
        pad(edge_vec, (0, 0, 0, n_empty)),
        pad(edge_dist, (0, n_empty)),
        pad(shifts.int(), (0, 0, 0, n_empty))
        if box is not None
        else positions.new_zeros((1, 3), dtype=torch.int32).expand(n_edges + n_empty, 3),
        good_status(edge_ptr, n_edges),
    )


def _edges_of_molecule(
    positions: Tensor, box: Tensor | None, cutoff: float, first_atom: int
) -> Tensor:
    """Return (n_edges, 5) int64 rows of receiver, source and shift, sorted."""
    n_atoms, dtype = positions.shape[0], positions.dtype
    images = torch.zeros((1, 3), dtype=torch.int64, device=positions.device)
    cells = torch.zeros((n_atoms, 3), dtype=torch.int64, device=positions.device)
    if box is not None and n_atoms > 0:
        cells = _cells(positions, box, first_atom)
        images = _images(positions, box, cells, cutoff)
    limit = torch.tensor(cutoff, dtype=dtype, device=positions.device)
    n_rows = max(1, _CHUNK // max(1, n_atoms * images.shape[0]))
    found = [images.new_empty((0, 5))]
    for start in range(0, n_atoms, n_rows):
        receivers = torch.arange(start, min(start + n_rows, n_atoms), device=positions.device)
        # Of axes: receiver, source, image. An image counts from the wrapped positions.
        shifts = images + (cells[receivers][:, None] - cells[None])[:, :, None]
        offset = None if box is None else _offset(shifts.to(dtype), box)
        vec = _vectors(positions[None, :, None], positions[receivers][:, None, None], offset)
        is_edge = _length(vec) < limit
        own = receivers[:, None] == torch.arange(n_atoms, device=positions.device)
        is_edge &= ~(own[:, :, None] & (shifts == 0).all(dim=-1))
        row, source, image = is_edge.nonzero(as_tuple=True)
        shift = shifts[row, source, image]
        found.append(torch.cat((receivers[row, None], source[:, None], shift), dim=1))
    return torch.cat(found)


def _vectors(source: Tensor, receiver: Tensor, offset: Tensor | None) -> Tensor:
    vec = source - receiver
    return vec if offset is None else vec + offset


def _offset(shifts: Tensor, box: Tensor) -> Tensor:
    """Return shifts @ box; a matrix product would leave the order and the rounding open."""
    products = shifts[..., None] * box
    return (products[..., 0, :] + products[..., 1, :]) + products[..., 2, :]


def _length(vec: Tensor) -> Tensor:
    x, y, z = vec.unbind(-1)
    squared = (x * x + y * y) + z * z
    is_zero = squared == 0
    # The root's derivative at 0 is infinite; of a constant it is 0.
    return _root(squared.masked_fill(is_zero, 1.0)).masked_fill(is_zero, 0.0)


def _root(squared: Tensor) -> Tensor:
    """Return the square root, correctly rounded; PyTorch's own need not be on CPU tensors."""
    root = squared.double().sqrt()
    if squared.dtype != torch.float64:
        return root.to(squared.dtype)
    with torch.no_grad():
        # squared - root * root without error: root is split in halves whose products are exact.
        scaled = root * 134217729.0  # 2**27 + 1
        high = scaled - (scaled - root)
        low = root - high
        product = root * root
        rest = (squared - product) - (((high * high - product) + 2.0 * high * low) + low * low)
        # The next number is nearer where squared lies beyond the square of the middle.
        above = torch.nextafter(root, torch.full_like(root, torch.inf)) - root
        below = root - torch.nextafter(root, torch.zeros_like(root))
        step = torch.where(rest - root * above > 0.25 * above * above, above, 0.0)
        step = torch.where(rest + root * below < 0.25 * below * below, -below, step)
    return root.add(step)


def _fractions(positions: Tensor, box: Tensor) -> Tensor:
    return positions.double().matmul(torch.linalg.inv(box.double()))


def _cells(positions: Tensor, box: Tensor, first_atom: int) -> Tensor:
    """Return the cell (n_atoms, 3) that each position is in; the box itself is 0, 0, 0."""
    cells = _fractions(positions, box).floor()
    is_far = (cells.abs() > _MOST_WRAPS).any(dim=1)
    if is_far.any():
        row = int(is_far.nonzero()[0])
        raise ValueError(
            f"positions: expected within {_MOST_WRAPS} boxes of the origin, got "
            f"{cells[row].abs().max():g} in row {first_atom + row}; wrap the positions into the box"
        )
    return cells.long()


def _images(positions: Tensor, box: Tensor, cells: Tensor, cutoff: float) -> Tensor:
    """Return in lexicographic order all shifts that may bring wrapped positions within reach."""
    # Columns of the inverse are the normals of the box's faces over its heights.
    heights = 1.0 / torch.linalg.inv(box.double()).norm(dim=0)
    # What rounding can take from a distance: the terms that it is added up from, in ulps.
    terms = (
        2.0 * positions.abs().max().double()
        + (
            box.double().abs().sum(dim=1)
            * (2.0 * cells.abs().amax(dim=0) + float(cutoff) / heights + 3.0)
        ).sum()
    )
    reach = cutoff + 32.0 * torch.finfo(positions.dtype).eps * (cutoff + terms)
    n_images = [math.ceil(count) + 1 for count in (reach / heights).tolist()]
    n_sites = positions.shape[0] * math.prod(2 * n + 1 for n in n_images)
    if n_sites > _MOST_IMAGES:
        raise ValueError(
            f"cutoff: expected fewer than {_MOST_IMAGES} images of the atoms within reach, got about "
            f"{n_sites}; use a shorter cutoff or a larger box"
        )
    axes = [torch.arange(-n, n + 1, device=positions.device) for n in n_images]
    return torch.cartesian_prod(*axes)


def check_positions(positions: Tensor) -> None:
    """Raise ``ValueError`` unless all positions are finite."""
    is_finite = positions.isfinite()
    if not is_finite.all():
        row, axis = (~is_finite).nonzero()[0].tolist()
        raise ValueError(
            f"positions: expected finite values, got {positions[row, axis].item()} in row {row}"
        )


def _check_boxes(boxes: Tensor) -> None:
    if not boxes.isfinite().all():
        value = boxes[~boxes.isfinite()][0].item()
        raise ValueError(f"box: expected finite values, got {value}")
    volumes = torch.linalg.det(boxes.double())
    scales = boxes.double().norm(dim=-1).prod(dim=-1)
    is_singular = ~(volumes.abs() > _SMALLEST_RELATIVE_VOLUME * scales)
    if is_singular.any():
        raise ValueError(
            "box: expected linearly independent rows, got determinant "
            f"{volumes[is_singular][0].item():f}"
        )
