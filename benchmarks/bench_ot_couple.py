"""Coupling of base samples to data: native against torch's SVD and SciPy's assignment."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tito_fast.ops import ot_couple
from tito_fast.ops.resolve import backend_problem
from tito_fast.testing.tolerance import check_against_reference

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("plan", ["r", "p", "pr"])
@pytest.mark.parametrize("n_atoms_each", [18, 68])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_ot_couple(benchmark: Any, backend, n_atoms_each, plan, device):
    if problem := backend_problem("ot_couple", backend, device):
        pytest.skip(problem)
    n_molecules = 4096 if backend == "native" else 64
    n_atoms = n_atoms_each * n_molecules
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randn(n_atoms, 3, generator=generator).to(device)
    x_1 = torch.randn(n_atoms, 3, generator=generator).to(device)
    batch_ptr = torch.arange(0, n_atoms + 1, n_atoms_each, device=device)

    def target() -> Tensor:
        result = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend=backend)
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    result = benchmark(target)
    n_checked = 32 * n_atoms_each
    checked = {"batch_ptr": batch_ptr[:33], "plan": plan, "backend": "reference"}
    check_against_reference(
        result[:n_checked],
        ot_couple(x_0[:n_checked], x_1[:n_checked], **checked),
        ot_couple(x_0[:n_checked].double(), x_1[:n_checked].double(), **checked),
    )
    benchmark.extra_info.update(
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        dtype="float32",
        threads=torch.get_num_threads(),
        n_atoms=n_atoms,
        n_molecules=n_molecules,
    )
    if benchmark.stats is not None:
        rate = n_molecules / benchmark.stats.stats.median
        benchmark.extra_info["molecules_per_second"] = rate
