import importlib
from types import SimpleNamespace

import pytest
import torch

from tito_fast.ops import edge_embed
from tito_fast.testing.tolerance import check_against_reference

N_TYPES = 22
# Edges, features: less than a tile, more than a split of the backward, more than a tile of features.
SIZES = [(1, 1), (63, 7), (2500, 33), (129, 64), (40, 200)]


def make_case(n_edges, n_features, device, *, n_types=N_TYPES, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    bonded = torch.rand(n_edges, generator=generator) < 0.3
    types = torch.randint(0, n_types, (n_edges,), generator=generator)
    return SimpleNamespace(
        edge_type=torch.where(bonded, types, 0).to(device),
        table=torch.randn(n_types, n_features, generator=generator, dtype=dtype).to(device),
        grad=torch.randn(n_edges, n_features, generator=generator, dtype=dtype).to(device),
    )


def gradient(case, dtype=torch.float32, *, backend="triton"):
    table = case.table.detach().to(dtype).requires_grad_()
    features = edge_embed(case.edge_type, table, backend=backend)
    return torch.autograd.grad(features, table, case.grad.to(dtype))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference(triton_device, sizes, dtype):
    case = make_case(*sizes, triton_device, dtype=dtype)
    found = edge_embed(case.edge_type, case.table, backend="triton")
    assert torch.equal(found, edge_embed(case.edge_type, case.table, backend="reference"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_match_reference(triton_device, sizes, dtype):
    case = make_case(*sizes, triton_device, dtype=dtype)
    check_against_reference(
        gradient(case, dtype),
        gradient(case, dtype, backend="reference"),
        gradient(case, torch.float64, backend="reference"),
    )


@pytest.mark.parametrize("n_types", [1, 300])
def test_gradient_of_small_and_large_tables(triton_device, n_types):
    case = make_case(2100 if n_types == 1 else 50, 3, triton_device, n_types=n_types)
    check_against_reference(
        gradient(case),
        gradient(case, backend="reference"),
        gradient(case, torch.float64, backend="reference"),
    )


@pytest.mark.parametrize("most_rows", [10, 25])
def test_gradient_in_as_few_splits_as_a_large_table_gets(triton_device, monkeypatch, most_rows):
    case = make_case(2100, 3, triton_device, n_types=12)
    expected = gradient(case, torch.float64, backend="reference")
    # The name tito_fast.ops.edge_embed leads to the function, not to its package.
    triton_op = importlib.import_module("tito_fast.ops.edge_embed.triton_op")
    monkeypatch.setattr(triton_op, "_MOST_ROWS", most_rows)
    check_against_reference(gradient(case), gradient(case, backend="reference"), expected)


def test_gradcheck_once_and_twice(triton_device):
    case = make_case(5, 2, triton_device, n_types=3, dtype=torch.float64)

    def embed(table):
        return edge_embed(case.edge_type, table, backend="triton")

    def sums(grad):
        return torch.ops.tito_fast.edge_embed_triton_backward(grad, case.edge_type, 3)

    for function, given in ((embed, case.table), (sums, case.grad)):
        assert torch.autograd.gradcheck(function, given.requires_grad_())
        assert torch.autograd.gradgradcheck(function, given)


def test_permuting_edges_permutes_rows_and_leaves_the_gradient(triton_device):
    case = make_case(300, 5, triton_device, dtype=torch.float64)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1)).to(triton_device)
    permuted = SimpleNamespace(
        edge_type=case.edge_type[order], table=case.table, grad=case.grad[order]
    )
    expected = edge_embed(case.edge_type, case.table, backend="triton")
    assert not torch.equal(expected[order], expected)
    found = edge_embed(permuted.edge_type, case.table, backend="triton")
    assert torch.equal(found, expected[order])
    torch.testing.assert_close(
        gradient(permuted, torch.float64), gradient(case, torch.float64), rtol=0, atol=1e-12
    )


def test_renaming_types_renames_rows_of_the_gradient(triton_device):
    case = make_case(500, 5, triton_device)
    order = torch.randperm(N_TYPES, generator=torch.Generator().manual_seed(1)).to(triton_device)
    renamed = SimpleNamespace(
        edge_type=order.argsort()[case.edge_type], table=case.table[order], grad=case.grad
    )
    assert torch.equal(
        edge_embed(renamed.edge_type, renamed.table, backend="triton"),
        edge_embed(case.edge_type, case.table, backend="triton"),
    )
    assert torch.equal(gradient(renamed), gradient(case)[order])


@pytest.mark.parametrize(("n_edges", "n_types", "n_features"), [(0, 5, 3), (0, 0, 3), (4, 2, 0)])
def test_empty(triton_device, n_edges, n_types, n_features):
    edge_type = torch.zeros(n_edges, dtype=torch.int64, device=triton_device)
    table = torch.ones(n_types, n_features, device=triton_device, requires_grad=True)
    features = edge_embed(edge_type, table, backend="triton")
    assert features.shape == (n_edges, n_features)
    (grad,) = torch.autograd.grad(features.sum(), table)
    assert torch.equal(grad, torch.zeros_like(table))


def test_one_edge_and_types_without_edges(triton_device):
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], device=triton_device)
    one = torch.tensor([1], device=triton_device)
    features = edge_embed(one, table.requires_grad_(), backend="triton")
    assert features.tolist() == [[3.0, 4.0]]
    weight = torch.tensor([[7.0, -8.0]], device=triton_device)
    (grad,) = torch.autograd.grad(features, table, weight)
    assert grad.tolist() == [[0.0, 0.0], [7.0, -8.0], [0.0, 0.0]]


