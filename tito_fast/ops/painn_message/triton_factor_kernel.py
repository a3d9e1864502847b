"""Products whose right factor is rounded before it goes through shared memory.

Left to itself the compiler moves a cast behind the trip: every thread then holds float32 values of a whole column of
tiles, twice as many registers as the rounded ones take, and four times as many where a factor is split in two.
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_blocks import IS_INTERPRETED, _to_bf16, product


@triton.jit
def _to_bf16_here(x):
    """Return ``x`` rounded to bf16 where it is, in a way that the compiler does not move."""
    if IS_INTERPRETED:
        return _to_bf16(x)
    if x.dtype == tl.bfloat16:
        return x
    return tl.inline_asm_elementwise(
        "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,r,r", [x], dtype=tl.bfloat16, is_pure=False, pack=2
    )


@triton.jit
def right_factor(x, PRECISION: tl.constexpr):
    """Return ``x`` (k, n) as `product_with` takes it: one array, or the two parts of a split."""
    if PRECISION == "bf16":
        high = _to_bf16_here(x)
        low = high
    elif PRECISION == "fp32":
        high = _to_bf16_here(x)
        low = _to_bf16_here(x - high.to(tl.float32))
    else:
        high = x
        low = x
    return high, low


@triton.jit
def product_with(a, factor, PRECISION: tl.constexpr):
    """Return ``product(a, b, PRECISION)`` of the b that ``factor`` was made of."""
    high, low = factor
    if PRECISION == "fp32":
        a_high = _to_bf16(a)
        a_low = _to_bf16(a - a_high.to(tl.float32))
        result = tl.dot(a_low, high)
        result = tl.dot(a_high, low, result)
        result = tl.dot(a_high, high, result)
    else:
        result = product(a, high, PRECISION)
    return result
