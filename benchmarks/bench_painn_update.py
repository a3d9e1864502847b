"""The update of atoms' features: native against plain PyTorch, the reference and the eager algebra."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from tito_fast.ops import MlpParameters, painn_update
from tito_fast.ops.mlp_parameters import mlp_reference
from tito_fast.ops.painn_update.reference import painn_update_reference
from tito_fast.testing.tolerance import check_against_reference

N_ATOMS = {"18 x 1": 18, "18 x 64": 1152, "68 x 64": 4352}


def eager(scalars, vectors, u_weight, v_weight, parameters):
    """One product for U and V, and the length without torch's slow norm over a short dimension."""
    n_features = scalars.shape[1]
    moved = functional.linear(vectors, torch.cat([v_weight, u_weight]))
    x, y, z = moved[..., :n_features].unbind(1)
    length = torch.sqrt((x * x + y * y + z * z).clamp_min(torch.finfo(scalars.dtype).tiny))
    outputs = mlp_reference(torch.cat([length, scalars], dim=-1), parameters)
    gates, scale, add = outputs.chunk(3, dim=-1)
    new_vectors = vectors + gates.unsqueeze(1) * moved[..., n_features:]
    return scalars + length**2 * scale + add, new_vectors


def native(scalars, vectors, u_weight, v_weight, parameters):
    return painn_update(
        scalars,
        vectors,
        u_weight=u_weight,
        v_weight=v_weight,
        parameters=parameters,
        backend="native",
    )


BACKENDS = {"native": native, "eager": eager, "reference": painn_update_reference}


def draw(n, n_features):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5

    def norm():
        return torch.ones(n_features), normal(n_features)

    parameters = MlpParameters(
        normal(n_features, 2 * n_features),
        normal(n_features),
        *norm(),
        normal(n_features, n_features),
        normal(n_features),
        *norm(),
        normal(3 * n_features, n_features),
        normal(3 * n_features),
    )
    square = normal(n_features, n_features), normal(n_features, n_features)
    scalars = torch.randn(n, n_features, generator=generator)
    vectors = torch.randn(n, 3, n_features, generator=generator)
    return [scalars, vectors, *square, *parameters]


def evaluate(update, tensors, *, backward):
    results = update(*tensors[:4], MlpParameters(*tensors[4:]))
    if not backward:
        return list(results)
    return list(torch.autograd.grad(sum(each.square().sum() for each in results), tensors))


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward and backward"])
@pytest.mark.parametrize("n_features", [64, 128])
@pytest.mark.parametrize("shape", N_ATOMS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_painn_update(benchmark: Any, backend, shape, n_features, backward):
    n = N_ATOMS[shape]
    tensors = [each.requires_grad_(backward) for each in draw(n, n_features)]
    found = benchmark(lambda: evaluate(BACKENDS[backend], tensors, backward=backward))
    plain = evaluate(painn_update_reference, tensors, backward=backward)
    exact = evaluate(
        painn_update_reference,
        [each.detach().double().requires_grad_(backward) for each in tensors],
        backward=backward,
    )
    for ours, theirs, reference64 in zip(found, plain, exact, strict=True):
        check_against_reference(ours, theirs, reference64, name=backend)
    # U and V of three components, and the mlp from 2F over F and F to 3F; thrice that with gradients.
    flops = 2 * n * n_features**2 * (6 + 6) * (3 if backward else 1)
    benchmark.extra_info.update(
        device="cpu",
        dtype="float32",
        threads=torch.get_num_threads(),
        n_atoms=n,
        n_features=n_features,
        flops=flops,
    )
    if benchmark.enabled:
        benchmark.extra_info["gflops_per_second"] = round(flops / benchmark.stats["min"] * 1e-9, 1)
