import math
from itertools import pairwise, permutations
from types import SimpleNamespace

import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import radius_graph
from tito_fast.testing.tolerance import check_against_reference

SIZES = [[1], [2], [17], [0, 5, 0, 1, 7, 0], [3, 70]]
CUTOFF = 2.0


def make_case(sizes, device, *, dtype=torch.float32, spread=1.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    positions = spread * torch.randn(sum(sizes), 3, generator=generator, dtype=dtype)
    return SimpleNamespace(
        positions=positions.to(device), batch_ptr=torch.tensor([0, *sizes]).cumsum(0).to(device)
    )


def run(case, *, cutoff=CUTOFF, backend="triton"):
    return radius_graph(case.positions, cutoff=cutoff, batch_ptr=case.batch_ptr, backend=backend)


def on_cpu(case):
    return SimpleNamespace(positions=case.positions.cpu(), batch_ptr=case.batch_ptr.cpu())


def assert_bitwise(found, expected):
    for name, ours, theirs in zip(found._fields, found, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        assert torch.equal(ours.cpu(), theirs.cpu()), name


def weighted(graph):
    parts = []
    for part in (graph.edge_vec, graph.edge_dist):
        weight = torch.linspace(-1.0, 2.0, part.numel(), dtype=part.dtype).view_as(part)
        parts.append((part * weight.to(part.device)).sum())
    return sum(parts)


def gradient(case, **options):
    leaf = case.positions.clone().requires_grad_()
    graph = run(SimpleNamespace(positions=leaf, batch_ptr=case.batch_ptr), **options)
    return torch.autograd.grad(weighted(graph), leaf)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference_on_a_cpu_bitwise(triton_device, sizes, dtype):
    case = make_case(sizes, triton_device, dtype=dtype)
    assert_bitwise(run(case), run(on_cpu(case), backend="reference"))


def test_edges_are_all_and_only_those_of_brute_force(triton_device):
    case = make_case([0, 7, 1, 0, 12], triton_device)
    positions, expected = case.positions.double().tolist(), []
    for start, end in pairwise(case.batch_ptr.tolist()):
        for i, j in permutations(range(start, end), 2):
            dist = math.dist(positions[i], positions[j])
            assert abs(dist - CUTOFF) > 1e-6
            expected += [(i, j)] if dist < CUTOFF else []
    source, receiver = run(case).edge_index.tolist()
    assert list(zip(receiver, source, strict=True)) == sorted(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_distance_equal_to_the_cutoff_is_no_edge_and_the_next_number_is(triton_device, dtype):
    case = make_case([2], triton_device, dtype=dtype)
    case.positions = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]], dtype=dtype)
    case.positions = case.positions.to(triton_device)
    assert run(case, cutoff=5.0).edge_dist.tolist() == []
    beyond = torch.nextafter(torch.tensor(5.0, dtype=dtype), torch.tensor(6.0, dtype=dtype)).item()
    assert run(case, cutoff=beyond).edge_dist.tolist() == [5.0, 5.0]


@pytest.mark.parametrize("squared_cutoff", [1, 2, 5, 6])
def test_lattice_points_at_the_cutoff_match_the_reference(triton_device, squared_cutoff):
    case = make_case([30], triton_device)
    generator = torch.Generator().manual_seed(squared_cutoff)
    drawn = torch.randint(-2, 3, (30, 3), generator=generator)
    # Thirds are not representable: distances that are equal on paper are rounded apart.
    case.positions = (drawn / 3).to(triton_device)
    cutoff = math.sqrt(squared_cutoff) / 3
    assert_bitwise(run(case, cutoff=cutoff), run(on_cpu(case), cutoff=cutoff, backend="reference"))


