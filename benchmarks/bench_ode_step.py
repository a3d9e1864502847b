"""One solver update: native against plain PyTorch, eager and compiled."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tito_fast.ops import ode_step
from tito_fast.ops.ode_step.reference import ode_step_reference
from tito_fast.testing.tolerance import check_against_reference

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SHAPES = {"18 atoms x 1": (18, 1), "18 atoms x 1024": (18, 1024), "134 atoms x 32": (134, 32)}
CASES = [
    (backend, shape, n_stages)
    for backend in ("native", "reference")
    for shape in SHAPES
    for n_stages in (1, 4)
]
# One case only: compiling takes far longer than all the rest.
CASES.append(("compiled reference", "18 atoms x 1024", 1))
STEP_SIZE = 0.05


# torch.compile itself uses what torch deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("backend", "shape", "n_stages"), CASES)
def test_ode_step(benchmark: Any, backend, shape, n_stages, device):
    n_atoms_each, n_molecules = SHAPES[shape]
    n_atoms = n_atoms_each * n_molecules
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(n_atoms, 3, generator=generator).to(device)
    velocities = torch.randn(n_stages, n_atoms, 3, generator=generator).to(device)
    batch_ptr = torch.arange(0, n_atoms + 1, n_atoms_each, device=device)
    weights = [1.0 / n_stages] * n_stages
    step = _step(backend, weights, batch_ptr)

    def target() -> Tensor:
        result = step(positions, velocities)
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    result = benchmark(target)
    plain, exact = (
        ode_step_reference(
            positions.to(dtype), velocities.to(dtype), weights, STEP_SIZE, batch_ptr, True
        )
        for dtype in (torch.float32, torch.float64)
    )
    check_against_reference(result, plain, exact, name=backend)
    benchmark.extra_info.update(
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        dtype="float32",
        threads=torch.get_num_threads(),
        n_atoms=n_atoms,
        bytes=4 * 3 * n_atoms * (n_stages + 2),
        flops=3 * n_atoms * (2 * n_stages + 2),
    )


def _step(
    backend: str, weights: list[float], batch_ptr: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    if backend == "compiled reference":
        torch.compiler.reset()
        compiled = torch.compile(ode_step_reference, dynamic=False)
        return lambda x, v: compiled(x, v, weights, STEP_SIZE, batch_ptr, True)
    options = {"weights": weights, "step_size": STEP_SIZE, "batch_ptr": batch_ptr}
    return lambda x, v: ode_step(x, v, **options, backend=backend)