def test_noncontiguous_and_offset_views(triton_device):
    case = make_case(129, 7, triton_device)
    types = torch.full((130, 2), -1, device=triton_device)
    types[1:, 1] = case.edge_type
    wide = torch.full((15, N_TYPES + 1), torch.nan, device=triton_device)
    wide[1::2, 1:] = case.table.T
    grads = torch.full((8, 129), torch.nan, device=triton_device)
    grads[1:] = case.grad.T
    views = SimpleNamespace(edge_type=types[1:, 1], table=wide[1::2, 1:].T, grad=grads[1:].T)
    assert not any(view.is_contiguous() for view in vars(views).values())
    assert torch.equal(
        edge_embed(views.edge_type, views.table, backend="triton"),
        edge_embed(case.edge_type, case.table, backend="triton"),
    )
    assert torch.equal(gradient(views), gradient(case))


def test_expanded_gradient(triton_device):
    case = make_case(129, 7, triton_device)
    table = case.table.requires_grad_()
    (grad,) = torch.autograd.grad(edge_embed(case.edge_type, table, backend="triton").sum(), table)
    counts = torch.bincount(case.edge_type.cpu(), minlength=N_TYPES)
    assert torch.equal(grad.cpu(), counts[:, None].expand(-1, 7).float())


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"edge_type": [[0]]}, ValueError, r"edge_type: expected shape \(n_edges,\), got \(1, 1\)"),
        ({"edge_type": [0.0]}, TypeError, "edge_type: expected dtype int64, got float32"),
        ({"table": torch.ones(3)}, ValueError, r"table: expected shape \(n_types, n_features\)"),
        ({"table": torch.ones(3, 2).half()}, TypeError, "table: expected dtype float32 or float64"),
    ],
)
def test_invalid_inputs(triton_device, change, error, match):
    given = {"edge_type": [0, 1], "table": torch.ones(3, 2)} | change
    edge_type = torch.tensor(given["edge_type"], device=triton_device)
    with pytest.raises(error, match=match):
        edge_embed(edge_type, given["table"].to(triton_device), backend="triton")


def test_types_that_the_table_lacks_are_refused_or_give_nan(triton_device):
    case = make_case(3, 2, triton_device, n_types=3)
    unknown = torch.tensor([1, 3, -1, 2**62, 2], device=triton_device)
    if triton_device.type == "cpu":
        with pytest.raises(ValueError, match="n_types = 3, got 3 at edge 1"):
            edge_embed(unknown, case.table, backend="triton")
    edge_embed(case.edge_type, case.table, backend="triton")
    found = torch.ops.tito_fast.edge_embed_triton(unknown, case.table)
    assert torch.equal(found[[0, 4]], case.table[[1, 2]])
    assert found[1:4].isnan().all()
    grad = torch.ones(5, 2, device=triton_device)
    sums = torch.ops.tito_fast.edge_embed_triton_backward(grad, unknown, 3)
    assert sums.tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]


def test_inputs_are_untouched_and_the_result_is_new(triton_device):
    case = make_case(20, 2, triton_device)
    before = case.edge_type.clone(), case.table.clone()
    edge_embed(case.edge_type, case.table, backend="triton").zero_()
    assert torch.equal(case.edge_type, before[0])
    assert torch.equal(case.table, before[1])


def test_deterministic(triton_device):
    case = make_case(2500, 40, triton_device)
    features = edge_embed(case.edge_type, case.table, backend="triton")
    assert torch.equal(edge_embed(case.edge_type, case.table, backend="triton"), features)
    assert torch.equal(gradient(case), gradient(case))


def test_opcheck(triton_device):
    case = make_case(9, 3, triton_device, n_types=4)
    edge_embed(case.edge_type, case.table, backend="triton")
    torch.library.opcheck(
        torch.ops.tito_fast.edge_embed_triton.default,
        (case.edge_type, case.table.requires_grad_()),
    )
    torch.library.opcheck(
        torch.ops.tito_fast.edge_embed_triton_backward.default,
        (case.grad.requires_grad_(), case.edge_type, 4),
    )


def test_batch_equals_loop(triton_device):
    case = make_case(200, 5, triton_device)
    together = edge_embed(case.edge_type, case.table, backend="triton")
    parts = [
        edge_embed(part, case.table, backend="triton")
        for part in case.edge_type.split([63, 0, 1, 136])
    ]
    assert torch.equal(torch.cat(parts), together)
