import itertools
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tito_fast.ops import radius_graph
from tito_fast.ops.radius_graph.reference import radius_graph_reference
from tito_fast.testing.tolerance import check_against_reference

SIZES = [[1], [2], [63], [129], [1, 63, 129], [0, 5, 0, 1, 7, 0], [17] * 20]
CUTOFF = 2.0
CUBIC = [[4.5, 0.0, 0.0], [0.0, 4.5, 0.0], [0.0, 0.0, 4.5]]
TRICLINIC = [[4.5, 0.0, 0.0], [1.5, 4.0, 0.0], [-1.0, 1.25, 5.0]]
# Half the heights are below the cutoff: pairs repeat, and atoms see themselves.
SMALL = [[1.25, 0.25, 0.0], [0.0, 1.5, -0.25], [0.5, 0.0, 2.5]]
BOXES = {"open": None, "cubic": CUBIC, "triclinic": TRICLINIC, "small": SMALL}


def make_case(sizes, *, dtype=torch.float32, box=None, spread=1.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_atoms = sum(sizes)
    return SimpleNamespace(
        positions=spread * torch.randn(n_atoms, 3, generator=generator, dtype=dtype),
        batch_ptr=torch.tensor([0, *sizes]).cumsum(0),
        box=None if box is None else torch.tensor(box, dtype=dtype),
    )


def run(case, *, cutoff=CUTOFF, backend="native"):
    return radius_graph(
        case.positions, cutoff=cutoff, batch_ptr=case.batch_ptr, box=case.box, backend=backend
    )


def assert_bitwise(found, expected):
    for name, ours, theirs in zip(found._fields, found, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        assert torch.equal(ours, theirs), name


def bytes_of(graph):
    return b"".join(tensor.contiguous().numpy().tobytes() for tensor in graph)


def edges_as_set(graph):
    source, receiver = graph.edge_index.tolist()
    edges = list(zip(receiver, source, map(tuple, graph.shifts.tolist()), strict=True))
    assert edges == sorted(edges)
    assert len(set(edges)) == len(edges)
    return set(edges)


def edges_by_brute_force(case, cutoff=CUTOFF, n_images=6):
    """Return the edges, in double; distances must stay clear of the cutoff."""
    positions = case.positions.double().numpy()
    box = np.zeros((3, 3)) if case.box is None else case.box.double().numpy()
    steps = range(1) if case.box is None else range(-n_images, n_images + 1)
    shifts = np.array(list(itertools.product(steps, repeat=3)))
    found = set()
    for start, end in pairwise(case.batch_ptr.tolist()):
        for i, j in itertools.product(range(start, end), repeat=2):
            vec = positions[j] - positions[i] + shifts @ box
            dist = np.sqrt((vec**2).sum(axis=1))
            assert np.abs(dist - cutoff).min() > 1e-6
            found |= {(i, j, tuple(shift)) for shift in shifts[dist < cutoff].tolist()}
    return found - {(i, i, (0, 0, 0)) for i in range(len(positions))}


def gradients(case, *, backend="native", cutoff=CUTOFF, parts=("edge_vec", "edge_dist")):
    positions = case.positions.clone().requires_grad_()
    graph = radius_graph(
        positions, cutoff=cutoff, batch_ptr=case.batch_ptr, box=case.box, backend=backend
    )
    total = positions.sum() * 0.0
    for part in parts:
        value = getattr(graph, part)
        weight = torch.linspace(-1.0, 2.0, value.numel(), dtype=value.dtype).view_as(value)
        total = total + (value * weight).sum()
    return torch.autograd.grad(total, positions)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference(sizes, box, dtype):
    case = make_case(sizes, dtype=dtype, box=box)
    assert_bitwise(run(case), run(case, backend="reference"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n_atoms", "spread", "box"),
    [
        (3000, 5.0, None),
        (2000, 400.0, None),  # thin: the table of cells must stay short
        (400, 5.0, np.diag([9.0, 10.0, 11.0]).tolist()),
        (400, 30.0, [[8.0, 0.0, 0.0], [3.0, 9.0, 0.0], [-2.0, 4.0, 7.0]]),
    ],
    ids=["open", "thin", "orthorhombic", "triclinic"],
)
def test_cells_match_reference(n_atoms, spread, box, dtype):
    case = make_case([5, n_atoms, 0, 1], dtype=dtype, spread=spread, box=box)
    assert_bitwise(run(case), run(case, backend="reference"))


def test_rows_too_long_for_ranks_match_reference():
    case = make_case([2000], spread=1.0)
    # Cells, though most atoms lie in few of them.
    case.positions[::20] *= 10.0
    graph = run(case)
    assert graph.edge_ptr.diff().max() > 1000
    assert_bitwise(graph, run(case, backend="reference"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_edges_are_all_and_only_those_of_brute_force(backend, box, dtype):
    case = make_case([0, 7, 1, 0, 12], dtype=dtype, box=box)
    assert edges_as_set(run(case, backend=backend)) == edges_by_brute_force(case)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    cutoff=st.floats(0.01, 6.0),
    skew=st.none() | st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6),
    spread=st.sampled_from([0.01, 1.0, 50.0]),
    is_double=st.booleans(),
)
def test_any_system_matches_reference(seed, sizes, cutoff, skew, spread, is_double):
    box = None
    if skew is not None:
        sides = 3.0 * np.eye(3)
        sides[np.tril_indices(3, -1)] = skew[:3]
        box = sides + 0.3 * np.triu(np.resize(skew[3:], (3, 3)), 1)
    dtype = torch.float64 if is_double else torch.float32
    case = make_case(sizes, seed=seed, spread=spread, dtype=dtype, box=box)
    assert_bitwise(run(case, cutoff=cutoff), run(case, cutoff=cutoff, backend="reference"))


@settings(deadline=None, max_examples=60)
@given(
    points=st.lists(st.tuples(*[st.integers(-3, 3)] * 3), max_size=30),
    squared_cutoff=st.integers(1, 30),
    is_double=st.booleans(),
)
def test_lattice_points_at_the_cutoff_are_decided_exactly(points, squared_cutoff, is_double):
    dtype = torch.float64 if is_double else torch.float32
    case = SimpleNamespace(
        positions=torch.tensor(points, dtype=dtype).view(-1, 3),
        batch_ptr=torch.tensor([0, len(points)]),
        box=None,
    )
    # The distance of points at the cutoff, rounded as the op rounds it: equal, so no edge.
    cutoff = torch.tensor(math.sqrt(squared_cutoff), dtype=dtype).item()
    graph = run(case, cutoff=cutoff)
    expected = set()
    for i, j in itertools.permutations(range(len(points)), 2):
        squared = sum((a - b) ** 2 for a, b in zip(points[i], points[j], strict=True))
        if squared < squared_cutoff:
            expected.add((i, j, (0, 0, 0)))
    assert edges_as_set(graph) == expected
    assert_bitwise(graph, run(case, cutoff=cutoff, backend="reference"))


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_distance_equal_to_the_cutoff_is_no_edge_and_the_next_number_is(backend, dtype):
    case = SimpleNamespace(
        positions=torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]], dtype=dtype),
        batch_ptr=torch.tensor([0, 2]),
        box=None,
    )
    assert run(case, cutoff=5.0, backend=backend).edge_dist.tolist() == []
    beyond = torch.nextafter(torch.tensor(5.0, dtype=dtype), torch.tensor(6.0, dtype=dtype)).item()
    assert run(case, cutoff=beyond, backend=backend).edge_dist.tolist() == [5.0, 5.0]
    case.box = 5.0 * torch.eye(3, dtype=dtype)
    assert run(case, cutoff=1.0, backend=backend).edge_index.shape == (2, 0)


