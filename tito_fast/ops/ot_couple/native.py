"""C++ kernel of ``ot_couple`` as ``torch.ops.tito_fast.ot_couple``."""

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.library import define, dtype_suffix, implement, implement_fake
from tito_fast.types import Coupling

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


def ot_couple_native(x_0: Tensor, x_1: Tensor, batch_ptr: Tensor, plan: Coupling) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.ot_couple`, checked."""
    result: Tensor = torch.ops.tito_fast.ot_couple(x_0, x_1, batch_ptr, plan)
    return result


def _forward(x_0: Tensor, x_1: Tensor, batch_ptr: Tensor, plan: str) -> Tensor:
    x_0, x_1, batch_ptr = x_0.contiguous(), x_1.contiguous(), batch_ptr.contiguous()
    result = torch.empty_like(x_0)
    getattr(native_module(), f"ot_couple_fwd_cpu_{dtype_suffix(x_0.dtype)}")(
        x_0.data_ptr(),
        x_1.data_ptr(),
        result.data_ptr(),
        batch_ptr.data_ptr(),
        x_0.shape[0],
        batch_ptr.shape[0] - 1,
        *_STEPS[plan],
        torch.get_num_threads(),
    )
    return result


implement("ot_couple", _forward, "CPU")


def _fake_ot_couple(
    x_0: Tensor,
    x_1: Tensor,  # noqa: ARG001, the schema's argument
    batch_ptr: Tensor,  # noqa: ARG001
    plan: str,  # noqa: ARG001
) -> Tensor:
    return torch.empty_like(x_0, memory_format=torch.contiguous_format)


implement_fake("ot_couple", _fake_ot_couple)
