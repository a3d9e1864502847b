"""Triton kernels of ``philox_normal``: Philox-4x32-10 and Box-Muller, every step of which is rounded by itself.

The integers are those of the other backends. Normals are computed in float32 with logarithm, sine and cosine of
their own (nothing is approximated by the device and nothing is fused), so that interpreter and GPU agree.
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_blocks import quotient, root
from tito_fast.ops.triton_launch import KernelBuild, Launch, LaunchTable

# Philox-4x32's two multipliers, and what its key grows by in each of its ten rounds.
MULTIPLIER_0 = tl.constexpr(0xD2511F53)
MULTIPLIER_2 = tl.constexpr(0xCD9E8D57)
WEYL_0 = tl.constexpr(0x9E3779B9)
WEYL_1 = tl.constexpr(0xBB67AE85)
N_ROUNDS = tl.constexpr(10)

# ln 2 in two parts; small multiples of the first are exact.
LN2_HIGH = tl.constexpr(0.693145751953125)
LN2_LOW = tl.constexpr(1.4286068203094172e-06)
# Bits of float32's sqrt(1/2).
ROOT_HALF_BITS = tl.constexpr(0x3F3504F3)
# The nearest float32 to pi, and what is left.
PI_HIGH = tl.constexpr(3.1415927410125732)
PI_LOW = tl.constexpr(-8.742278000372475e-08)
# 2 pi less its nearest double, by which the reference's angles fall short: what its cosine of a quarter turn shows.
SHORT_OF_2_PI = tl.constexpr(2.4492935982947064e-16)


@triton.jit
def philox(word_0, word_1, word_2, word_3, key_0, key_1):
    """Return the four encrypted words; all are uint32."""
    for _ in tl.static_range(N_ROUNDS):
        high_0, low_0 = tl.umulhi(word_0, MULTIPLIER_0), word_0 * MULTIPLIER_0
        high_2, low_2 = tl.umulhi(word_2, MULTIPLIER_2), word_2 * MULTIPLIER_2
        word_0, word_1 = high_2 ^ word_1 ^ key_0, low_2
        word_2, word_3 = high_0 ^ word_3 ^ key_1, low_0
        key_0 += WEYL_0
        key_1 += WEYL_1
    return word_0, word_1, word_2, word_3


@triton.jit
def _minus_log(count):
    """Return -ln(count / 2^24) of whole numbers 1 ... 2^24, float32, with a small relative error also next to 0.

    count = 2^e f with f in [sqrt(1/2), sqrt(2)); with g = f - 1 and s = g / (2 + g), ln f = 2 artanh s
    = g - s (g - R), R = 2 s²/3 + 2 s⁴/5 + ... (what is left out: 2e-11).
    """
    bits = count.to(tl.int32, bitcast=True)
    exponent = (bits - ROOT_HALF_BITS) >> 23
    g = (bits - (exponent << 23)).to(tl.float32, bitcast=True) - 1.0
    s = quotient(g, 2.0 + g)
    square = s * s
    series = square * (2.0 / 11.0) + 2.0 / 9.0
    series = series * square + 2.0 / 7.0
    series = series * square + 2.0 / 5.0
    series = series * square + 2.0 / 3.0
    n_halvings = (24 - exponent).to(tl.float32)
    rest = s * (g - series * square) + n_halvings * LN2_LOW
    return (n_halvings * LN2_HIGH - g) + rest


@triton.jit
def radius_of(word):
    """Return sqrt(-2 ln u), float32, u = ((word >> 8) + 1) / 2^24."""
    return root(2.0 * _minus_log(((word >> 8) + 1).to(tl.float32)))


@triton.jit
def turned(word):
    """Return cos(2 pi u) and sin(2 pi u), float32, u = (word >> 8) / 2^24.

    u is a whole number of quarter turns and x / 2 with |x| <= 1/4, exactly. Taylor series of sin(pi x) / x and
    cos(pi x) (what is left out: 2e-9, 4e-10); shorter and closer than ``sin_pi``, since both are needed.
    """
    turn = (word >> 8).to(tl.int32)
    quarter = (turn + 0x200000) >> 22
    x = (turn - (quarter << 22)).to(tl.float32) * (2.0**-23)
    square = x * x
    series = square * 0.08214588661112823 - 0.5992645293207921
    series = series * square + 2.550164039877345
    series = series * square - 5.16771278004997
    sine = (x * square * series + x * PI_LOW) + x * PI_HIGH
    series = square * -0.02580689139001406 + 0.23533063035889312
    series = series * square - 1.3352627688545893
    series = series * square + 4.058712126416768
    series = series * square - 4.934802200544679
    cosine = series * square + 1.0
    is_odd = (quarter & 1) == 1
    along = tl.where(is_odd, sine, cosine)
    across = tl.where(is_odd, cosine, sine)
    along = tl.where(((quarter + 1) & 2) == 2, -along, along)
    across = tl.where((quarter & 2) == 2, -across, across)
    short = turn.to(tl.float32) * (2.0**-24) * SHORT_OF_2_PI
    return along + short * across, across - short * along


@triton.jit
def box_muller(first, second):
    """Return the two normals of a pair of uint32 words, float32."""
    radius = radius_of(first)
    cosine, sine = turned(second)
    return radius * cosine, radius * sine


@triton.jit(do_not_specialize=["n_blocks", "n_rows", "n_halvings", "n_total", "step", "evaluation"])
def philox_normal_fwd_kernel(
    keys, replicas, counts, starts, block_ends, device_step, normals,
    n_blocks, n_rows, n_halvings, n_total, step, evaluation,
    HAS_DEVICE_STEP: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write TILE blocks of four normals; block g of all is block b of row r.

    keys, replicas, counts, starts, block_ends (n_rows,) int64: starts are those of the rows' normals, block_ends
    the ends of their blocks among all. Row r is the first that ends beyond g, found in n_halvings steps. The
    rollout step is the low word of ``step`` or of ``device_step[0]``.
    """
    g = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    low = tl.zeros([TILE], tl.int32)
    high = low + n_rows
    for _ in range(n_halvings):
        middle = (low + high) // 2
        is_before = tl.load(block_ends + middle, middle < n_rows, 0) <= g
        is_open = low < high
        low = tl.where(is_open & is_before, middle + 1, low)
        high = tl.where(is_open & ~is_before, middle, high)
    mask = (g < n_blocks) & (low < n_rows)
    row = tl.where(mask, low, 0)
    count = tl.load(counts + row, mask, 0)
    block = g - tl.load(block_ends + row, mask, 0) + (count + 3) // 4
    key = tl.load(keys + row, mask, 0)
    rollout_step = tl.load(device_step) if HAS_DEVICE_STEP else step
    zero = tl.zeros([TILE], tl.uint32)
    word_0, word_1, word_2, word_3 = philox(
        block.to(tl.uint32),
        zero + rollout_step.to(tl.uint32),
        tl.load(replicas + row, mask, 0).to(tl.uint32),
        zero + evaluation.to(tl.uint32),
        key.to(tl.uint32),
        (key >> 32).to(tl.uint32),
    )
    cosine_0, sine_0 = box_muller(word_0, word_1)
    cosine_2, sine_2 = box_muller(word_2, word_3)
    # (TILE, 2, 2), the words' pair first.
    four = tl.join(tl.join(cosine_0, cosine_2), tl.join(sine_0, sine_2))
    element = 4 * block[:, None] + tl.arange(0, 4)[None, :]
    place = tl.load(starts + row, mask, 0)[:, None] + element
    is_kept = mask[:, None] & (element < count[:, None]) & (place < n_total)
    tl.store(normals + place, tl.reshape(four, [TILE, 4]), is_kept)