@pytest.mark.parametrize("cutoff", [1e-30, 1e-22, 1e18, 1e25])
def test_cutoffs_whose_square_under_or_overflows_match_reference(cutoff):
    case = make_case([5])
    case.positions *= cutoff
    case.positions[4] = case.positions[3]
    found = run(case, cutoff=cutoff)
    assert_bitwise(found, run(case, cutoff=cutoff, backend="reference"))
    assert found.edge_dist.numel() >= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_that_overflow_are_no_edges(dtype):
    case = make_case([700], dtype=dtype)
    case.positions = torch.finfo(dtype).max * case.positions.sign()
    case.positions[:2] = 0.0
    found = run(case)
    assert {(0, 1, (0, 0, 0)), (1, 0, (0, 0, 0))} < edges_as_set(found)
    assert_bitwise(found, run(case, backend="reference"))


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_distances_are_correctly_rounded_roots(backend):
    for dtype in (torch.float32, torch.float64):
        graph = run(make_case([129], dtype=dtype), backend=backend)
        x, y, z = graph.edge_vec.numpy().T
        assert np.array_equal(graph.edge_dist.numpy(), np.sqrt((x * x + y * y) + z * z))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_match_reference(sizes, box, dtype):
    case = make_case(sizes, dtype=dtype, box=box)
    # On one graph: in double another pair may be within the cutoff.
    graph, weights = run(case), [-1.0, 2.0]
    source, receiver = graph.edge_index
    molecule_box = torch.zeros(3, 3) if case.box is None else case.box
    positions = case.positions.double().requires_grad_()
    vec = positions[source] + graph.shifts.double() @ molecule_box.double() - positions[receiver]
    total = sum(
        (value * torch.linspace(*weights, value.numel(), dtype=dtype).view_as(value)).sum()
        for value in (vec, vec.norm(dim=1))
    )
    exact = torch.autograd.grad(total, positions)[0]
    check_against_reference(gradients(case), gradients(case, backend="reference"), exact)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("box", [None, TRICLINIC, SMALL], ids=["open", "triclinic", "small"])
