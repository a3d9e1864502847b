"""Which backend an op runs on: one documented order, and the reason where one cannot run.

A backend that was named runs or raises. ``auto`` takes the native kernel for the tensor's device
(C++ on CPU tensors, CUDA on CUDA tensors) where it was built and runs here, else on CUDA tensors the
Triton kernel where there is one and it takes such arguments, else the reference. Triton's interpreter
on CPU tensors must be named. The references of these ops are plain PyTorch for every device, so
``eager`` names the same code.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from tito_fast._extension import native_cpu_problem, native_cuda_problem
from tito_fast.errors import BackendUnavailableError
from tito_fast.ops.triton_launch import triton_problem
from tito_fast.types import BACKENDS, Backend
from tito_fast.validation import check_choice

Implementation = Literal["reference", "native", "triton"]

_NATIVE_DEVICES: dict[str, tuple[str, ...]] = {
    "center": ("cpu", "cuda"),
    "edge_embed": ("cpu",),
    "edge_geometry": (),
    "embedded_ode_step": ("cpu", "cuda"),
    "mlp": ("cpu",),
    "noisy_ode_step": ("cpu", "cuda"),
    "ode_step": ("cpu", "cuda"),
    "ot_couple": ("cpu", "cuda"),
    "painn_message": ("cpu",),
    "painn_update": ("cpu",),
    "philox_normal": ("cpu", "cuda"),
    "radius_graph": ("cpu", "cuda"),
    "readout_step": ("cpu",),
    "time_embed": ("cpu",),
}

_TRITON_OPS: frozenset[str] = frozenset(
    {
        "center",
        "edge_embed",
        "edge_geometry",
        "mlp",
        "painn_message",
        "painn_update",
        "ode_step",
        "philox_normal",
        "radius_graph",
        "readout_step",
        "time_embed",
    }
)


@dataclass(frozen=True, kw_only=True)
class OpRow:
    """Whether one backend of one op can run on one kind of device, and why not."""

    op: str
    backend: Backend
    device: str
    available: bool
    reason: str


def backend_problem(op: str, backend: Backend, device_type: str) -> str:
    """Return why ``backend`` of ``op`` cannot run on ``device_type``, or an empty string."""
    if backend == "triton":
        return triton_problem(device_type) if op in _TRITON_OPS else f"{op} has no Triton kernel"
    if backend in ("reference", "eager", "auto"):
        return ""
    if device_type not in _NATIVE_DEVICES[op]:
        return f"{op} has no native kernel for {device_type} tensors"
    return native_cpu_problem() if device_type == "cpu" else native_cuda_problem()


def resolve_backend(
    op: str, backend: Backend, device: torch.device, *, triton_limit: str = ""
) -> Implementation:
    """Return the implementation that ``backend`` means for tensors on ``device``.

    Parameters
    ----------
    op
        Name of the op.
    backend
        What was asked for.
    device
        Of the tensors.
    triton_limit
        Why the op's Triton kernel does not take these arguments, or an empty string.

    Raises
    ------
    ValueError
        ``backend`` is not one of the five names.
    BackendUnavailableError
        The named backend cannot run here; the message says why.
    """
    check_choice("backend", backend, BACKENDS)
    if backend in ("reference", "eager"):
        return "reference"
    if backend == "auto":
        if not backend_problem(op, "native", device.type):
            return "native"
        is_cuda = device.type == "cuda"
        has_triton = is_cuda and not (triton_limit or backend_problem(op, "triton", "cuda"))
        return "triton" if has_triton else "reference"
    problem = backend_problem(op, backend, device.type)
    if backend == "triton":
        problem = problem or triton_limit
    if problem:
        raise BackendUnavailableError(f"backend={backend!r}: {problem}")
    return "triton" if backend == "triton" else "native"


def op_table() -> list[OpRow]:
    """Return one row per op, backend and kind of device: can it run here, and why not.

    Examples
    --------
    >>> {row.op for row in op_table()} >= {"ode_step", "ot_couple", "philox_normal"}
    True
    """
    no_cuda = "" if torch.cuda.is_available() else "torch finds no CUDA device"
    backends: tuple[Backend, ...] = ("reference", "eager", "native", "triton")
    rows = []
    for op in _NATIVE_DEVICES:
        for backend in backends:
            for device in ("cpu", "cuda"):
                problem = backend_problem(op, backend, device)
                reason = problem or (no_cuda if device == "cuda" else "")
                rows.append(
                    OpRow(
                        op=op,
                        backend=backend,
                        device=device,
                        available=not reason,
                        reason=reason,
                    )
                )
    return rows
