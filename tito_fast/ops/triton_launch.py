"""What the Triton kernels share on the host: where they run, how they are launched and built.

Imports no Triton itself, so that a table of backends can say why it is missing.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tito_fast.errors import BackendUnavailableError
from tito_fast.types import PRODUCT_PRECISIONS, ProductPrecision
from tito_fast.validation import check_choice

TRITON_WIDTHS = (32, 64, 128)
"""Numbers of features that the network kernels are written for."""

_OLDEST_CAPABILITY = (8, 0)


def is_interpreting() -> bool:
    """Return whether Triton interprets kernels on the CPU (``TRITON_INTERPRET=1``)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def triton_problem(device_type: str) -> str:
    """Return why no Triton kernel can run on ``device_type``, or an empty string."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; install tito_fast[triton]"
    if device_type == "cuda":
        return _cuda_problem()
    if device_type == "cpu" and is_interpreting():
        return ""
    return "Triton kernels run on CUDA tensors, or on CPU tensors with TRITON_INTERPRET=1"


def _cuda_problem() -> str:
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    if is_interpreting():
        return "TRITON_INTERPRET is set, with which kernels run on CPU tensors only; unset it"
    return _capability_problem()


@cache
def _capability_problem() -> str:
    found = torch.cuda.get_device_capability()
    if found < _OLDEST_CAPABILITY:
        return f"the kernels need compute capability 8.0 or later, this device has {found[0]}.{found[1]}"
    return ""


def width_problem(width: int) -> str:
    """Return why no network kernel can run at ``width`` features, or an empty string."""
    if width in TRITON_WIDTHS:
        return ""
    return f"expected {', '.join(map(str, TRITON_WIDTHS))} features, got {width}"


def check_product(backend: str, precision: ProductPrecision, like: Tensor) -> None:
    """Raise unless ``backend`` multiplies tensors of the dtype of ``like`` in ``precision``.

    Raises
    ------
    ValueError
        ``precision`` is none of the four.
    BackendUnavailableError
        Another backend than ``triton`` with another precision than ``ieee``, or float64 with another than
        ``ieee`` or on a GPU.
    """
    check_choice("precision", precision, PRODUCT_PRECISIONS)
    if backend != "triton":
        if precision != "ieee":
            raise BackendUnavailableError(
                f"precision: expected ieee with backend {backend!r}, got {precision}; "
                "use backend='triton'"
            )
        return
    if like.dtype == torch.float64 and (precision != "ieee" or like.device.type != "cpu"):
        raise BackendUnavailableError(
            f"backend='triton': float64 runs interpreted and with precision='ieee' only, got "
            f"{precision} on {like.device.type}; use backend='reference'"
        )


def architecture(device: torch.device) -> int:
    """Return 80, 90, … for a CUDA device; 90 where kernels are interpreted."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@dataclass(frozen=True)
class Launch:
    """Shape of one kernel's programs.

    Parameters
    ----------
    tile : mapping of str to int
        Constexpr arguments of the kernel that depend on the device.
    num_warps, num_stages : int
    fuses : bool
        Whether a product and a sum may become one rounding.
    """

    tile: Mapping[str, int]
    num_warps: int
    num_stages: int = 1
    fuses: bool = True

    @property
    def options(self) -> dict[str, int]:
        """All of it, as keyword arguments of a launch."""
        return {
            **self.tile,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": self.fuses,
        }


LaunchTable = Mapping[tuple[int, int, str], Launch]
"""By (architecture, features, precision)."""


def choose_launch(table: LaunchTable, device: torch.device, width: int, precision: str) -> Launch:
    """Return the entry for ``device``, or that of the newest architecture not newer than it.

    The choice depends on the device, the width and the precision alone, never on how many molecules there are:
    results of a molecule then do not depend on its batch.
    """
    here = architecture(device)
    known = sorted({key[0] for key in table})
    fitting = [each for each in known if each <= here]
    return table[(fitting or known)[-1], width, precision]


@dataclass(frozen=True, kw_only=True)
class KernelBuild:
    """One specialisation of a kernel, to be compiled ahead of time without a GPU.

    Parameters
    ----------
    name : str
        What a table of builds calls it.
    kernel : object
        The ``@triton.jit`` function.
    signature : mapping of str to str
        Type of each argument that is no constexpr: ``*fp32``, ``*i64``, ``i32``, ``fp32``, ...
    constexprs : mapping of str to object
    launch : Launch
        Its ``tile`` are constexprs, too.
    is_hot : bool
        Whether spilled registers are an error.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constexprs: Mapping[str, object]
    launch: Launch
    is_hot: bool = False


Builds = Callable[[int], list[KernelBuild]]
"""``aot_builds(architecture)`` of a ``triton_kernel`` module."""
