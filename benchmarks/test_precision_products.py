"""Emulated products do what their names say, and the program that uses them runs."""

import json

import pytest
import torch
from torch.nn import functional

from benchmarks import precision
from benchmarks.precision_products import (
    PRODUCTS,
    RoundedProducts,
    emulated,
    to_nearest_tf32,
    to_tf32,
)
from tito_fast.models.tito import eager


@pytest.fixture
def factors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(63, 64, generator=generator), torch.randn(33, 64, generator=generator)


def relative_error(found, inputs, weight):
    exact = inputs.double() @ weight.double().T
    return float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@pytest.mark.parametrize(
    ("products", "smallest", "largest"),
    # One factor's rounding, uniform in half a unit either way (or in a whole one below), is off by u / √12 (or u / √3)
    # on the average: u = 2^-7 of bf16, 2^-10 of TF32, 2^-16 of two bf16, twice that at the lower end of a binade.
    [
        ("ieee", 0, 3e-7),
        ("fp32", 1e-7, 1e-5),
        ("tf32", 2e-4, 1e-3),
        ("tf32-nearest", 1e-4, 4e-4),
        ("bf16", 1e-3, 4e-3),
    ],
)
def test_error_of_a_product_is_that_of_its_precision(factors, products, smallest, largest):
    inputs, weight = factors
    with RoundedProducts(products) as mode:
        found = functional.linear(inputs, weight)
    assert mode.n_products == 1
    assert smallest <= relative_error(found, inputs, weight) <= largest


@pytest.mark.parametrize("products", PRODUCTS)
def test_the_bias_is_not_rounded(factors, products):
    inputs, weight = factors
    bias = torch.full((33,), 1 + 2**-20)
    with RoundedProducts(products):
        found = functional.linear(torch.zeros_like(inputs), weight, bias)
    assert (found == bias).all()


def test_bf16_equals_torch_on_bf16(factors):
    inputs, weight = factors
    with RoundedProducts("bf16"):
        found = functional.linear(inputs, weight)
    expected = functional.linear(inputs.bfloat16().float(), weight.bfloat16().float())
    assert torch.equal(found, expected)


def test_tf32_is_cut_and_rounded():
    ulp = 2.0**-10
    values = torch.tensor([1.0, 1 + 0.75 * ulp, -1 - 0.75 * ulp, 1 + 0.25 * ulp])
    assert to_tf32(values).tolist() == [1.0, 1.0, -1.0, 1.0]
    assert to_nearest_tf32(values).tolist() == [1.0, 1 + ulp, -1 - ulp, 1.0]


def test_sums_over_neighbors_are_exact():
    a, b = torch.rand(2, 3, 5), torch.rand(2, 5, 4)
    with RoundedProducts("bf16") as mode:
        found = torch.bmm(a, b)
    assert torch.equal(found, torch.bmm(a, b))
    assert mode.n_products == 0


def test_other_dtypes_and_names_are_refused(factors):
    inputs, weight = factors
    with pytest.raises(ValueError, match=r"precision: expected one of ieee, .*, got 'fp16'"):
        RoundedProducts("fp16")
    with RoundedProducts("bf16"), pytest.raises(TypeError, match=r"float32, got torch.float64"):
        torch.mm(inputs.double(), weight.double().T)


def test_edges_are_kept_in_bf16():
    """What the last layer of a network reads are bf16 values."""
    kept = []

    def spy(_, edges, *__, **___):
        kept.extend(edges)
        return [each + each.abs() / 3 for each in edges]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eager, "add_edges", spy)
        with emulated("bf16"):
            edges = [torch.randn(5, 4, generator=torch.Generator().manual_seed(0))]
            (new,) = eager.add_edges(None, edges, [], owns_edges=False)
        assert eager.add_edges is spy
    assert torch.equal(kept[0], edges[0].bfloat16().float())
    assert torch.equal(new, new.bfloat16().float())
    assert not torch.equal(edges[0], kept[0])


def test_the_network_goes_through_the_emulation(monkeypatch, tmp_path):
    """The page of a tiny run: rows of all modes, and errors in the order of the roundings."""
    monkeypatch.setattr(precision, "MOLECULES", ("CCOC",))
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    results = precision.measure(precision.Size(2, 2, 2))
    errors = {row["mode"]: row.get("rms_error", 0.0) for row in results["velocity"]}
    assert list(errors) == [mode.name for mode in precision.MODES]
    assert errors["ieee (emulated)"] < 1e-6 < errors["fp32 (emulated)"] < 1e-4
    assert 1e-4 < errors["bf16 (emulated)"] < 1e-2
    out = tmp_path / "out.json"
    out.write_text(json.dumps(results))
    page = precision.page(results, out, tmp_path / "page.md")
    assert "[out.json](out.json)" in page
    assert all(f"| {name} |" in page for name in errors)
