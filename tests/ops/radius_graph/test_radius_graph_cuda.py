"""The CUDA kernels of ``radius_graph`` behind the public function: on a GPU, else run on the host."""

import itertools
import math

import pytest
import torch

from tito_fast.errors import CapacityError
from tito_fast.ops import radius_graph
from tito_fast.ops.radius_graph.reference import radius_graph_reference

CUTOFF = 2.0
CUBIC = [[4.5, 0.0, 0.0], [0.0, 4.5, 0.0], [0.0, 0.0, 4.5]]
TRICLINIC = [[4.5, 0.0, 0.0], [1.5, 4.0, 0.0], [-1.0, 1.25, 5.0]]
# Half the heights are below the cutoff: pairs repeat, and atoms see themselves.
SMALL = [[1.25, 0.25, 0.0], [0.0, 1.5, -0.25], [0.5, 0.0, 2.5]]
BOXES = {"open": None, "cubic": CUBIC, "triclinic": TRICLINIC, "small": SMALL}


def make_case(sizes, device, *, dtype=torch.float32, box=None, spread=1.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    positions = spread * torch.randn(sum(sizes), 3, generator=generator, dtype=dtype)
    return {
        "positions": positions.to(device),
        "batch_ptr": torch.tensor([0, *sizes], device=device).cumsum(0),
        "box": None if box is None else torch.tensor(box, dtype=dtype, device=device),
        "cutoff": CUTOFF,
    }


def run(case, **options):
    return radius_graph(case["positions"], **_rest(case), backend="native", **options)


def _rest(case):
    return {name: value for name, value in case.items() if name != "positions"}


def reference(case):
    given = [case[name] for name in ("positions", "batch_ptr", "box")]
    return radius_graph_reference(
        *[None if each is None else each.cpu() for each in given], case["cutoff"]
    )


def assert_bitwise(found, expected):
    for name, ours, theirs in zip(found._fields, found, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        assert torch.equal(ours.cpu(), theirs.cpu()), name


def gradients(positions, case, **options):
    graph = radius_graph(positions, **_rest(case), **options)
    n_edges = int(graph.status[1])
    total = positions.sum() * 0.0
    for value in (graph.edge_vec[:n_edges], graph.edge_dist[:n_edges]):
        weight = torch.linspace(-1.0, 2.0, value.numel(), dtype=value.dtype, device=value.device)
        total = total + (value * weight.view_as(value)).sum()
    return torch.autograd.grad(total, positions)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("sizes", [[1], [2], [33], [1, 40, 0, 65], [0, 5, 0, 1, 7, 0]], ids=str)
def test_matches_reference_bitwise(cuda_device, sizes, box, dtype):
    case = make_case(sizes, cuda_device, dtype=dtype, box=box)
    expected = reference(case)
    assert_bitwise(run(case), expected)
    assert_bitwise(run(case, capacity=expected[0].shape[1]), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_gradients_match_reference(cuda_device, box, dtype):
    case = make_case([0, 5, 0, 30, 1], cuda_device, dtype=dtype, box=box)
    leaf = case["positions"].clone().requires_grad_()
    found = gradients(leaf, case, backend="native")
    with_capacity = gradients(leaf, case, backend="native", capacity=8000)
    assert torch.equal(found, with_capacity)
    exact_case = {
        name: value.double() if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in case.items()
    }
    exact_leaf = exact_case["positions"].clone().requires_grad_()
    exact = gradients(exact_leaf, exact_case, backend="reference")
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


def test_gradcheck_once_and_twice(cuda_device):
    case = make_case([3, 4], cuda_device, dtype=torch.float64, box=TRICLINIC)

    def edges(positions):
        graph = radius_graph(positions, **_rest(case), capacity=200, backend="native")
        return graph.edge_vec[:20], graph.edge_dist[:20]

    leaf = case["positions"].clone().requires_grad_()
    assert torch.autograd.gradcheck(edges, leaf)
    assert torch.autograd.gradgradcheck(edges, leaf)


def test_too_small_a_capacity_is_known_when_the_host_looks(cuda_device):
    case = make_case([5, 20], cuda_device)
    n_edges = run(case).edge_dist.shape[0]
    graph = run(case, capacity=n_edges - 1)
    # Empty, so that what follows on the device stays within it.
    assert (graph.edge_ptr == 0).all()
    assert (graph.edge_index == -1).all()
    assert (graph.edge_vec == 0).all()
    with pytest.raises(CapacityError, match=f"found {n_edges} edges, capacity is {n_edges - 1}; "):
        graph.check()
    run(case, capacity=n_edges).check()


@pytest.mark.parametrize(
    ("change", "precise", "late"),
    [
        (
            {"positions": torch.full((7, 3), math.nan)},
            "got nan in row 0",
            "positions: expected fin",
        ),
        ({"batch_ptr": torch.tensor([0, 5, 3, 7])}, "batch_ptr: expected non-d", "batch_ptr: exp"),
        ({"batch_ptr": torch.tensor([0, 6])}, "batch_ptr: expected non-d", "batch_ptr: expected"),
        ({"box": torch.full((3, 3), math.inf)}, "box: .* got inf", "box: expected finite values"),
        ({"box": torch.ones(3, 3)}, "box: expected linearly indep", "box: expected linearly indep"),
        (
            {"positions": torch.full((7, 3), 1e7), "box": torch.eye(3)},
            "positions: expected within 1048576 boxes .* in row 0; wrap",
            "positions: expected within 1048576 boxes",
        ),
        (
            {"cutoff": 1e5, "box": torch.eye(3)},
            "cutoff: expected fewer than 2147483647 images .* about",
            "cutoff: expected fewer than 2147483647 images",
        ),
    ],
)
def test_invalid_values(cuda_device, change, precise, late):
    case = make_case([3, 4], cuda_device)
    case |= {
        name: value.to(cuda_device) if torch.is_tensor(value) else value
        for name, value in change.items()
    }
    with pytest.raises(ValueError, match=precise):
        run(case)
    graph = run(case, capacity=50)
    assert (graph.edge_ptr == 0).all()
    with pytest.raises(ValueError, match=late):
        graph.check()


def test_noncontiguous_and_offset_views(cuda_device):
    case = make_case([3, 4], cuda_device, box=TRICLINIC)
    wide = torch.full((8, 6), torch.nan, device=cuda_device)
    wide[1:, 1::2] = case["positions"]
    views = case | {
        "positions": wide[1:, 1::2],
        "batch_ptr": torch.stack((case["batch_ptr"], case["batch_ptr"]), dim=1)[:, 0],
        "box": case["box"].T.contiguous().T,
    }
    assert not any(value.is_contiguous() for value in views.values() if torch.is_tensor(value))
    assert_bitwise(run(views), run(case))


@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["open", "triclinic"])
def test_batch_equals_loop(cuda_device, box):
    case = make_case([5, 1, 0, 40, 2], cuda_device, box=box)
    together = run(case)
    for start, end in itertools.pairwise(case["batch_ptr"].tolist()):
        one = case | {
            "positions": case["positions"][start:end],
            "batch_ptr": torch.tensor([0, end - start], device=cuda_device),
        }
        alone = run(one)
        edges = slice(int(together.edge_ptr[start]), int(together.edge_ptr[end]))
        assert torch.equal(alone.edge_index + start, together.edge_index[:, edges])
        assert torch.equal(alone.edge_vec, together.edge_vec[edges])
        assert torch.equal(alone.shifts, together.shifts[edges])


def test_at_most_three_launches(host_cuda):
    case = make_case([5, 40], torch.device("cpu"))
    run(case, capacity=2000)
    assert len(host_cuda.take_log()) <= 2  # and one memset


def test_a_failed_launch_names_kernel_and_sizes(host_cuda):
    host_cuda.fail_next_launch("cudaErrorInvalidValue, invalid argument")
    with pytest.raises(RuntimeError, match=r"radius_graph_count: .*n_atoms = 45.*invalid argument"):
        run(make_case([5, 40], torch.device("cpu")))


@pytest.mark.gpu
@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["open", "triclinic"])
def test_a_captured_search_follows_its_inputs(box):
    device = torch.device("cuda")
    cases = [make_case([5, 1, 0, 40], device, box=box, seed=seed) for seed in range(3)]
    static = {
        name: value.clone() if torch.is_tensor(value) else value for name, value in cases[0].items()
    }
    run(static, capacity=8000)
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        graph = run(static, capacity=8000)
    for case in cases:
        static["positions"].copy_(case["positions"])
        captured.replay()
        graph.check()
        assert_bitwise(graph, run(case, capacity=8000))


@pytest.mark.gpu
def test_large_systems_match_the_cpu_bitwise():
    device = torch.device("cuda")
    boxes = (None, torch.diag(torch.tensor([27.0, 30.0, 33.0])).tolist())
    for box, dtype in itertools.product(boxes, (torch.float32, torch.float64)):
        case = make_case([70, 20000, 3000], device, box=box, dtype=dtype, spread=9.0)
        on_cpu = {
            name: value.cpu() if torch.is_tensor(value) else value for name, value in case.items()
        }
        assert_bitwise(run(case), run(on_cpu))