def test_gradcheck_once_and_twice(box, backend):
    case = make_case([0, 3, 1, 2], dtype=torch.float64, box=box)
    positions = case.positions.requires_grad_()

    def edges(positions):
        graph = radius_graph(
            positions, cutoff=CUTOFF, batch_ptr=case.batch_ptr, box=case.box, backend=backend
        )
        return graph.edge_vec, graph.edge_dist

    assert edges(positions)[1].numel() > 0
    assert torch.autograd.gradcheck(edges, positions)
    assert torch.autograd.gradgradcheck(edges, positions)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_the_gradient_of_a_distance_of_zero_is_zero(backend):
    case = SimpleNamespace(
        positions=torch.zeros(2, 3), batch_ptr=torch.tensor([0, 2]), box=3.0 * torch.eye(3)
    )
    graph = run(case, backend=backend)
    assert graph.edge_dist.tolist() == [0.0, 0.0]
    grad = gradients(case, backend=backend, parts=("edge_dist",))
    assert torch.equal(grad, torch.zeros(2, 3))
    assert gradients(case, backend=backend).isfinite().all()
    positions = torch.zeros(2, 3, requires_grad=True)
    dist = radius_graph(positions, cutoff=1.0, batch_ptr=case.batch_ptr, backend=backend).edge_dist
    (first,) = torch.autograd.grad(dist.square().sum(), positions, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), positions)
    assert torch.equal(second, torch.zeros(2, 3))


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["open", "triclinic"])
def test_rotation_translation_and_permutation(box, backend):
    case = make_case([40], dtype=torch.float64, box=box)
    graph = run(case, backend=backend)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    order = torch.randperm(40)
    moved = SimpleNamespace(
        positions=(case.positions @ rotation.T + torch.tensor([4.0, -2.0, 1.0]).double())[order],
        batch_ptr=case.batch_ptr,
        box=None if box is None else case.box @ rotation.T,
    )
    found = run(moved, backend=backend)
    expected = {
        (int(order.argsort()[i]), int(order.argsort()[j]), shift)
        for i, j, shift in edges_as_set(graph)
    }
    assert edges_as_set(found) == expected
    torch.testing.assert_close(
        found.edge_dist.sort().values, graph.edge_dist.sort().values, rtol=0, atol=1e-13
    )
    keys = dict(zip(sorted(edges_as_set(graph)), graph.edge_vec, strict=True))
    rotated = [
        keys[int(order[i]), int(order[j]), shift] @ rotation.T
        for i, j, shift in sorted(edges_as_set(found))
    ]
    torch.testing.assert_close(found.edge_vec, torch.stack(rotated), rtol=0, atol=1e-13)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_edges_come_in_pairs_with_opposite_vectors_bitwise(box):
    graph = run(make_case([63, 30], box=box))
    source, receiver = graph.edge_index.tolist()
    rows = zip(source, receiver, graph.shifts.tolist(), graph.edge_vec.tolist(), strict=True)
    vectors = {(j, i, *shift): vec for j, i, shift, vec in rows}
    for (j, i, a, b, c), vec in vectors.items():
        assert vectors[i, j, -a, -b, -c] == [-x for x in vec]


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_whole_lattice_vectors_change_only_shifts(backend):
    case = make_case([30], dtype=torch.float64, box=SMALL)
    # Exact numbers, so that distances stay what they are.
    case.positions = (64 * case.positions).round() / 64
    graph = run(case, backend=backend)
    wraps = torch.randint(-9, 10, (30, 3), dtype=torch.int32)
    case.positions = case.positions + wraps.double() @ case.box
    found = run(case, backend=backend)
    assert torch.equal(found.edge_index, graph.edge_index)
    source, receiver = graph.edge_index
    assert torch.equal(found.shifts, graph.shifts - wraps[source] + wraps[receiver])
    assert torch.equal(found.edge_dist, graph.edge_dist)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_an_atom_sees_its_own_images(backend):
    case = make_case([1], box=(2.0 * np.eye(3)).tolist())
    graph = run(case, cutoff=2.5, backend=backend)
    assert graph.edge_index.tolist() == [[0] * 6, [0] * 6]
    assert graph.shifts.tolist() == [
        [-1, 0, 0],
        [0, -1, 0],
        [0, 0, -1],
        [0, 0, 1],
        [0, 1, 0],
        [1, 0, 0],
    ]
    assert graph.edge_dist.tolist() == [2.0] * 6
    # The number of lattice points but the origin in a ball, sum of three squares below 49.
    n_points = sum(
        0 < a * a + b * b + c * c < 49 for a, b, c in itertools.product(range(-7, 8), repeat=3)
    )
    assert run(case, cutoff=14.0, backend=backend).edge_dist.numel() == n_points


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("box", [None, CUBIC], ids=["open", "cubic"])
def test_empty_and_tiny(backend, box):
    for sizes in ([], [0, 0]):
        graph = run(make_case(sizes, box=box), backend=backend)
        assert [tuple(value.shape) for value in graph] == [
            (2, 0),
            (1,),
            (0, 3),
            (0,),
            (0, 3),
            (2,),
        ]
        assert graph.edge_ptr.tolist() == [0]
    alone = run(make_case([1, 1], box=box), backend=backend)
    assert alone.edge_ptr.tolist() == [0, 0, 0]
    case = make_case([3, 0, 2], box=box)
    case.positions = torch.tensor([[0.0], [0.5], [1.9], [0.0], [2.1]]).expand(5, 3).clone()
    case.positions[:, 1:] = 0.0
    between = run(case, backend=backend)
    assert between.edge_index.tolist() == [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]]
    # The last atoms have no edges, and rows of their own nevertheless.
    assert between.edge_ptr.tolist() == [0, 2, 4, 6, 6, 6]
    assert gradients(case, backend=backend)[3:].tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_noncontiguous_and_offset_views(backend):
    case = make_case([3, 4], box=TRICLINIC)
    expected = run(case, backend=backend)
    wide = torch.full((8, 6), torch.nan)
    wide[1:, 1::2] = case.positions
    views = SimpleNamespace(
        positions=wide[1:, 1::2],
        batch_ptr=torch.stack((case.batch_ptr, case.batch_ptr), dim=1)[:, 0],
        box=case.box.T.contiguous().T,
    )
    assert not any(tensor.is_contiguous() for tensor in vars(views).values())
    assert_bitwise(run(views, backend=backend), expected)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_boxes_of_their_own_equal_one_for_all(backend):
    case = make_case([5, 0, 9], box=TRICLINIC)
    expected = run(case, backend=backend)
    case.box = case.box.expand(3, 3, 3)
    assert_bitwise(run(case, backend=backend), expected)
    case.box = torch.tensor([TRICLINIC, CUBIC, SMALL])
    last = SimpleNamespace(
        positions=case.positions[5:], batch_ptr=torch.tensor([0, 9]), box=torch.tensor(SMALL)
    )
    found, alone = run(case, backend=backend), run(last, backend=backend)
    assert torch.equal(found.edge_vec[found.edge_ptr[5] :], alone.edge_vec)


