"""Where the rows of a draw lie."""

import torch
from torch import Tensor


def philox_rows(counts: Tensor) -> Tensor:
    """Return what `philox_normal_at` needs to know of ``counts`` (n_rows,) int64: (2, n_rows) int64.

    By row: the first value, and the end of its blocks of four. Constant for a batch; computed on its device
    without waiting for it.
    """
    return torch.stack((counts.cumsum(0) - counts, ((counts + 3) // 4).cumsum(0)))
