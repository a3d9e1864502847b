"""Device functions that the Triton kernels share: products, norms, encodings, and the rows of a molecule."""

import triton
import triton.language as tl

from tito_fast.ops.triton_launch import is_interpreting

IS_INTERPRETED = tl.constexpr(is_interpreting())
NORM_EPS = tl.constexpr(1e-5)


@triton.jit
def _to_bf16(x):
    """Return ``x`` rounded to bf16, as the products take it."""
    if IS_INTERPRETED:
        # The interpreter cuts bits off and multiplies what bf16 is stored as; here float32 holds the nearest bf16.
        bits = x.to(tl.int32, bitcast=True)
        return ((bits + 32767 + ((bits >> 16) & 1)) & -65536).to(tl.float32, bitcast=True)
    return x.to(tl.bfloat16)


@triton.jit
def _to_tf32(x):
    """Return ``x`` with TF32's 10 bits of mantissa in the interpreter; a GPU's products drop the others themselves."""
    if IS_INTERPRETED:
        return (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return x


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """Return ``a @ b``, (m, k) times (k, n), with sums in float32 (float64 of float64).

    ``ieee``: factors as they are. ``tf32``, ``bf16``: factors rounded. ``fp32``: each factor split into two bf16
    parts and the three larger products added, smallest first: about 16 bits of mantissa at bf16 speed.
    """
    if PRECISION == "bf16":
        result = tl.dot(_to_bf16(a), _to_bf16(b))
    elif PRECISION == "fp32":
        a_high = _to_bf16(a)
        a_low = _to_bf16(a - a_high.to(tl.float32))
        b_high = _to_bf16(b)
        b_low = _to_bf16(b - b_high.to(tl.float32))
        result = tl.dot(a_low, b_high)
        result = tl.dot(a_high, b_low, result)
        result = tl.dot(a_high, b_high, result)
    elif PRECISION == "tf32":
        result = tl.dot(_to_tf32(a), _to_tf32(b), input_precision="tf32")
    else:
        result = tl.dot(a, b, input_precision="ieee", out_dtype=a.dtype)
    return result


@triton.jit
def normalized(hidden, N_FEATURES: tl.constexpr):
    """Return rows of ``hidden`` with mean 0 and variance 1, (m, N_FEATURES), and 1 / their deviation, (m, 1)."""
    mean = tl.sum(hidden, axis=1, keep_dims=True) / N_FEATURES
    centered = hidden - mean
    variance = tl.sum(centered * centered, axis=1, keep_dims=True) / N_FEATURES
    inverse = 1.0 / tl.sqrt(variance + NORM_EPS)
    return centered * inverse, inverse


@triton.jit
def sigmoid(x):
    """Return 1 / (1 + exp(-x)); exact at both ends."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def norm_silu(hidden, scale, shift, N_FEATURES: tl.constexpr):
    """Return ``silu(layer_norm(hidden))``, (m, N_FEATURES); ``scale`` and ``shift`` are (N_FEATURES,)."""
    unit, _ = normalized(hidden, N_FEATURES)
    affine = unit * scale[None, :] + shift[None, :]
    return affine * sigmoid(affine)


@triton.jit
def norm_silu_backward(grad, unit, inverse, scale, shift, N_FEATURES: tl.constexpr):
    """Return the gradient of ``norm_silu``'s input, and that of the norm's result (before scale and shift act).

    ``grad`` is the gradient of the activation; ``unit`` and ``inverse`` come from ``normalized``. With a = unit scale
    + shift and s = sigmoid(a): da = grad s (1 + a (1 - s)); d scale = sum da unit, d shift = sum da; du = da scale;
    d hidden = inverse (du - mean(du) - unit mean(du unit)).
    """
    affine = unit * scale[None, :] + shift[None, :]
    gate = sigmoid(affine)
    d_affine = grad * gate * (1.0 + affine * (1.0 - gate))
    d_unit = d_affine * scale[None, :]
    mean = tl.sum(d_unit, axis=1, keep_dims=True) / N_FEATURES
    along = tl.sum(d_unit * unit, axis=1, keep_dims=True) / N_FEATURES
    return inverse * (d_unit - mean - unit * along), d_affine


@triton.jit
def root(x):
    """Return the correctly rounded square root; ``tl.sqrt`` approximates that of float32."""
    return tl.sqrt(x) if x.dtype == tl.float64 else tl.sqrt_rn(x)


@triton.jit
def quotient(x, y):
    """Return the correctly rounded x / y; the operator approximates that of float32."""
    return x / y if x.dtype == tl.float64 else tl.div_rn(x, y)


@triton.jit
def sin_pi(x):
    """Return sin(pi x); the argument is reduced exactly, so that large ones lose nothing."""
    reduced = x - 2.0 * tl.floor(0.5 * x + 0.5)
    # In [-1, 1): what lies beyond a quarter turn is folded back.
    folded = tl.where(
        reduced > 0.5, 1.0 - reduced, tl.where(reduced < -0.5, -1.0 - reduced, reduced)
    )
    square = folded * folded
    # Taylor: (-1)^n pi^(2n+1) / (2n+1)!, to n = 6 in float32 (what is left: 7e-10), to n = 10 in float64 (1e-18).
    series = folded * 0.0
    if x.dtype == tl.float64:
        series = series * square + 5.392664662608125e-10
        series = series * square - 2.2948428997269856e-08
        series = series * square + 7.952054001475508e-07
        series = series * square - 2.1915353447830204e-05
    series = series * square + 0.00046630280576761234
    series = series * square - 0.007370430945714348
    series = series * square + 0.08214588661112819
    series = series * square - 0.5992645293207919
    series = series * square + 2.550164039877345
    series = series * square - 5.167712780049969
    series = series * square + 3.141592653589793
    return folded * series


@triton.jit
def encode_distances(dist, length, WIDTH: tl.constexpr):
    """Return ``cos(k pi d / length), sin(k pi d / length)``, k = 1 ... WIDTH / 2, interleaved, (m, WIDTH)."""
    feature = tl.arange(0, WIDTH)
    # A cosine is a sine half a turn ahead.
    ahead = tl.where(feature % 2 == 0, 0.5, 0.0).to(dist.dtype)
    rank = (feature // 2 + 1).to(dist.dtype)
    return sin_pi((dist / length)[:, None] * rank[None, :] + ahead[None, :])


@triton.jit
def molecule_rows(batch_ptr, n_atoms):
    """Return first and end of this program's molecule, both within the arrays."""
    molecule = tl.program_id(0)
    first = tl.maximum(tl.load(batch_ptr + molecule), 0)
    return first, tl.minimum(tl.load(batch_ptr + molecule + 1), n_atoms)


@triton.jit
def molecule_tile(first, end, TILE: tl.constexpr):
    """Return places and mask of the atoms first ... first + TILE, rows of three in tiles of four columns."""
    atom = first + tl.arange(0, TILE)
    axis = tl.arange(0, 4)
    return 3 * atom[:, None] + axis[None, :], (atom < end)[:, None] & (axis < 3)[None, :]