def test_inputs_are_untouched_and_shifts_without_a_box_are_one_row():
    case = make_case([3, 4])
    before = case.positions.clone()
    graph = run(case)
    assert torch.equal(case.positions, before)
    assert graph.shifts.stride() == (0, 1)
    assert not graph.shifts.any()
    assert all(tensor.is_contiguous() for tensor in graph[:4])


NAN_AT_3 = torch.tensor([[0.0]] * 3 + [[math.nan]] + [[0.0]] * 3).expand(7, 3)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"positions": torch.zeros(7, 2)}, ValueError, r"positions: expected shape \(n_atoms, 3\)"),
        ({"positions": torch.zeros(7, 3).half()}, TypeError, "positions: expected dtype float32"),
        ({"positions": NAN_AT_3}, ValueError, "positions: expected finite .* got nan in row 3"),
        ({"positions": -NAN_AT_3.nan_to_num(math.inf)}, ValueError, "got -inf in row 3"),
        (
            {"positions": torch.full((7, 3), 1e9)},
            ValueError,
            "positions: .* 1048576 boxes .* row 0",
        ),
        ({"cutoff": 0.0}, ValueError, "cutoff: expected a value above zero, got 0"),
        ({"cutoff": -1.0}, ValueError, "cutoff: expected a value above zero, got -1"),
        ({"cutoff": math.nan}, ValueError, "cutoff: expected a value above zero, got nan"),
        ({"cutoff": math.inf}, ValueError, "cutoff: expected a value above zero, got inf"),
        ({"cutoff": 1e5}, ValueError, "cutoff: expected fewer than 2147483647 images"),
        ({"box": torch.zeros(3, 3)}, ValueError, "box: .* independent rows, got determinant 0.0"),
        ({"box": torch.ones(2, 3, 3)}, ValueError, "box: .* independent rows, got determinant"),
        ({"box": torch.full((3, 3), math.inf)}, ValueError, "box: expected finite values, got inf"),
        ({"box": torch.eye(3).double()}, TypeError, "box: expected dtype float32"),
        ({"box": torch.eye(4)}, ValueError, r"box: .* \(3, 3\) or \(2, 3, 3\), got \(4, 4\)"),
        ({"box": torch.ones(3, 3, 3)}, ValueError, r"box: .*, got \(3, 3, 3\)"),
        ({"box": torch.eye(3).requires_grad_()}, ValueError, "box: expected no gradient, .*detach"),
        ({"batch_ptr": torch.tensor([0, 3, 6])}, ValueError, "batch_ptr: .* got 0 to 6"),
        ({"batch_ptr": torch.tensor([0, 9, 7])}, ValueError, "batch_ptr: expected non-decreasing"),
        ({"batch_ptr": torch.tensor([0, 7]).int()}, TypeError, "batch_ptr: expected dtype int64"),
        ({"batch_ptr": torch.empty(0).long()}, ValueError, r"batch_ptr: expected shape"),
    ],
)
def test_invalid_inputs(backend, change, error, match):
    case = make_case([3, 4], box=CUBIC)
    given = {"cutoff": CUTOFF} | vars(case) | change
    with pytest.raises(error, match=match):
        radius_graph(given.pop("positions"), **given, backend=backend)


