"""Bond types to edge features: native against plain PyTorch, forward and backward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tito_fast.ops import edge_embed
from tito_fast.testing.tolerance import check_against_reference

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# Edges of complete graphs of 18 atoms; 22 bond types, 64 features.
SHAPES = {"18 atoms x 1": 306, "18 atoms x 64": 19584}
N_TYPES, N_FEATURES = 22, 64


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", ["forward", "forward and backward"])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_edge_embed(benchmark: Any, backend, direction, shape, device):
    if backend == "native" and device == "cuda":
        pytest.skip("edge_embed has no native kernel for cuda tensors")
    n_edges = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    # One pair in ten is bonded.
    types = torch.randint(-9 * N_TYPES, N_TYPES, (n_edges,), generator=generator).clamp(min=0)
    table = torch.randn(N_TYPES, N_FEATURES, generator=generator)
    grad = torch.randn(n_edges, N_FEATURES, generator=generator)
    backward = direction != "forward"
    run = _run(backend, types.to(device), table.to(device), grad.to(device), backward)

    def target() -> Tensor:
        result = run()
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    result = benchmark(target)
    plain = _run("reference", types, table, grad, backward)()
    exact = _run("reference", types, table.double(), grad.double(), backward)()
    check_against_reference(result.cpu(), plain, exact, name=backend)
    benchmark.extra_info.update(
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        dtype="float32",
        threads=torch.get_num_threads(),
        n_edges=n_edges,
        bytes=(2 if backward else 1) * 4 * n_edges * N_FEATURES + 8 * n_edges,
    )
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_edge"] = 1e9 * benchmark.stats.stats.min / n_edges


def _run(
    backend: str, types: Tensor, table: Tensor, grad: Tensor, backward: bool
) -> Callable[[], Tensor]:
    if not backward:
        return lambda: edge_embed(types, table, backend=backend)
    table = table.clone().requires_grad_()

    def embed_and_sum() -> Tensor:
        features = edge_embed(types, table, backend=backend)
        return torch.autograd.grad(features, table, grad)[0]

    return embed_and_sum
