"""The definition of ``philox_normal`` in plain PyTorch, on any device."""

import math

import torch
from torch import Tensor

_MULTIPLIER_0 = 0xD2511F53
_MULTIPLIER_2 = 0xCD9E8D57
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_MASK = 0xFFFFFFFF
_N_ROUNDS = 10


def philox_4x32_10(counters: Tensor, keys: Tensor) -> Tensor:
    """Encrypt ``counters`` (n, 4) under ``keys`` (n, 2); int64 tensors of 32-bit words."""
    word_0, word_1, word_2, word_3 = (counters & _MASK).unbind(1)
    key_0, key_1 = (keys & _MASK).unbind(1)
    for _ in range(_N_ROUNDS):
        high_0, low_0 = _product(_MULTIPLIER_0, word_0)
        high_2, low_2 = _product(_MULTIPLIER_2, word_2)
        word_0, word_1, word_2, word_3 = (
            high_2 ^ word_1 ^ key_0,
            low_2,
            high_0 ^ word_3 ^ key_1,
            low_0,
        )
        key_0 = (key_0 + _WEYL_0) & _MASK
        key_1 = (key_1 + _WEYL_1) & _MASK
    return torch.stack((word_0, word_1, word_2, word_3), dim=1)


def _product(multiplier: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high and the low 32 bits of a product of two 32-bit numbers."""
    # Half of one factor at a time, so that no partial product leaves a signed 64-bit integer.
    low_half = (word & 0xFFFF) * multiplier
    high_half = (word >> 16) * multiplier + (low_half >> 16)
    return high_half >> 16, ((high_half << 16) | (low_half & 0xFFFF)) & _MASK


def box_muller(first: Tensor, second: Tensor, *, is_second: Tensor) -> Tensor:
    """Return the first or the second normal of each pair of 32-bit words, float32."""
    u1 = ((first >> 8) + 1).to(torch.float64) * 2.0**-24
    u2 = (second >> 8).to(torch.float64) * 2.0**-24
    radius = torch.sqrt(-2.0 * torch.log(u1))
    angle = 2.0 * math.pi * u2
    normals = radius * torch.where(is_second, torch.sin(angle), torch.cos(angle))
    return normals.to(torch.float32)


def philox_normal_reference(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    rollout_step: int | Tensor,
    stream_evaluation: int,
    n_total: int,
) -> Tensor:
    """Return the normals; arguments as in :func:`tito_fast.ops.philox_normal`, checked.

    ``rollout_step`` may be a tensor of one int64 as well, of which the low 32 bits count.
    """
    device = keys.device
    row = torch.repeat_interleave(
        torch.arange(keys.shape[0], device=device), counts, output_size=n_total
    )
    starts = counts.cumsum(0) - counts
    element = torch.arange(n_total, device=device) - starts[row]
    # One cipher call per element, not per block: three quarters of the work is thrown away, and the
    # definition stays a formula of the element alone.
    counters = torch.stack(
        (
            element // 4,
            torch.zeros_like(element) + rollout_step,
            replicas[row],
            torch.full_like(element, stream_evaluation),
        ),
        dim=1,
    )
    key_words = torch.stack((keys & _MASK, (keys >> 32) & _MASK), dim=1)
    words = philox_4x32_10(counters, key_words[row])
    lane = element % 4
    pair = 2 * (lane // 2)
    first = words.gather(1, pair[:, None]).squeeze(1)
    second = words.gather(1, pair[:, None] + 1).squeeze(1)
    return box_muller(first, second, is_second=lane % 2 == 1)