def test_unknown_backends_are_refused():
    with pytest.raises(ValueError, match="backend: expected one of auto"):
        run(make_case([3]), backend="cpu")


@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["open", "triclinic"])
def test_deterministic_with_any_number_of_threads(restore_threads, box):
    case = make_case([1, 63, 129, 0] * 40 + [2000], spread=3.0, box=box)
    torch.set_num_threads(1)
    one, one_grad = run(case), gradients(case)
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        assert bytes_of(run(case)) == bytes_of(one)
        assert torch.equal(gradients(case), one_grad)


@pytest.mark.parametrize("capacity", [None, 50])
@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["open", "triclinic"])
def test_opcheck(box, capacity):
    case = make_case([0, 3, 1, 2], box=box)
    torch.library.opcheck(
        torch.ops.tito_fast.radius_graph.default,
        (case.positions.clone().requires_grad_(), case.batch_ptr, case.box, CUTOFF, capacity),
    )
    graph = run(case)
    torch.library.opcheck(
        torch.ops.tito_fast.radius_graph_backward.default,
        (
            torch.ones_like(graph.edge_vec).requires_grad_(),
            torch.ones_like(graph.edge_dist).requires_grad_(),
            graph.edge_vec.clone().requires_grad_(),
            graph.edge_dist.clone().requires_grad_(),
            graph.edge_index,
            graph.edge_ptr,
            case.batch_ptr,
        ),
    )


