"""Checks of what numbers a draw of normals."""

import torch
from torch import Tensor

from tito_fast.validation import check_dtype, check_same_device, check_shape

MAX_WORD = 2**32 - 1


def check_rows(keys: Tensor, replicas: Tensor, counts: Tensor) -> None:
    """Raise unless ``keys``, ``replicas`` and ``counts`` are int64 rows of one length and device."""
    check_dtype("keys", keys, torch.int64)
    check_shape("keys", keys, ("n_rows",))
    for name, tensor in (("replicas", replicas), ("counts", counts)):
        check_dtype(name, tensor, torch.int64)
        check_shape(name, tensor, (keys.shape[0],))
        check_same_device(name, tensor, "keys", keys)


def check_word(name: str, value: int) -> None:
    """Raise ``ValueError`` unless ``value`` has 32 bits."""
    if not 0 <= value <= MAX_WORD:
        raise ValueError(f"{name}: expected 0 to 2**32 - 1, got {value}")


def check_replicas(replicas: Tensor) -> None:
    """Raise ``ValueError`` unless every element has 32 bits; waits for the tensor's device."""
    bad = (replicas < 0) | (replicas > MAX_WORD)
    if bad.any():
        raise ValueError(f"replicas: expected 0 to 2**32 - 1, got {int(replicas[bad][0])}")


def check_counts(counts: Tensor, n_total: int) -> None:
    """Raise ``ValueError`` unless ``counts`` are of rows and sum to ``n_total``; waits as `check_replicas`."""
    bad = (counts < 0) | (counts > n_total) | (counts > 4 * MAX_WORD)
    if bad.any():
        raise ValueError(
            f"counts: expected 0 to n_total = {n_total} normals in a row, got {int(counts[bad][0])}"
        )
    if int(counts.sum()) != n_total:
        raise ValueError(f"counts: expected a sum of n_total = {n_total}, got {int(counts.sum())}")
