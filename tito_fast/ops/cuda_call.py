"""Calls of the compiled CUDA functions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tito_fast._extension import native_cuda_problem, native_module
from tito_fast.errors import BackendUnavailableError


def cuda_function(name: str) -> Callable[..., Any]:
    """Return a function of ``tito_fast._C`` that there is where CUDA kernels were built.

    Raises
    ------
    BackendUnavailableError
        The build has no CUDA kernels.
    """
    function: Callable[..., Any] | None = getattr(native_module(), name, None)
    if function is None:
        raise BackendUnavailableError(f"{name}: {native_cuda_problem()}")
    return function


def call_cuda(name: str, on: Tensor, *arguments: object) -> None:
    """Call a compiled CUDA function on the device of a tensor and its current stream.

    Parameters
    ----------
    name
        Of the function in ``tito_fast._C``.
    on
        Tensor on the device.
    *arguments
        Of the function, but for the last two: number of the device and address of the stream.

    Raises
    ------
    BackendUnavailableError
        The build has no CUDA kernels.
    RuntimeError
        The launch failed; the message has the kernel's name and sizes.
    """
    cuda_function(name)(*arguments, *_place(on))


def runs_on_cuda(tensor: Tensor) -> bool:
    """Return whether the CUDA kernels take a tensor."""
    return _is_cuda(tensor)


# Apart, so that tests can run the kernels on the host, on CPU tensors.
def _is_cuda(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _place(on: Tensor) -> tuple[int, int]:
    return on.get_device(), torch.cuda.current_stream(on.device).cuda_stream
