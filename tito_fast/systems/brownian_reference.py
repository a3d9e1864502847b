"""The definition of Brownian trajectories in plain NumPy, for any potential."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tito_fast.systems.brownian import BrownianPlan, starting_state, step_scales
from tito_fast.systems.potentials import FloatArray, Potential

_STEPS_PER_BLOCK: Final = 4
_MASK: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)


def brownian_reference(
    potential: Potential,
    *,
    n_trajectories: int,
    n_frames: int,
    steps_per_frame: int,
    time_step: float,
    seed: int,
    start: ArrayLike | None = None,
    burn_in_frames: int = 0,
) -> FloatArray:
    """Simulate as :func:`brownian_trajectories` in float64, with the same normals; about a hundred times slower.

    Parameters
    ----------
    potential : Potential
        Any.
    n_trajectories, n_frames, steps_per_frame, time_step, seed, start, burn_in_frames
        As in :func:`brownian_trajectories`.

    Returns
    -------
    ndarray, shape (n_trajectories, n_frames, n_dims), float64
        Within rounding of the kernel's.

    Raises
    ------
    ValueError
        As :func:`brownian_trajectories`.
    """
    plan = BrownianPlan(n_frames, steps_per_frame, time_step, burn_in_frames)
    state = starting_state(potential, n_trajectories, start=start, seed=seed)
    drift, amplitude = step_scales(potential, time_step)
    frames = np.empty((n_trajectories, n_frames, potential.n_dims))
    for step in range(plan.n_steps + 1):
        frame, rest = divmod(step - plan.n_burn_in_steps, steps_per_frame)
        if frame >= 0 and rest == 0:
            frames[:, frame] = state
        if step % _STEPS_PER_BLOCK == 0:
            normals = block_normals(
                seed, n_trajectories, step // _STEPS_PER_BLOCK, potential.n_dims
            )
        noise = normals[:, :, step % _STEPS_PER_BLOCK].astype(np.float64)
        state = state + (drift * potential.force(state) + amplitude * noise)
    return frames


def block_normals(seed: int, n_trajectories: int, block: int, n_dims: int) -> NDArray[np.float32]:
    """Return the normals of steps ``4 block`` to ``4 block + 3``, shape (n_trajectories, n_dims, 4).

    The counter of trajectory i and dimension d is (block low, block high, i, d), the key the seed, each half of 32
    bits. Words 0 and 1 give normals 0 and 1, words 2 and 3 the others.
    """
    trajectory = np.arange(n_trajectories, dtype=np.uint64)[:, None]
    dim = np.arange(n_dims, dtype=np.uint64)[None, :]
    zero = np.zeros((n_trajectories, n_dims), dtype=np.uint64)
    counter = [zero + np.uint64(block & 0xFFFFFFFF), zero + np.uint64(block >> 32)]
    words = philox_4x32_10([*counter, zero + trajectory, zero + dim], seed)
    pairs = [*normal_pair(words[0], words[1]), *normal_pair(words[2], words[3])]
    return np.stack(pairs, axis=-1)


def philox_4x32_10(counter: list[NDArray[np.uint64]], key: int) -> list[NDArray[np.uint64]]:
    """Encrypt four arrays of 32-bit words, held in 64 bits, under a key of 64 bits."""
    word_0, word_1, word_2, word_3 = counter
    low, high = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        product_0 = word_0 * np.uint64(0xD2511F53)
        product_2 = word_2 * np.uint64(0xCD9E8D57)
        word_0 = (product_2 >> _HALF) ^ word_1 ^ np.uint64(low)
        word_2 = (product_0 >> _HALF) ^ word_3 ^ np.uint64(high)
        word_1, word_3 = product_2 & _MASK, product_0 & _MASK
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return [word_0, word_1, word_2, word_3]


# Coefficients of the highest power first: -2 ln(1 + f) = f (-2 + f q(f)) for sqrt(1/2) <= 1 + f < sqrt(2), largest
# relative error 3e-8; sin t = t + t^3 s(t^2) and cos t = 1 + t^2 c(t^2) for |t| <= pi/4, errors 4e-9 and 4e-8.
_LOG: Final = (-0.17469685, 0.28615044, -0.29835936, 0.33141017, -0.39924145, 0.500035)
_LOG_END: Final = (-0.666679, 0.9999998)
_SINE: Final = (-0.00019515283, 0.00833216, -0.16666655)
_COSINE: Final = (-0.0013591854, 0.041655777, -0.49999884)


def normal_pair(
    first: NDArray[np.uint64], second: NDArray[np.uint64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the two normals of two 32-bit words by Box and Muller's method.

    ``u = (⌊first / 2⌋ + 1/2) / 2³¹`` and ``angle = 2π second / 2³²``: ``sqrt(−2 ln u)`` times cosine and sine. Every
    operation is one of single precision, in the order of the kernel, so the bits are the kernel's.
    """
    single = np.float32
    u = (first >> np.uint64(1)).astype(np.int32).astype(single) * single(2.0**-31)
    radius = np.sqrt(_minus_two_log(u + single(2.0**-32)))

    quadrant = ((second + np.uint64(0x20000000)) & _MASK) >> np.uint64(30)
    rest = ((second - (quadrant << np.uint64(30))) & _MASK).astype(np.uint32).view(np.int32)
    t = rest.astype(single) * single(1.4629181e-09)
    z = t * t
    sine = t + t * (z * _horner(z, _SINE))
    cosine = z * _horner(z, _COSINE) + single(1.0)
    is_odd = quadrant % 2 == 1
    is_left = (quadrant == 1) | (quadrant == 2)
    is_below = quadrant >= 2
    along, across = np.where(is_odd, sine, cosine), np.where(is_odd, cosine, sine)
    return radius * np.where(is_left, -along, along), radius * np.where(is_below, -across, across)


def _minus_two_log(u: NDArray[np.float32]) -> NDArray[np.float32]:
    single = np.float32
    sqrt_half = np.uint32(0x3F3504F3)
    bits = u.view(np.uint32)
    k = (bits - sqrt_half).view(np.int32) >> np.int32(23)
    f = (bits - (k.view(np.uint32) << np.uint32(23))).view(single) - single(1.0)
    whole = k.astype(single) * single(-1.3862944)
    return np.asarray(whole + f * (f * _horner(f, (*_LOG, *_LOG_END)) - single(2.0)))


def _horner(x: NDArray[np.float32], coefficients: tuple[float, ...]) -> NDArray[np.float32]:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + np.float32(coefficient)
    return value