@pytest.mark.parametrize("cutoff", [1e-30, 1e-22, 1e18])
def test_cutoffs_whose_square_underflows_match_reference(triton_device, cutoff):
    case = make_case([5], triton_device)
    case.positions *= cutoff
    case.positions[4] = case.positions[3]
    found = run(case, cutoff=cutoff)
    assert_bitwise(found, run(on_cpu(case), cutoff=cutoff, backend="reference"))
    assert found.edge_dist.numel() >= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_match_reference(triton_device, sizes, dtype):
    case = make_case(sizes, triton_device, dtype=dtype)
    source, receiver = run(case).edge_index
    # On one graph: in double another pair may be within the cutoff.
    leaf = case.positions.double().requires_grad_()
    vec = leaf[source] - leaf[receiver]
    graph = SimpleNamespace(edge_vec=vec, edge_dist=vec.norm(dim=1))
    (exact,) = torch.autograd.grad(weighted(graph), leaf)
    check_against_reference(gradient(case), gradient(case, backend="reference"), exact)


def test_gradcheck_once_and_twice(triton_device):
    case = make_case([0, 3], triton_device, dtype=torch.float64)

    def edges(positions):
        graph = run(SimpleNamespace(positions=positions, batch_ptr=case.batch_ptr), cutoff=6.0)
        return graph.edge_vec, graph.edge_dist

    positions = case.positions.requires_grad_()
    assert edges(positions)[1].numel() > 0
    assert torch.autograd.gradcheck(edges, positions)
    assert torch.autograd.gradgradcheck(edges, positions)


def test_the_gradient_of_a_distance_of_zero_is_zero(triton_device):
    case = make_case([2], triton_device)
    case.positions = torch.zeros_like(case.positions).requires_grad_()
    dist = run(case).edge_dist
    assert dist.tolist() == [0.0, 0.0]
    assert not torch.autograd.grad(dist.sum(), case.positions)[0].any()


def test_rotation_translation_and_permutation(triton_device):
    case = make_case([25], triton_device, dtype=torch.float64)
    graph = run(case)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    rotation = torch.linalg.qr(drawn)[0].to(triton_device)
    order = torch.randperm(25, generator=generator).to(triton_device)
    moved = SimpleNamespace(
        positions=(case.positions @ rotation.T + 2.0)[order], batch_ptr=case.batch_ptr
    )
    found = run(moved)
    renamed = order[found.edge_index]
    place = (renamed[1] * 25 + renamed[0]).argsort()
    assert torch.equal(renamed[:, place], graph.edge_index)
    torch.testing.assert_close(found.edge_dist[place], graph.edge_dist, rtol=0, atol=1e-13)
    turned = graph.edge_vec @ rotation.T
    torch.testing.assert_close(found.edge_vec[place], turned, rtol=0, atol=1e-13)


def test_empty_and_tiny(triton_device):
    for sizes in ([], [0, 0]):
        graph = run(make_case(sizes, triton_device))
        assert [tuple(value.shape) for value in graph] == [
            (2, 0),
            (1,),
            (0, 3),
            (0,),
            (0, 3),
            (2,),
        ]
        assert graph.edge_ptr.tolist() == [0]
    alone = run(make_case([1, 1], triton_device))
    assert alone.edge_ptr.tolist() == [0, 0, 0]
    case = make_case([3, 0, 2], triton_device)
    case.positions = torch.zeros(5, 3, device=triton_device)
    case.positions[:, 0] = torch.tensor([0.0, 0.5, 1.9, 0.0, 2.1])
    between = run(case)
    assert between.edge_index.tolist() == [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]]
    # The last atoms have no edges, and rows of their own nevertheless.
    assert between.edge_ptr.tolist() == [0, 2, 4, 6, 6, 6]
    assert gradient(case)[3:].tolist() == [[0.0] * 3] * 2


