"""The CUDA kernels of ``radius_graph``, run on the host and compared with the C++ kernel bit by bit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tito_fast.ops.library import dtype_suffix

CUTOFF = 2.0
CUBIC = [[4.5, 0.0, 0.0], [0.0, 4.5, 0.0], [0.0, 0.0, 4.5]]
TRICLINIC = [[4.5, 0.0, 0.0], [1.5, 4.0, 0.0], [-1.0, 1.25, 5.0]]
# Half the heights are below the cutoff: pairs repeat, and atoms see themselves.
SMALL = [[1.25, 0.25, 0.0], [0.0, 1.5, -0.25], [0.5, 0.0, 2.5]]
BOXES = {"open": None, "cubic": CUBIC, "triclinic": TRICLINIC, "small": SMALL}
SIZES = [[], [0], [1], [2], [31], [32, 33], [63], [129], [0, 5, 0, 1, 7, 0], [17] * 40]
DTYPES = [torch.float32, torch.float64]
# Sizes from which on molecules have cells: those below are tested one against all.
CELLS = 512
# What a workspace holds before.
UNTOUCHED = 0x5A
BAD_BATCH_PTR, BAD_POSITION, BAD_BOX, SINGULAR_BOX, DISTANT, TOO_MANY_IMAGES = 1, 2, 4, 8, 16, 32


@pytest.fixture
def kernels(host_cuda_module):
    host_cuda_module.set_seed(0)
    host_cuda_module.take_log()
    return host_cuda_module


def make_case(sizes, *, dtype=torch.float32, box=None, spread=1.5, cutoff=CUTOFF, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return SimpleNamespace(
        positions=spread * torch.randn(sum(sizes), 3, generator=generator, dtype=dtype),
        batch_ptr=torch.tensor([0, *sizes]).cumsum(0),
        box=None if box is None else torch.tensor(box, dtype=dtype),
        cutoff=cutoff,
    )


def liquid(n_atoms, *, box, dtype=torch.float32, cutoff=CUTOFF, seed=0):
    """Return one molecule spread evenly over ``box``, some atoms of it several boxes away."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(-2, 3, size=(n_atoms, 3)) * (rng.random((n_atoms, 1)) < 0.3)
    rows = np.asarray(box)
    return SimpleNamespace(
        positions=torch.tensor((rng.random((n_atoms, 3)) + cells) @ rows, dtype=dtype),
        batch_ptr=torch.tensor([0, n_atoms]),
        box=torch.tensor(rows, dtype=dtype),
        cutoff=cutoff,
    )


def arguments(case):
    return (
        case.positions.data_ptr(),
        case.batch_ptr.data_ptr(),
        0 if case.box is None else case.box.data_ptr(),
        0 if case.box is None else case.box.numel() // 9,
        case.positions.shape[0],
        case.batch_ptr.shape[0] - 1,
        case.cutoff,
    )


def garbage(*shape, dtype):
    value = float("nan") if dtype.is_floating_point else -77
    return torch.full(shape, value, dtype=dtype)


def count(kernels, case):
    """Return the error bits, the number of edges, and what ``fill`` needs."""
    n_atoms, dtype = case.positions.shape[0], case.positions.dtype
    n_bytes = kernels.radius_graph_workspace_cuda(
        n_atoms, case.batch_ptr.shape[0] - 1, case.box is not None, dtype == torch.float64
    )
    workspace = torch.full((n_bytes,), UNTOUCHED, dtype=torch.uint8)
    status = garbage(2, dtype=torch.int64)
    getattr(kernels, f"radius_graph_count_cuda_{dtype_suffix(dtype)}")(
        *arguments(case), workspace.data_ptr(), status.data_ptr(), 0, 0
    )
    return (*status.tolist(), (workspace, status))


def fill(kernels, case, counted, capacity):
    """Return edge_vec, edge_dist, edge_index, edge_ptr and shifts, each ``capacity`` long."""
    workspace, status = counted
    dtype = case.positions.dtype
    vec, dist = garbage(capacity, 3, dtype=dtype), garbage(capacity, dtype=dtype)
    edge_index = garbage(2, capacity, dtype=torch.int64)
    edge_ptr = garbage(case.positions.shape[0] + 1, dtype=torch.int64)
    shifts = garbage(capacity, 3, dtype=torch.int32)
    getattr(kernels, f"radius_graph_fill_cuda_{dtype_suffix(dtype)}")(
        *arguments(case),
        workspace.data_ptr(),
        status.data_ptr(),
        capacity,
        edge_ptr.data_ptr(),
        edge_index.data_ptr(),
        vec.data_ptr(),
        dist.data_ptr(),
        0 if case.box is None else shifts.data_ptr(),
        0,
        0,
    )
    if case.box is None:
        assert (shifts == -77).all()
        shifts.zero_()
    return vec, dist, edge_index, edge_ptr, shifts


