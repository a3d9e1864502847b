"""Counter-based normals: native against plain PyTorch, and torch's own generator beside them."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tito_fast.ops import philox_normal
from tito_fast.ops.resolve import backend_problem

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# Rows and normals a row: the vector starts (3 F an atom, F = 64) of 18 atoms, of 64 replicas of
# them, and one long row.
SHAPES = {"18 atoms x 1": (1, 3456), "18 atoms x 64": (64, 3456), "one row of 2^20": (1, 2**20)}
BACKENDS = ("native", "reference", "torch.randn")
MAX_ULPS = 4


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_philox_normal(benchmark: Any, backend, shape, device):
    if backend != "torch.randn" and (problem := backend_problem("philox_normal", backend, device)):
        pytest.skip(problem)
    n_rows, count = SHAPES[shape]
    n_total = n_rows * count
    draw = _draw(backend, n_rows, count, device)

    def target() -> Tensor:
        result = draw()
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    normals = benchmark(target).cpu()
    if backend == "torch.randn":
        assert abs(float(normals.double().mean())) < 6 / math.sqrt(n_total)
        assert abs(float(normals.double().square().mean()) - 1) < 6 * math.sqrt(2 / n_total)
    else:
        expected = _draw("reference", n_rows, count, "cpu")()
        ulps = (normals.view(torch.int32).long() - expected.view(torch.int32).long()).abs()
        # The same sign, or both zero.
        assert int(torch.where((normals == 0) & (expected == 0), 0, ulps).max()) <= MAX_ULPS
    benchmark.extra_info.update(
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        dtype="float32",
        threads=torch.get_num_threads(),
        n_normals=n_total,
        bytes=4 * n_total,
    )
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_normal"] = 1e9 * benchmark.stats.stats.min / n_total


def _draw(backend: str, n_rows: int, count: int, device: str) -> Callable[[], Tensor]:
    n_total = n_rows * count
    if backend == "torch.randn":
        generator = torch.Generator(device).manual_seed(0)
        return lambda: torch.randn(n_total, generator=generator, device=device)
    keys = torch.full((n_rows,), 20211, device=device)
    replicas = torch.arange(n_rows, device=device)
    counts = torch.full((n_rows,), count, device=device)
    numbers = {"rollout_step": 1, "stream_evaluation": 2**28 + 3, "n_total": n_total}
    return lambda: philox_normal(keys, replicas, counts, **numbers, backend=backend)
