"""C++ and CUDA kernels of ``ot_couple`` as ``torch.ops.tito_fast.ot_couple``."""

import warnings

import torch
from torch import Tensor

from tito_fast.errors import CapacityError
from tito_fast.ops.cuda_call import call_cuda, runs_on_cuda
from tito_fast.ops.library import define, dtype_suffix, implement, implement_fake
from tito_fast.ops.native_call import addresses, cpu_kernel, dense
from tito_fast.types import Coupling
from tito_fast.validation import check_batch_ptr

MAX_CUDA_ATOMS = 128
"""Atoms of a molecule that the CUDA kernel of permutations takes; ``kMaxCudaAtoms`` in C++."""

define("ot_couple(Tensor x_0, Tensor x_1, Tensor batch_ptr, str plan) -> Tensor")

# (permute first, rotate, permute last)
_STEPS = {
    "none": (False, False, False),
    "r": (False, True, False),
    "released": (False, True, False),
    "p": (True, False, False),
    "pr": (True, True, False),
    "rp": (False, True, True),
}

# What was warned of in this process.
_WARNED: set[str] = set()


def ot_couple_native(x_0: Tensor, x_1: Tensor, batch_ptr: Tensor, plan: Coupling) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.ot_couple`, checked."""
    result: Tensor = torch.ops.tito_fast.ot_couple(x_0, x_1, batch_ptr, plan)
    return result


def ot_couple_native_of_any_size(
    x_0: Tensor, x_1: Tensor, batch_ptr: Tensor, plan: Coupling
) -> Tensor:
    """Call the registered op, or for molecules that are too large for CUDA's the C++ kernel on copies.

    Arguments as in :func:`ot_couple_native`. Warns of the copies once in a process.
    """
    try:
        return ot_couple_native(x_0, x_1, batch_ptr, plan)
    except CapacityError:
        if "copies" not in _WARNED:
            _WARNED.add("copies")
            warnings.warn(
                f"batch_ptr: expected molecules of at most {MAX_CUDA_ATOMS} atoms for permutations on "
                "a CUDA device, got a larger one; such batches are copied to the CPU and coupled "
                "there: use plan='r', or couple them on the CPU, to keep them where they are",
                stacklevel=3,
            )
    return _on_cpu(x_0.cpu(), x_1.cpu(), batch_ptr.cpu(), plan).to(x_0.device)


def _forward(x_0: Tensor, x_1: Tensor, batch_ptr: Tensor, plan: str) -> Tensor:
    on = _on_cuda if runs_on_cuda(x_0) else _on_cpu
    return on(x_0, x_1, batch_ptr, plan)


def _on_cpu(x_0: Tensor, x_1: Tensor, batch_ptr: Tensor, plan: str) -> Tensor:
    arrays = dense(x_0, x_1, batch_ptr)
    result = torch.empty_like(arrays[0])
    cpu_kernel("ot_couple_fwd", x_0.dtype)(
        *_pointers(arrays, result), *_sizes(arrays), *_STEPS[plan], torch.get_num_threads()
    )
    return result


def _on_cuda(x_0: Tensor, x_1: Tensor, batch_ptr: Tensor, plan: str) -> Tensor:
    if plan == "none":
        return x_0.clone(memory_format=torch.contiguous_format)
    arrays = dense(x_0, x_1, batch_ptr)
    result = torch.empty_like(arrays[0])
    steps = _STEPS[plan]
    permutes = steps[0] or steps[2]
    # The one look at the device: how much shared memory a molecule takes decides on the kernel.
    extra = (*steps, _largest_molecule(batch_ptr, x_0.shape[0])) if permutes else ()
    call_cuda(
        f"ot_couple_fwd_{'permutations' if permutes else 'rotations'}_cuda_{dtype_suffix(x_0.dtype)}",
        x_0,
        *_pointers(arrays, result),
        *_sizes(arrays),
        *extra,
    )
    return result


def _pointers(arrays: list[Tensor], result: Tensor) -> list[int]:
    x_0, x_1, batch_ptr = addresses(arrays)
    return [x_0, x_1, result.data_ptr(), batch_ptr]


def _sizes(arrays: list[Tensor]) -> tuple[int, int]:
    return arrays[0].shape[0], arrays[2].shape[0] - 1


def _largest_molecule(batch_ptr: Tensor, n_atoms: int) -> int:
    """Return the number of atoms of the largest molecule; waits for the device."""
    starts = batch_ptr.cpu()
    check_batch_ptr(starts, n_atoms)
    largest = int(starts.diff().max()) if len(starts) > 1 else 0
    if largest > MAX_CUDA_ATOMS:
        raise CapacityError(
            f"batch_ptr: found a molecule of {largest} atoms, ot_couple's CUDA kernel takes "
            f"{MAX_CUDA_ATOMS}; use backend='auto', which couples such batches on the CPU"
        )
    return largest


for _device in ("CPU", "CUDA"):
    implement("ot_couple", _forward, _device)


def _fake_ot_couple(
    x_0: Tensor,
    x_1: Tensor,  # noqa: ARG001, the schema's argument
    batch_ptr: Tensor,  # noqa: ARG001
    plan: str,  # noqa: ARG001
) -> Tensor:
    return torch.empty_like(x_0, memory_format=torch.contiguous_format)


implement_fake("ot_couple", _fake_ot_couple)
