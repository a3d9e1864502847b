from types import SimpleNamespace

import pytest
import torch

from tito_fast.ops import edge_embed
from tito_fast.ops.edge_embed.reference import edge_embed_reference
from tito_fast.testing.tolerance import check_against_reference

N_TYPES = 22
BACKENDS = ["native", "reference"]
# Edges and features; 5000 edges are three chunks of the backward.
SIZES = [(0, 8), (1, 1), (63, 7), (129, 64), (5000, 33), (4096, 8)]


def make_case(n_edges, n_features, *, n_types=N_TYPES, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    bonded = torch.rand(n_edges, generator=generator) < 0.3
    types = torch.randint(0, n_types, (n_edges,), generator=generator)
    return SimpleNamespace(
        edge_type=torch.where(bonded, types, 0),
        table=torch.randn(n_types, n_features, generator=generator, dtype=dtype),
        grad=torch.randn(n_edges, n_features, generator=generator, dtype=dtype),
    )


def gradient(case, dtype, *, backend):
    table = case.table.to(dtype).requires_grad_()
    features = edge_embed(case.edge_type, table, backend=backend)
    return torch.autograd.grad(features, table, case.grad.to(dtype))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference(sizes, dtype):
    case = make_case(*sizes, dtype=dtype)
    found = edge_embed(case.edge_type, case.table, backend="native")
    assert torch.equal(found, edge_embed(case.edge_type, case.table, backend="reference"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_match_reference(sizes, dtype):
    case = make_case(*sizes, dtype=dtype)
    check_against_reference(
        gradient(case, dtype, backend="native"),
        gradient(case, dtype, backend="reference"),
        gradient(case, torch.float64, backend="reference"),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck_once_and_twice(backend):
    case = make_case(9, 3, n_types=4, dtype=torch.float64)

    def embed(table):
        return edge_embed(case.edge_type, table, backend=backend)

    assert torch.autograd.gradcheck(embed, case.table.requires_grad_())
    assert torch.autograd.gradgradcheck(embed, case.table)


def test_backward_op_is_differentiable():
    case = make_case(9, 3, n_types=4, dtype=torch.float64)

    def sums(grad):
        return torch.ops.tito_fast.edge_embed_backward(grad, case.edge_type, 4)

    assert torch.autograd.gradcheck(sums, case.grad.requires_grad_())
    assert torch.autograd.gradgradcheck(sums, case.grad)


@pytest.mark.parametrize("backend", BACKENDS)
def test_permuting_edges_permutes_rows_and_leaves_the_gradient(backend):
    case = make_case(5000, 5, dtype=torch.float64)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(1))
    permuted = SimpleNamespace(
        edge_type=case.edge_type[order], table=case.table, grad=case.grad[order]
    )
    expected = edge_embed(case.edge_type, case.table, backend=backend)[order]
    assert not torch.equal(expected, edge_embed(case.edge_type, case.table, backend=backend))
    assert torch.equal(edge_embed(permuted.edge_type, case.table, backend=backend), expected)
    torch.testing.assert_close(
        gradient(permuted, torch.float64, backend=backend),
        gradient(case, torch.float64, backend=backend),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_renaming_types_renames_rows_of_the_gradient(backend):
    case = make_case(500, 5)
    order = torch.randperm(N_TYPES, generator=torch.Generator().manual_seed(1))
    renamed = SimpleNamespace(
        edge_type=order.argsort()[case.edge_type], table=case.table[order], grad=case.grad
    )
    assert torch.equal(
        edge_embed(renamed.edge_type, renamed.table, backend=backend),
        edge_embed(case.edge_type, case.table, backend=backend),
    )
    assert torch.equal(
        gradient(renamed, torch.float32, backend=backend),
        gradient(case, torch.float32, backend=backend)[order],
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("n_edges", "n_types", "n_features"), [(0, 5, 3), (0, 0, 3), (4, 2, 0)])
def test_empty(n_edges, n_types, n_features, backend):
    edge_type = torch.zeros(n_edges, dtype=torch.int64)
    table = torch.ones(n_types, n_features, requires_grad=True)
    features = edge_embed(edge_type, table, backend=backend)
    assert features.shape == (n_edges, n_features)
    (grad,) = torch.autograd.grad(features.sum(), table)
    assert torch.equal(grad, torch.zeros(n_types, n_features))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_edge_and_types_without_edges(backend):
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    features = edge_embed(torch.tensor([1]), table, backend=backend)
    assert torch.equal(features, torch.tensor([[3.0, 4.0]]))
    (grad,) = torch.autograd.grad(features, table, torch.tensor([[7.0, -8.0]]))
    assert torch.equal(grad, torch.tensor([[0.0, 0.0], [7.0, -8.0], [0.0, 0.0]]))


@pytest.mark.parametrize("n_types", [1, 300, 3000])
def test_gradient_of_small_and_large_tables(n_types):
    case = make_case(5000, 3, n_types=n_types)
    check_against_reference(
        gradient(case, torch.float32, backend="native"),
        gradient(case, torch.float32, backend="reference"),
        gradient(case, torch.float64, backend="reference"),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_noncontiguous_and_offset_views(backend):
    case = make_case(129, 7)
    expected = edge_embed(case.edge_type, case.table, backend=backend)
    expected_grad = gradient(case, torch.float32, backend=backend)
    types = torch.full((130, 2), -1)
    types[1:, 1] = case.edge_type
    wide = torch.full((15, N_TYPES + 1), torch.nan)
    wide[1::2, 1:] = case.table.T
    grads = torch.full((8, 129), torch.nan)
    grads[1:] = case.grad.T
    views = SimpleNamespace(edge_type=types[1:, 1], table=wide[1::2, 1:].T, grad=grads[1:].T)
    assert not any(view.is_contiguous() for view in vars(views).values())
    assert torch.equal(edge_embed(views.edge_type, views.table, backend=backend), expected)
    assert torch.equal(gradient(views, torch.float32, backend=backend), expected_grad)


@pytest.mark.parametrize("backend", BACKENDS)
def test_expanded_gradient(backend):
    case = make_case(129, 7)
    table = case.table.requires_grad_()
    (grad,) = torch.autograd.grad(edge_embed(case.edge_type, table, backend=backend).sum(), table)
    counts = torch.bincount(case.edge_type, minlength=N_TYPES)
    assert torch.equal(grad, counts[:, None].expand(-1, 7).float())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"edge_type": [0, 1, 3, 7]}, ValueError, "n_types = 3, got 3 at edge 2"),
        ({"edge_type": [0, -1]}, ValueError, "edge_type: expected 0 to .* got -1 at edge 1"),
        ({"edge_type": [2**62]}, ValueError, f"edge_type: expected 0 to .* got {2**62} at edge 0"),
        ({"edge_type": [[0]]}, ValueError, r"edge_type: expected shape \(n_edges,\), got \(1, 1\)"),
        ({"edge_type": [0.0]}, TypeError, "edge_type: expected dtype int64, got float32"),
        ({"table": torch.ones(3)}, ValueError, r"table: expected shape \(n_types, n_features\)"),
        ({"table": torch.ones(3, 2).half()}, TypeError, "table: expected dtype float32 or float64"),
        ({"table": torch.ones(0, 2)}, ValueError, "n_types = 0, got 0 at edge 0"),
    ],
)
def test_invalid_inputs(change, error, match, backend):
    given = {"edge_type": [0, 1], "table": torch.ones(3, 2)} | change
    with pytest.raises(error, match=match):
        edge_embed(torch.tensor(given["edge_type"]), given["table"], backend=backend)


def test_inputs_are_untouched_and_the_result_is_new():
    case = make_case(20, 2)
    before = case.edge_type.clone(), case.table.clone()
    edge_embed(case.edge_type, case.table).zero_()
    assert torch.equal(case.edge_type, before[0])
    assert torch.equal(case.table, before[1])


def test_deterministic_with_any_number_of_threads(restore_threads):
    case = make_case(40001, 33)
    torch.set_num_threads(1)
    features = edge_embed(case.edge_type, case.table, backend="native")
    grad = gradient(case, torch.float32, backend="native")
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        again = edge_embed(case.edge_type, case.table, backend="native")
        assert torch.equal(again, features)
        assert torch.equal(gradient(case, torch.float32, backend="native"), grad)


def test_opcheck():
    case = make_case(9, 3, n_types=4)
    torch.library.opcheck(
        torch.ops.tito_fast.edge_embed.default, (case.edge_type, case.table.requires_grad_())
    )
    torch.library.opcheck(
        torch.ops.tito_fast.edge_embed_backward.default,
        (case.grad.requires_grad_(), case.edge_type, 4),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_equals_loop(backend):
    case = make_case(200, 5)
    together = edge_embed(case.edge_type, case.table, backend=backend)
    parts = [
        edge_embed(part, case.table, backend=backend)
        for part in case.edge_type.split([63, 0, 1, 136])
    ]
    assert torch.equal(torch.cat(parts), together)


def test_reference_is_the_formula():
    case = make_case(17, 3)
    features = edge_embed_reference(case.edge_type, case.table)
    for row, kind in zip(features, case.edge_type.tolist(), strict=True):
        assert torch.equal(row, case.table[kind])


@pytest.mark.gpu
def test_cuda_gives_the_same_rows():
    case = make_case(129, 7)
    found = edge_embed(case.edge_type.cuda(), case.table.cuda())
    assert torch.equal(found.cpu(), edge_embed(case.edge_type, case.table))
