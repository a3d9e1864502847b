"""Products with rounded factors, on any device: what a kernel's choice of factors does, without the kernel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tito_fast.models.tito import eager

# As the Triton kernels know them (``tito_fast.types.ProductPrecision``), and TF32 rounded to nearest.
PRODUCTS = ("ieee", "fp32", "tf32", "bf16", "tf32-nearest")

_MM = torch.ops.aten.mm.default
_ADDMM = torch.ops.aten.addmm.default
_SUMS = (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm.default)


def to_bf16(factor: Tensor) -> Tensor:
    """Return the nearest bf16, ties to even, in float32."""
    return factor.to(torch.bfloat16).to(torch.float32)


def to_tf32(factor: Tensor) -> Tensor:
    """Return float32 without the 13 last bits of the mantissa, as tensor cores read it."""
    return (factor.contiguous().view(torch.int32) & -8192).view(torch.float32)


def to_nearest_tf32(factor: Tensor) -> Tensor:
    """Return the nearest TF32, ties away from zero, in float32."""
    return to_tf32((factor.contiguous().view(torch.int32) + 4096).view(torch.float32))


_ROUNDED: dict[str, Callable[[Tensor], Tensor]] = {
    "bf16": to_bf16,
    "tf32": to_tf32,
    "tf32-nearest": to_nearest_tf32,
}


class RoundedProducts(TorchDispatchMode):
    """Round both factors of every matrix product of float32; sums stay float32.

    ``ieee`` rounds nothing. ``fp32`` splits a factor into two bf16 parts and adds the three larger products, smallest
    first. Batched products are left alone: in the network they are sums over an atom's neighbors, which the
    kernels take without a product of matrices. A product that this class does not know is an error.

    Parameters
    ----------
    precision : str
        One of ``PRODUCTS``.
    """

    def __init__(self, precision: str) -> None:
        super().__init__()
        if precision not in PRODUCTS:
            raise ValueError(f"precision: expected one of {', '.join(PRODUCTS)}, got {precision!r}")
        self.precision = precision
        self.n_products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is _MM:
            return self._product(*args)
        if func is _ADDMM:
            bias, a, b = args
            if kwargs:
                raise NotImplementedError(f"addmm: expected no factors of its sum, got {kwargs}")
            return self._product(a, b).add_(bias)
        if func in _SUMS:
            return func(*args, **(kwargs or {}))
        if "mm" in func.__name__ or "linear" in func.__name__ or "matmul" in func.__name__:
            raise NotImplementedError(f"products: {func} is none that is known here")
        return func(*args, **(kwargs or {}))

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        if a.dtype != torch.float32:
            raise TypeError(f"products: expected float32, got {a.dtype}")
        self.n_products += 1
        if self.precision == "ieee":
            return a @ b
        if self.precision == "fp32":
            a_high, b_high = to_bf16(a), to_bf16(b)
            result = to_bf16(a - a_high) @ b_high
            result.addmm_(a_high, to_bf16(b - b_high))
            return result.addmm_(a_high, b_high)
        rounded = _ROUNDED[self.precision]
        return rounded(a) @ rounded(b)


@contextmanager
def edges_in_bf16() -> Iterator[None]:
    """Let ``eager`` keep the features of edges in bf16 between layers, as ``triton`` does in that precision."""
    plain = eager.add_edges

    def rounded(message, edges, sums, *, owns_edges):
        del owns_edges
        new = plain(message, [to_bf16(each) for each in edges], sums, owns_edges=True)
        return [to_bf16(each) for each in new]

    with mock.patch.object(eager, "add_edges", rounded):
        yield


@contextmanager
def emulated(precision: str) -> Iterator[RoundedProducts]:
    """Let ``eager`` compute what ``triton`` does in ``precision``, in another order of sums."""
    with RoundedProducts(precision) as mode:
        if precision != "bf16":
            yield mode
            return
        with edges_in_bf16():
            yield mode