def test_noncontiguous_and_offset_views(triton_device):
    case = make_case([3, 4], triton_device)
    wide = torch.full((8, 6), torch.nan, device=triton_device)
    wide[1:, 1::2] = case.positions
    views = SimpleNamespace(
        positions=wide[1:, 1::2],
        batch_ptr=torch.stack((case.batch_ptr, case.batch_ptr), dim=1)[:, 0],
    )
    assert not any(tensor.is_contiguous() for tensor in vars(views).values())
    assert_bitwise(run(views), run(case))
    assert torch.equal(gradient(views), gradient(case))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"positions": torch.zeros(7, 2)}, ValueError, r"positions: expected shape \(n_atoms, 3\)"),
        (
            {"positions": torch.tensor([[0.0]] * 3 + [[math.nan]] * 4).expand(7, 3)},
            ValueError,
            "positions: expected finite values, got nan in row 3",
        ),
        ({"cutoff": 0.0}, ValueError, "cutoff: expected a value above zero, got 0"),
        ({"batch_ptr": torch.tensor([0, 5, 3, 7])}, ValueError, "batch_ptr: expected non-decr"),
        ({"batch_ptr": torch.tensor([0, 6])}, ValueError, "batch_ptr: .* n_atoms = 7, got 0 to 6"),
        ({"batch_ptr": torch.tensor([0, 7]).int()}, TypeError, "batch_ptr: expected dtype int64"),
    ],
)
def test_invalid_inputs(triton_device, change, error, match):
    given = {"cutoff": CUTOFF} | vars(make_case([3, 4], triton_device)) | change
    given = {
        name: value.to(triton_device) if isinstance(value, torch.Tensor) else value
        for name, value in given.items()
    }
    with pytest.raises(error, match=match):
        radius_graph(given.pop("positions"), **given, backend="triton")


@pytest.mark.parametrize(
    ("name", "value"), [("box", 9.0 * torch.eye(3)), ("capacity", 10)], ids=["box", "capacity"]
)
def test_box_and_capacity_are_refused(triton_device, name, value):
    case = make_case([3], triton_device)
    given = {name: value.to(triton_device) if isinstance(value, torch.Tensor) else value}
    with pytest.raises(BackendUnavailableError, match="takes neither box nor capacity"):
        radius_graph(
            case.positions, cutoff=1.0, batch_ptr=case.batch_ptr, backend="triton", **given
        )
    run(case)
    arguments = {"box": None, "capacity": None} | given
    with pytest.raises(ValueError, match=f"{name}: expected none, got one"):
        torch.ops.tito_fast.radius_graph_triton(
            case.positions, case.batch_ptr, arguments["box"], 1.0, arguments["capacity"]
        )


def test_deterministic(triton_device):
    case = make_case([5, 30], triton_device)
    assert_bitwise(run(case), run(case))
    assert torch.equal(gradient(case), gradient(case))


def test_opcheck(triton_device):
    case = make_case([0, 5, 3], triton_device)
    graph = run(case)
    assert graph.edge_dist.numel()
    ops = torch.ops.tito_fast
    torch.library.opcheck(
        ops.radius_graph_triton.default,
        (case.positions.clone().requires_grad_(), case.batch_ptr, None, CUTOFF, None),
    )
    vec, dist = graph.edge_vec, graph.edge_dist
    leaves = [each.clone().requires_grad_() for each in (vec + 1.0, dist + 1.0, vec, dist)]
    torch.library.opcheck(
        ops.radius_graph_triton_backward.default,
        (*leaves, graph.edge_index, graph.edge_ptr, case.batch_ptr),
    )


def test_batch_equals_loop(triton_device):
    case = make_case([5, 1, 0, 30, 2], triton_device)
    together = run(case)
    leaf = case.positions.clone().requires_grad_()
    graph = run(SimpleNamespace(positions=leaf, batch_ptr=case.batch_ptr))
    (grad,) = torch.autograd.grad(graph.edge_dist.sum() + graph.edge_vec[:, 0].sum(), leaf)
    for start, end in pairwise(case.batch_ptr.tolist()):
        leaf = case.positions[start:end].clone().requires_grad_()
        one = torch.tensor([0, end - start], device=triton_device)
        alone = run(SimpleNamespace(positions=leaf, batch_ptr=one))
        edges = slice(int(together.edge_ptr[start]), int(together.edge_ptr[end]))
        assert torch.equal(alone.edge_index + start, together.edge_index[:, edges])
        assert torch.equal(alone.edge_vec, together.edge_vec[edges])
        assert torch.equal(alone.edge_dist, together.edge_dist[edges])
        total = alone.edge_dist.sum() + alone.edge_vec[:, 0].sum()
        assert torch.equal(torch.autograd.grad(total, leaf)[0], grad[start:end])
