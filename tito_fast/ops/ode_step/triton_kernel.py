"""Triton kernels of ``ode_step``, forward and backward.

All arrays are dense and row-major: positions (n_atoms, 3), velocities (n_stages, n_atoms, 3), batch_ptr
(n_molecules + 1,) int64. Stage k has the coefficient c_k = step_size weights[k]; unused ones are not read.
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_blocks import molecule_rows, molecule_tile
from tito_fast.ops.triton_launch import KernelBuild, Launch, LaunchTable

MAX_STAGES = 8


@triton.jit
def _scaled(coefficient, values):
    """Return coefficient * values in the dtype of ``values``."""
    return tl.full(values.shape, coefficient, values.dtype) * values


@triton.jit
def _moved(
    positions, velocities, place, mask, stride, c0, c1, c2, c3, c4, c5, c6, c7,
    N_STAGES: tl.constexpr,
):  # fmt: skip
    """Return positions + sum_k c_k velocities[k] at ``place``; the sum in the order of the stages."""
    position = tl.load(positions + place, mask, 0.0)
    if N_STAGES == 0:
        return position
    step = _scaled(c0, tl.load(velocities + place, mask, 0.0))
    if N_STAGES > 1:
        step += _scaled(c1, tl.load(velocities + stride + place, mask, 0.0))
    if N_STAGES > 2:
        step += _scaled(c2, tl.load(velocities + 2 * stride + place, mask, 0.0))
    if N_STAGES > 3:
        step += _scaled(c3, tl.load(velocities + 3 * stride + place, mask, 0.0))
    if N_STAGES > 4:
        step += _scaled(c4, tl.load(velocities + 4 * stride + place, mask, 0.0))
    if N_STAGES > 5:
        step += _scaled(c5, tl.load(velocities + 5 * stride + place, mask, 0.0))
    if N_STAGES > 6:
        step += _scaled(c6, tl.load(velocities + 6 * stride + place, mask, 0.0))
    if N_STAGES > 7:
        step += _scaled(c7, tl.load(velocities + 7 * stride + place, mask, 0.0))
    return position + step


@triton.jit(do_not_specialize=["n_atoms"])
def ode_step_fwd_kernel(
    positions, velocities, result, batch_ptr, n_atoms,
    c0: tl.float64, c1: tl.float64, c2: tl.float64, c3: tl.float64,
    c4: tl.float64, c5: tl.float64, c6: tl.float64, c7: tl.float64,
    N_STAGES: tl.constexpr,
    CENTERS: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write one molecule's rows of ``result``: moved, and less their mean (summed in double) if CENTERS.

    Tiles of atoms are walked in order, so that the sum depends on the molecule alone; what was moved is
    computed again for the second walk, not read back.
    """
    first, end = molecule_rows(batch_ptr, n_atoms)
    stride = 3 * n_atoms.to(tl.int64)
    total = tl.zeros([TILE, 4], tl.float64)
    if CENTERS:
        for start in range(first, end, TILE):
            place, mask = molecule_tile(start, end, TILE)
            moved = _moved(
                positions, velocities, place, mask, stride, c0, c1, c2, c3, c4, c5, c6, c7, N_STAGES
            )
            total += moved.to(tl.float64)
    n_here = tl.maximum(end - first, 1).to(tl.float64)
    mean = tl.sum(total, axis=0) / n_here
    for start in range(first, end, TILE):
        place, mask = molecule_tile(start, end, TILE)
        moved = _moved(
            positions, velocities, place, mask, stride, c0, c1, c2, c3, c4, c5, c6, c7, N_STAGES
        )
        if CENTERS:
            moved = (moved.to(tl.float64) - mean[None, :]).to(moved.dtype)
        tl.store(result + place, moved, mask)


@triton.jit(do_not_specialize=["n_atoms"])
def ode_step_bwd_kernel(
    grad, grad_positions, grad_velocities, batch_ptr, n_atoms,
    c0: tl.float64, c1: tl.float64, c2: tl.float64, c3: tl.float64,
    c4: tl.float64, c5: tl.float64, c6: tl.float64, c7: tl.float64,
    N_STAGES: tl.constexpr,
    CENTERS: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write one molecule's rows of the gradients: grad, centred if CENTERS, and c_k times that for stage k."""
    first, end = molecule_rows(batch_ptr, n_atoms)
    stride = 3 * n_atoms.to(tl.int64)
    total = tl.zeros([TILE, 4], tl.float64)
    if CENTERS:
        for start in range(first, end, TILE):
            place, mask = molecule_tile(start, end, TILE)
            total += tl.load(grad + place, mask, 0.0).to(tl.float64)
    n_here = tl.maximum(end - first, 1).to(tl.float64)
    mean = tl.sum(total, axis=0) / n_here
    for start in range(first, end, TILE):
        place, mask = molecule_tile(start, end, TILE)
        here = tl.load(grad + place, mask, 0.0)
        if CENTERS:
            here = (here.to(tl.float64) - mean[None, :]).to(here.dtype)
        tl.store(grad_positions + place, here, mask)
        if N_STAGES > 0:
            tl.store(grad_velocities + place, _scaled(c0, here), mask)
        if N_STAGES > 1:
            tl.store(grad_velocities + stride + place, _scaled(c1, here), mask)
        if N_STAGES > 2:
            tl.store(grad_velocities + 2 * stride + place, _scaled(c2, here), mask)
        if N_STAGES > 3:
            tl.store(grad_velocities + 3 * stride + place, _scaled(c3, here), mask)
        if N_STAGES > 4:
            tl.store(grad_velocities + 4 * stride + place, _scaled(c4, here), mask)
        if N_STAGES > 5:
            tl.store(grad_velocities + 5 * stride + place, _scaled(c5, here), mask)
        if N_STAGES > 6:
            tl.store(grad_velocities + 6 * stride + place, _scaled(c6, here), mask)
        if N_STAGES > 7:
            tl.store(grad_velocities + 7 * stride + place, _scaled(c7, here), mask)


STEP: LaunchTable = {
    (architecture, 3, "ieee"): Launch({"TILE": 32}, num_warps=1, fuses=False)
    for architecture in (80, 90)
}


def aot_builds(architecture: int) -> list[KernelBuild]:
    """Return the builds that users get: centering alone, and steps of one, two and four stages."""
    coefficients = {f"c{stage}": "fp64" for stage in range(MAX_STAGES)}
    return [
        KernelBuild(
            name=f"ode_step_{part}_{n_stages}",
            kernel=kernel,
            signature={
                **dict.fromkeys(arrays, "*fp32"),
                "batch_ptr": "*i64",
                "n_atoms": "i32",
                **coefficients,
            },
            constexprs={"N_STAGES": n_stages, "CENTERS": True},
            launch=STEP[architecture, 3, "ieee"],
            is_hot=True,
        )
        for part, kernel, arrays in (
            ("fwd", ode_step_fwd_kernel, ("positions", "velocities", "result")),
            ("bwd", ode_step_bwd_kernel, ("grad", "grad_positions", "grad_velocities")),
        )
        for n_stages in (0, 1, 2, 4)
    ]
