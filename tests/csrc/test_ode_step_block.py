import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tito_fast.ops import ode_step
from tito_fast.testing.tolerance import check_against_reference

HERE = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
N_THREADS = 192
WEIGHTS = [0.5, -1.25, 2.0]
STEP_SIZE = 0.05


@pytest.fixture(scope="module")
def host_library(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("needs a C++ compiler, and none is on PATH")
    path = tmp_path_factory.mktemp("host") / "ode_step_host.so"
    command = [COMPILER, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += [f"-I{HERE.parents[1] / 'csrc'}", f"-I{HERE}"]
    command += [str(HERE / "ode_step_host.cpp"), "-o", str(path)]
    subprocess.run(command, check=True)  # noqa: S603, own files
    return ctypes.CDLL(str(path))


def call(function, tensors, batch_ptr, *, center, n_threads=N_THREADS):
    coefficients = (ctypes.c_double * len(WEIGHTS))(*[STEP_SIZE * weight for weight in WEIGHTS])
    status = function(
        *[ctypes.c_void_p(tensor.data_ptr()) for tensor in (*tensors, batch_ptr)],
        ctypes.c_int64(tensors[0].shape[0]),
        ctypes.c_int64(len(batch_ptr) - 1),
        coefficients,
        len(WEIGHTS),
        int(center),
        n_threads,
    )
    assert status == 0


def make_case(sizes):
    generator = torch.Generator().manual_seed(0)
    n_atoms = sum(sizes)
    positions = 3.0 + torch.randn(n_atoms, 3, generator=generator)
    velocities = torch.randn(len(WEIGHTS), n_atoms, 3, generator=generator)
    return positions, velocities, torch.tensor([0, *sizes]).cumsum(0)


SIZES = [[1], [63], [64], [65], [129], [1000], [0, 5, 0, 1, 7, 0]]


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_forward_block_matches_reference(host_library, sizes, center):
    positions, velocities, batch_ptr = make_case(sizes)
    found = torch.full_like(positions, torch.nan)
    call(
        host_library.ode_step_fwd_host,
        (positions, velocities, found),
        batch_ptr,
        center=center,
    )
    plain, exact = (
        ode_step(
            positions.to(dtype),
            velocities.to(dtype),
            weights=WEIGHTS,
            step_size=STEP_SIZE,
            batch_ptr=batch_ptr,
            center=center,
            backend="reference",
        )
        for dtype in (torch.float32, torch.float64)
    )
    check_against_reference(found, plain, exact)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_backward_block_matches_reference(host_library, sizes, center):
    positions, velocities, batch_ptr = make_case(sizes)
    grad = torch.linspace(-1.0, 2.0, positions.numel()).view_as(positions)
    found = torch.full_like(positions, torch.nan), torch.full_like(velocities, torch.nan)
    call(host_library.ode_step_bwd_host, (grad, *found), batch_ptr, center=center)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        inputs = [tensor.to(dtype).requires_grad_() for tensor in (positions, velocities)]
        moved = ode_step(
            *inputs,
            weights=WEIGHTS,
            step_size=STEP_SIZE,
            batch_ptr=batch_ptr,
            center=center,
            backend="reference",
        )
        gradients.append(torch.autograd.grad(moved, inputs, grad.to(dtype)))
    for ours, plain, exact in zip(found, *gradients, strict=True):
        check_against_reference(ours, plain, exact)


@pytest.mark.parametrize("n_threads", [3, 6, 96])
def test_every_width_of_block_gives_the_centred_step(host_library, n_threads):
    positions, velocities, batch_ptr = make_case([37])
    found = torch.full_like(positions, torch.nan)
    call(
        host_library.ode_step_fwd_host,
        (positions, velocities, found),
        batch_ptr,
        center=True,
        n_threads=n_threads,
    )
    expected = ode_step(
        positions, velocities, weights=WEIGHTS, step_size=STEP_SIZE, batch_ptr=batch_ptr
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
