"""Weights of messages as the kernel's products read them: rounded once, for all edges and evaluations."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.ops.mlp_parameters import MlpParameters
from tito_fast.types import ProductPrecision

_WEIGHTS = ("first_weight", "second_weight", "last_weight")


class PackedWeights(NamedTuple):
    """Weights of one message.

    Parameters
    ----------
    weights : list of Tensor
        First, second and last weight of phi, then of the filter; bf16 where products take bf16.
    low_offset : int
        Elements from a weight to what its rounding lost, with ``fp32``; else 0.
    """

    weights: list[Tensor]
    low_offset: int


@torch.no_grad()
def pack_weights(
    messages: Sequence[tuple[MlpParameters, MlpParameters]], precision: ProductPrecision
) -> list[PackedWeights]:
    """Round the weights of (phi, filter) of every message, in as many launches for many as for one.

    Parameters
    ----------
    messages
        Parameters of phi and filter.
    precision
        ``bf16`` rounds, ``fp32`` splits into two bf16 numbers; the others take weights as they are.
    """
    weights = [[getattr(mlp, name) for mlp in message for name in _WEIGHTS] for message in messages]
    if precision in ("ieee", "tf32") or not weights:
        return [PackedWeights([each.contiguous() for each in own], 0) for own in weights]
    every = [each for own in weights for each in own]
    flat = torch.cat([each.flatten() for each in every])
    packed = _rounded(flat)[None]
    if precision == "fp32":
        packed = torch.cat([packed, _rounded(flat - packed[0])[None]])
    starts = [0, *accumulate(each.numel() for each in every)]
    views = [
        packed[0, start:end].view(each.shape)
        for each, (start, end) in zip(every, pairwise(starts), strict=True)
    ]
    low_offset = flat.numel() if precision == "fp32" else 0
    n = 2 * len(_WEIGHTS)
    return [
        PackedWeights(views[n * index : n * index + n], low_offset) for index in range(len(weights))
    ]


def _rounded(x: Tensor) -> Tensor:
    """Return ``x`` as bf16 on a GPU; where kernels are interpreted, the same numbers in their own type."""
    rounded = x.to(torch.bfloat16)
    return rounded if x.is_cuda else rounded.to(x.dtype)
