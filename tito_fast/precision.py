"""Contexts in which products have a chosen precision, and after which they have the one before."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tito_fast.types import Precision


@contextmanager
def forward_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Autocast a forward pass for bf16; change nothing otherwise."""
    if precision != "bf16":
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16):
        yield


@contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """Let float32 products use TF32 where ``precision`` is tf32, and only there; restore it after."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
