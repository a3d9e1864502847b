"""Contexts in which products have a chosen precision, and after which they have the one before."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from tito_fast.types import Precision, ProductPrecision

_PRODUCTS: ContextVar[ProductPrecision] = ContextVar("product_precision", default="ieee")

_PRODUCTS_OF: dict[Precision, ProductPrecision] = {
    "fp32": "fp32",
    "tf32": "tf32",
    "bf16": "bf16",
    "fp64": "ieee",
}


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
    """Let products have ``precision`` and restore what they had after.

    PyTorch's float32 products use TF32 where ``precision`` is tf32, and only there; the Triton kernels multiply as
    `product_precision` says.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    token = _PRODUCTS.set(_PRODUCTS_OF[precision])
    try:
        yield
    finally:
        _PRODUCTS.reset(token)
        torch.set_float32_matmul_precision(before)


def product_precision() -> ProductPrecision:
    """Return how the Triton kernels multiply here: ``ieee`` outside every `matmul_precision`.

    Examples
    --------
    >>> with matmul_precision("fp32"):
    ...     product_precision()
    'fp32'
    >>> product_precision()
    'ieee'
    """
    return _PRODUCTS.get()