def of_cpu(case):
    return torch.ops.tito_fast.radius_graph(
        case.positions, case.batch_ptr, case.box, case.cutoff, None
    )[:5]


def assert_is_graph(found, expected):
    """``found`` is ``expected`` and padding."""
    n_edges = expected[1].shape[0]
    vec, dist, edge_index, edge_ptr, shifts = found
    assert torch.equal(edge_ptr, expected[3])
    assert torch.equal(edge_index[:, :n_edges], expected[2])
    assert torch.equal(vec[:n_edges], expected[0])
    assert torch.equal(dist[:n_edges], expected[1])
    assert torch.equal(shifts[:n_edges], expected[4])
    assert (edge_index[:, n_edges:] == -1).all()
    assert all((each[n_edges:] == 0).all() for each in (vec, dist, shifts))


def check_against_cpu(kernels, case, *, n_more=0):
    expected = of_cpu(case)
    n_edges = expected[1].shape[0]
    problems, n_counted, counted = count(kernels, case)
    assert (problems, n_counted) == (0, n_edges)
    assert_is_graph(fill(kernels, case, counted, n_edges + n_more), expected)
    return expected


def assert_is_empty(found):
    vec, dist, edge_index, edge_ptr, shifts = found
    assert (edge_index == -1).all()
    assert all((each == 0).all() for each in (vec, dist, edge_ptr, shifts))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_edges_are_the_cpu_kernels_bitwise(kernels, sizes, box, dtype):
    if box == "small" and sum(sizes) > 100:
        sizes = sizes[:4] if len(sizes) > 1 else [40]
    case = make_case(sizes, box=BOXES[box], dtype=dtype)
    check_against_cpu(kernels, case, n_more=3)
    assert kernels.take_log()[-2:] == ["radius_graph_count", "radius_graph_fill"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_molecule_has_its_own_box(kernels, dtype):
    case = make_case([20, 0, 7, 33], box=[TRICLINIC, CUBIC, SMALL, CUBIC], dtype=dtype)
    check_against_cpu(kernels, case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("box", [CUBIC, TRICLINIC, SMALL])
def test_atoms_far_outside_the_box(kernels, box, dtype):
    case = make_case([12, 9], box=box, dtype=dtype, spread=100.0)
    case.positions[5] += 1e5
    check_against_cpu(kernels, case)


def test_pairs_at_the_cutoff(kernels):
    steps = torch.arange(6, dtype=torch.float32)
    positions = torch.cartesian_prod(steps, steps[:3], steps[:2])
    for box in (None, 6.0 * torch.eye(3)):
        for cutoff in (1.0, 2.0**0.5, 3.0**0.5, 2.0):
            case = SimpleNamespace(
                positions=positions, batch_ptr=torch.tensor([0, 36]), box=box, cutoff=cutoff
            )
            check_against_cpu(kernels, case)


def test_pairs_that_rounding_brings_below_the_cutoff(kernels):
    generator = torch.Generator().manual_seed(0)
    positions = torch.zeros(12, 3)
    positions[:, 0] = 2e4 * torch.rand(12, generator=generator)
    case = SimpleNamespace(
        positions=positions,
        batch_ptr=torch.tensor([0, 12]),
        box=torch.diag(torch.tensor([0.7, 5.0, 5.0])),
        cutoff=1.0,
    )
    # Shifts of up to 3e4 boxes: distances are off by many ulps.
    for dist in of_cpu(case)[1].unique()[::5]:
        case.cutoff = float(torch.nextafter(dist, torch.tensor(2.0)))
        expected = check_against_cpu(kernels, case)
        assert dist in expected[1]


def test_atoms_at_one_place_and_without_edges(kernels):
    case = make_case([6, 5])
    case.positions[1] = case.positions[0]
    case.positions[-1] = 100.0
    expected = check_against_cpu(kernels, case, n_more=1)
    assert (expected[1] == 0).any()
    assert expected[3][-2] == expected[3][-1]


def test_result_does_not_depend_on_the_order_of_threads(kernels):
    case = make_case([17, 0, 40], box=TRICLINIC)
    for seed in range(4):
        kernels.set_seed(seed)
        check_against_cpu(kernels, case)


@pytest.mark.parametrize("box", [None, SMALL])
def test_too_small_a_capacity_gives_an_empty_graph_and_the_number_needed(kernels, box):
    case = make_case([9, 4], box=box)
    n_edges = of_cpu(case)[1].shape[0]
    problems, n_counted, counted = count(kernels, case)
    assert (problems, n_counted) == (0, n_edges)
    for capacity in (0, 1, n_edges - 1):
        assert_is_empty(fill(kernels, case, counted, capacity))
    assert_is_graph(fill(kernels, case, counted, 4 * n_edges + 5000), of_cpu(case))


def check_problem(kernels, case, bits):
    problems, _, counted = count(kernels, case)
    assert problems == bits
    assert_is_empty(fill(kernels, case, counted, 50))


@pytest.mark.parametrize(
    "batch_ptr",
    [
        [1, 8],
        [0, 7],
        [0, 9],
        [0, 5, 3, 8],
        [0, -5, 8],
        [0, 100, 8],
        [-(1 << 62), 1 << 62],
        [1 << 62, -(1 << 62), 7, 3],
        [0, 0, 0, 0],
        [8],
    ],
    ids=str,
)
@pytest.mark.parametrize("box", [None, CUBIC])
def test_malformed_batch_ptr_is_reported(kernels, batch_ptr, box):
    case = make_case([8], box=box)
    case.batch_ptr = torch.tensor(batch_ptr)
    check_problem(kernels, case, BAD_BATCH_PTR)


@pytest.mark.parametrize("box", [None, TRICLINIC])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_positions_that_are_not_finite_are_reported(kernels, value, box):
    case = make_case([8, 3], box=box)
    case.positions[9, 1] = value
    check_problem(kernels, case, BAD_POSITION)


@pytest.mark.parametrize("dtype", DTYPES)
def test_boxes_that_cannot_be_are_reported(kernels, dtype):
    for entry, bits in ((float("nan"), BAD_BOX), (float("inf"), BAD_BOX)):
        case = make_case([5], box=CUBIC, dtype=dtype)
        case.box[1, 0] = entry
        check_problem(kernels, case, bits)
    flat = [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 0.0, 1.0]]
    check_problem(kernels, make_case([5], box=flat, dtype=dtype), SINGULAR_BOX)
    # Also that of a molecule without atoms.
    case = make_case([5, 0, 4], box=[CUBIC, flat, CUBIC], dtype=dtype)
    check_problem(kernels, case, SINGULAR_BOX)


def test_positions_too_far_away_and_uncountable_images_are_reported(kernels):
    case = make_case([5, 4], box=CUBIC)
    case.positions[6] = 1e8
    check_problem(kernels, case, DISTANT)
    check_problem(kernels, make_case([5], box=CUBIC, cutoff=1e5), TOO_MANY_IMAGES)
    check_problem(kernels, make_case([5], box=CUBIC, cutoff=1e300), TOO_MANY_IMAGES)


def test_several_problems_at_once(kernels):
    case = make_case([5, 4], box=[CUBIC, CUBIC])
    case.positions[0] = float("nan")
    case.box[1] = 0.0
    check_problem(kernels, case, BAD_POSITION | SINGULAR_BOX)


# Boxes of 8 to 20 cells along x and 2, 3 or more along y and z.
WIDE = [[10.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 8.0]]
LONG = [[60.0, 0.0, 0.0], [0.0, 3.3, 0.0], [0.0, 0.0, 3.3]]
SKEWED = [[13.5, 0.0, 0.0], [4.5, 12.0, 0.0], [-3.0, 3.75, 6.5]]
FLAT = [[2.0, 0.0, 0.0], [0.0, 22.0, 3.0], [5.0, 0.0, 25.0]]


def has_cells(kernels, case):
    """Return whether positions were copied in the order of cells, to the end of the workspace."""
    workspace, _ = count(kernels, case)[2]
    n_bytes = case.positions.numel() * case.positions.element_size()
    return bool((workspace[-n_bytes:] != UNTOUCHED).any())


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize(
    ("box", "dtype"),
    [(WIDE, DTYPES[1]), (LONG, DTYPES[0]), (SKEWED, DTYPES[0]), (FLAT, DTYPES[1])],
)
def test_cells_find_the_same_edges(kernels, box, is_open, dtype):
    case = liquid(530, box=box, dtype=dtype, cutoff=1.5)
    if is_open:
        case.box = None
    check_against_cpu(kernels, case, n_more=2)
    log = kernels.take_log()
    assert log == ["radius_graph_cells", "radius_graph_count", "radius_graph_fill"]
    assert has_cells(kernels, case)
    assert not has_cells(kernels, liquid(530, box=2.0 * torch.eye(3), dtype=dtype, cutoff=1.5))


@pytest.mark.parametrize("box", [None, WIDE])
def test_molecules_with_and_without_cells_in_one_batch(kernels, box):
    sizes = [0, 40, CELLS, CELLS - 1, 0, 700, 3, 0]
    parts = [liquid(size, box=WIDE, cutoff=1.0, seed=size) for size in sizes]
    case = SimpleNamespace(
        positions=torch.cat([part.positions for part in parts]),
        batch_ptr=torch.tensor([0, *sizes]).cumsum(0),
        box=None if box is None else torch.stack([part.box for part in parts]),
        cutoff=1.0,
    )
    for seed in range(2):
        kernels.set_seed(seed)
        check_against_cpu(kernels, case)


def test_a_wide_cutoff_has_no_cells_and_a_short_one_few(kernels):
    for cutoff in (50.0, 1e-3):
        check_against_cpu(kernels, liquid(CELLS, box=3.0 * torch.eye(3), cutoff=cutoff / 20.0))
        case = liquid(CELLS, box=WIDE, cutoff=cutoff)
        case.box = None
        check_against_cpu(kernels, case)


def test_large_molecules_on_a_line_in_a_plane_and_at_one_place(kernels):
    line = torch.zeros(CELLS, 3)
    line[:, 1] = torch.arange(CELLS) * 0.5
    plane = torch.zeros(CELLS, 3)
    plane[:, 0], plane[:, 2] = torch.arange(CELLS) % 23, torch.arange(CELLS) // 23
    outlier = torch.zeros(CELLS, 3)
    outlier[7] = 3e38
    for positions, cutoff in ((line, 1.2), (plane, 1.5), (outlier * 0.0, 1e-30), (outlier, 1.0)):
        batch_ptr = torch.tensor([0, CELLS])
        for box in (None, torch.diag(torch.tensor([30.0, 40.0, 30.0]))):
            if box is not None and positions is outlier:
                continue
            check_against_cpu(
                kernels,
                SimpleNamespace(positions=positions, batch_ptr=batch_ptr, box=box, cutoff=cutoff),
            )


@pytest.mark.parametrize("box", [None, WIDE])
def test_problems_of_large_molecules_are_reported(kernels, box):
    case = liquid(CELLS + 8, box=WIDE, cutoff=1.0)
    case.box = None if box is None else case.box
    ends = [[0, 520, 0, 520], [0, 515, 5, 520], [0, 700, 520], [3, 520], [0, 519], [520]]
    for batch_ptr in ([0, -(1 << 62), 1 << 62, 520], *ends):
        case.batch_ptr = torch.tensor(batch_ptr)
        check_problem(kernels, case, BAD_BATCH_PTR)
        # Cells of molecules that overlap would overlap, too.
        if len(batch_ptr) > 1:
            assert has_cells(kernels, case) == (batch_ptr in ([3, 520], [0, 519]))
    case.batch_ptr = torch.tensor([0, 520])
    for value in (float("nan"), float("inf")):
        case.positions[77, 2] = value
        check_problem(kernels, case, BAD_POSITION)
    if box is not None:
        case.positions[77, 2] = 1e9
        check_problem(kernels, case, DISTANT)
        case.positions[77, 2] = 1.0
        case.box[1] = case.box[0]
        check_problem(kernels, case, SINGULAR_BOX)


def backward(kernels, graph, capacity, seed=0):
    """Return the kernel's gradient and the C++ kernel's; behind the edges the arguments are NaN."""
    vec, dist, edge_index, edge_ptr, _ = graph
    n_edges, n_atoms, dtype = dist.shape[0], edge_ptr.shape[0] - 1, dist.dtype
    generator = torch.Generator().manual_seed(seed)
    grad_vec = torch.randn(n_edges, 3, generator=generator, dtype=dtype)
    grad_dist = torch.randn(n_edges, generator=generator, dtype=dtype)

    def padded(tensor):
        longer = garbage(capacity, *tensor.shape[1:], dtype=tensor.dtype)
        longer[:n_edges] = tensor
        return longer

    indices = garbage(2, capacity, dtype=torch.int64)
    indices[:, :n_edges] = edge_index
    arrays = [*map(padded, (grad_vec, grad_dist, vec, dist)), indices, edge_ptr]
    found = garbage(n_atoms, 3, dtype=dtype)
    getattr(kernels, f"radius_graph_bwd_cuda_{dtype_suffix(dtype)}")(
        *[each.data_ptr() for each in arrays], n_atoms, capacity, found.data_ptr(), 0, 0
    )
    return found, (grad_vec, grad_dist, vec, dist, edge_index, edge_ptr)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_more", [0, 17])
@pytest.mark.parametrize("box", BOXES)
def test_backward_is_the_cpu_kernels_within_rounding(kernels, box, n_more, dtype):
    case = make_case([12, 0, 33, 1, 70], box=BOXES[box], dtype=dtype)
    if box == "small":
        case = make_case([12, 0, 9], box=SMALL, dtype=dtype)
    case.positions[1] = case.positions[0]
    graph = of_cpu(case)
    found, arguments_of_cpu = backward(kernels, graph, graph[1].shape[0] + n_more)
    exact = torch.ops.tito_fast.radius_graph_backward(
        *[each.double() if each.is_floating_point() else each for each in arguments_of_cpu],
        case.batch_ptr,
    )
    # Sums in double of another order, rounded to the dtype.
    most_terms = 2 * int(graph[3].diff().max())
    scale = float(sum(each.abs().max() for each in arguments_of_cpu[:2]))
    eps = torch.finfo(torch.float64).eps
    errors = (found.double() - exact).abs()
    rounding = 0.5 * torch.finfo(dtype).eps * exact.abs() if dtype == torch.float32 else 0.0
    assert (errors <= most_terms * most_terms * scale * eps + rounding).all()
    # Every edge gives to one atom what it takes from another.
    limit = 1e-3 if dtype == torch.float32 else 1e-10
    assert found.double().sum(dim=0).abs().max() < limit


def test_backward_does_not_depend_on_the_order_of_threads(kernels):
    graph = of_cpu(make_case([40, 33], box=TRICLINIC))
    results = []
    for seed in range(3):
        kernels.set_seed(seed)
        results.append(backward(kernels, graph, graph[1].shape[0])[0])
    assert all(torch.equal(results[0], each) for each in results)


def test_backward_of_an_empty_graph_is_zero_and_follows_no_source_outside(kernels):
    case = make_case([5, 4])
    graph = of_cpu(case)
    empty = [each[:0] for each in graph[:2]]
    found, _ = backward(
        kernels, (*empty, graph[2][:, :0], torch.zeros(10, dtype=torch.int64), None), 30
    )
    assert torch.equal(found, torch.zeros(9, 3))
    for outside in (-1, 9, 1 << 62, -(1 << 62)):
        edge_index = torch.full_like(graph[2], outside)
        found, _ = backward(kernels, (*graph[:2], edge_index, *graph[3:]), graph[1].shape[0])
        assert found.isfinite().all()
    wild = graph[3].clone()
    wild[2:4] = torch.tensor([1 << 62, -(1 << 62)])
    backward(kernels, (*graph[:3], wild, None), graph[1].shape[0])


def random_case(rng):
    """Return a batch of up to 4 molecules of up to 20 atoms, open or periodic."""
    sizes = rng.integers(0, 21, size=rng.integers(1, 5)).tolist()
    dtype = DTYPES[rng.integers(2)]
    cutoff = float(rng.uniform(0.5, 2.5))
    case = make_case(
        sizes, dtype=dtype, spread=rng.uniform(0.5, 3.0), cutoff=cutoff, seed=int(rng.integers(1e9))
    )
    if rng.random() < 0.5:
        n_boxes = 1 if rng.random() < 0.5 else len(sizes)
        rows = np.diag(rng.uniform(1.5, 5.0, size=3)) + rng.uniform(-0.7, 0.7, size=(n_boxes, 3, 3))
        case.box = torch.tensor(rows[0] if n_boxes == 1 else rows, dtype=dtype)
    return case


def test_edges_of_1000_random_batches_are_the_cpu_kernels_bitwise(kernels):
    rng = np.random.default_rng(0)
    n_edges = 0
    for batch in range(1000):
        kernels.set_seed(batch)
        n_edges += check_against_cpu(kernels, random_case(rng))[1].shape[0]
    assert n_edges > 100_000