@triton.jit(do_not_specialize=["n_counters"])
def philox_integers_fwd_kernel(counters, keys, words, n_counters, TILE: tl.constexpr):
    """Encrypt TILE counters (n_counters, 4) under keys (n_counters, 2) into words (n_counters, 4), all int64."""
    g = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    mask = g < n_counters
    word_0, word_1, word_2, word_3 = philox(
        tl.load(counters + 4 * g, mask, 0).to(tl.uint32),
        tl.load(counters + 4 * g + 1, mask, 0).to(tl.uint32),
        tl.load(counters + 4 * g + 2, mask, 0).to(tl.uint32),
        tl.load(counters + 4 * g + 3, mask, 0).to(tl.uint32),
        tl.load(keys + 2 * g, mask, 0).to(tl.uint32),
        tl.load(keys + 2 * g + 1, mask, 0).to(tl.uint32),
    )
    tl.store(words + 4 * g, word_0.to(tl.int64), mask)
    tl.store(words + 4 * g + 1, word_1.to(tl.int64), mask)
    tl.store(words + 4 * g + 2, word_2.to(tl.int64), mask)
    tl.store(words + 4 * g + 3, word_3.to(tl.int64), mask)


NORMALS: LaunchTable = {
    (architecture, 4, "ieee"): Launch({"TILE": 256}, num_warps=4, fuses=False)
    for architecture in (80, 90)
}
INTEGERS: LaunchTable = {
    (architecture, 4, "ieee"): Launch({"TILE": 128}, num_warps=4, fuses=False)
    for architecture in (80, 90)
}


def aot_builds(architecture: int) -> list[KernelBuild]:
    """Return the builds that users get."""
    rows = ("keys", "replicas", "counts", "starts", "block_ends", "device_step")
    numbers = ("n_blocks", "n_rows", "n_halvings", "n_total", "step", "evaluation")
    normals = [
        KernelBuild(
            name=f"philox_normal_fwd_{name}_step",
            kernel=philox_normal_fwd_kernel,
            signature={
                **dict.fromkeys(rows, "*i64"),
                "normals": "*fp32",
                **dict.fromkeys(numbers, "i32"),
            },
            constexprs={"HAS_DEVICE_STEP": is_on_device},
            launch=NORMALS[architecture, 4, "ieee"],
            is_hot=True,
        )
        for name, is_on_device in (("host", False), ("device", True))
    ]
    integers = KernelBuild(
        name="philox_integers_fwd",
        kernel=philox_integers_fwd_kernel,
        signature={
            **dict.fromkeys(("counters", "keys", "words"), "*i64"),
            "n_counters": "i32",
        },
        constexprs={},
        launch=INTEGERS[architecture, 4, "ieee"],
    )
    return [*normals, integers]