def test_a_backward_with_sources_elsewhere_is_refused():
    case = make_case([3, 3], spread=0.1)
    graph = run(case)
    with pytest.raises(ValueError, match="edge_index: expected sources in the molecule"):
        torch.ops.tito_fast.radius_graph_backward(
            graph.edge_vec,
            graph.edge_dist,
            graph.edge_vec,
            graph.edge_dist,
            graph.edge_index + 3,
            graph.edge_ptr,
            case.batch_ptr,
        )


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["open", "triclinic"])
def test_batch_equals_loop(backend, box):
    case = make_case([5, 1, 0, 63, 2], box=box)
    together = run(case, backend=backend)
    for start, end in pairwise(case.batch_ptr.tolist()):
        one = SimpleNamespace(
            positions=case.positions[start:end],
            batch_ptr=torch.tensor([0, end - start]),
            box=case.box,
        )
        alone = run(one, backend=backend)
        edges = slice(int(together.edge_ptr[start]), int(together.edge_ptr[end]))
        assert torch.equal(alone.edge_index + start, together.edge_index[:, edges])
        assert torch.equal(alone.edge_vec, together.edge_vec[edges])
        assert torch.equal(alone.edge_dist, together.edge_dist[edges])
        assert torch.equal(alone.shifts, together.shifts[edges])


def test_reference_is_the_formula():
    positions = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    edge_index, edge_ptr, edge_vec, edge_dist, shifts, status = radius_graph_reference(
        positions, torch.tensor([0, 2, 3]), 8.0 * torch.eye(3), 5.5
    )
    assert edge_index.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert edge_ptr.tolist() == [0, 2, 4, 4]
    assert edge_vec.tolist() == [[3, -4, 0], [3, 4, 0], [-3, -4, 0], [-3, 4, 0]]
    assert edge_dist.tolist() == [5.0] * 4
    assert shifts.tolist() == [[0, -1, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert status.tolist() == [0, 4]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_cuda_reference_gives_the_same_bits(box, dtype):
    case = make_case([0, 63, 1, 129], dtype=dtype, box=box)
    expected = run(case)
    on_cuda = {
        name: None if tensor is None else tensor.cuda() for name, tensor in vars(case).items()
    }
    found = radius_graph(**on_cuda, cutoff=CUTOFF, backend="reference")
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.cpu(), theirs)
