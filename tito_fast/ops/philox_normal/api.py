"""Public functions of the op ``philox_normal``."""

import torch
from torch import Tensor

from tito_fast.ops.philox_normal import native
from tito_fast.ops.philox_normal.reference import philox_4x32_10, philox_normal_reference
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import Backend
from tito_fast.validation import check_dtype, check_same_device, check_shape

_MAX_WORD = 2**32 - 1


def philox_normal(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    *,
    rollout_step: int,
    stream_evaluation: int,
    n_total: int,
    backend: Backend = "auto",
) -> Tensor:
    """Draw standard normals, row by row, from Philox-4x32-10.

    Row r gets ``counts[r]`` values. Block b of a row encrypts the counter words
    ``(b, rollout_step, replicas[r], stream_evaluation)`` under ``keys[r]`` and gives four values: with
    ``u1 = ((x >> 8) + 1) / 2**24`` and ``u2 = (x >> 8) / 2**24`` from words (0, 1) and (2, 3),
    ``sqrt(-2 ln u1) cos(2 pi u2)`` and ``sqrt(-2 ln u1) sin(2 pi u2)``. Each row starts at block 0; of
    its last block the first values are used.

    Parameters
    ----------
    keys
        (n_rows,) int64, 64-bit keys; the low word is the cipher's first.
    replicas
        (n_rows,) int64, 0 to 2**32 - 1.
    counts
        (n_rows,) int64, values per row, at least 0.
    rollout_step, stream_evaluation
        0 to 2**32 - 1.
    n_total
        Sum of ``counts``.
    backend
        ``auto``, ``native`` (CPU tensors), ``triton``, ``reference`` or ``eager`` (the same as ``reference``).

    Returns
    -------
    Tensor
        (n_total,) float32.

    Raises
    ------
    ValueError
        A shape or a number is wrong. The content of ``replicas`` and ``counts`` is checked on CPU
        tensors; on CUDA tensors that would wait for the device.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.

    Notes
    -----
    Stateless: a row depends on its own key, replica and the two step numbers only, bitwise, whatever
    else is in the batch and however many threads work. The integers are equal on every backend;
    normals are computed in double and rounded once, so native and reference differ by an ulp at most
    where their logarithms and sines do; Triton's are computed in float32 and differ by 4 ulps at most.
    Native: the same bits on every instruction set. No synchronisation; Triton: CUDA graphs yes.

    References
    ----------
    Salmon et al., SC11, doi:10.1145/2063384.2063405; Box and Muller, doi:10.1214/aoms/1177706645.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import philox_normal
    >>> one = torch.ones(1, dtype=torch.int64)
    >>> philox_normal(one, one, 3 * one, rollout_step=0, stream_evaluation=0, n_total=3).shape
    torch.Size([3])
    """
    _check_rows(keys, replicas, counts)
    _check_word("rollout_step", rollout_step)
    _check_word("stream_evaluation", stream_evaluation)
    if n_total < 0:
        raise ValueError(f"n_total: expected at least 0, got {n_total}")
    implementation = resolve_backend("philox_normal", backend, keys.device)
    if implementation == "native":
        return native.philox_normal_native(
            keys, replicas, counts, rollout_step, stream_evaluation, n_total
        )
    if keys.device.type == "cpu":
        _check_contents(replicas, counts, n_total)
    if implementation == "triton":
        from tito_fast.ops.philox_normal import triton_op  # noqa: PLC0415  optional

        return triton_op.philox_normal_triton(
            keys, replicas, counts, rollout_step, stream_evaluation, n_total
        )
    return philox_normal_reference(keys, replicas, counts, rollout_step, stream_evaluation, n_total)


def philox_rows(counts: Tensor) -> Tensor:
    """Return what `philox_normal_at` needs to know of ``counts`` (n_rows,) int64: (2, n_rows) int64.

    By row: the first value, and the end of its blocks. Computed on the device without waiting for it.
    """
    from tito_fast.ops.philox_normal import triton_op  # noqa: PLC0415  optional

    return triton_op.philox_rows(counts)


def philox_normal_at(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    *,
    rows: Tensor,
    rollout_step: Tensor,
    stream_evaluation: int,
    n_total: int,
) -> Tensor:
    """Draw what `philox_normal` draws, for a step whose number the device reads: in a captured graph, at each replay.

    Backend ``triton`` only.

    Parameters
    ----------
    keys, replicas, counts, stream_evaluation, n_total
        As there; contents are not checked.
    rows
        ``philox_rows(counts)``.
    rollout_step
        (1,) int64 on the device of ``keys``; the low 32 bits count.

    Returns
    -------
    Tensor
        (n_total,) float32.

    Raises
    ------
    ValueError
        A shape or a number is wrong.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        Triton cannot run here.
    """
    _check_rows(keys, replicas, counts)
    _check_word("stream_evaluation", stream_evaluation)
    check_shape("rows", rows, (2, keys.shape[0]))
    check_shape("rollout_step", rollout_step, (1,))
    for name, tensor in (("rows", rows), ("rollout_step", rollout_step)):
        check_dtype(name, tensor, torch.int64)
        check_same_device(name, tensor, "keys", keys)
    resolve_backend("philox_normal", "triton", keys.device)
    from tito_fast.ops.philox_normal import triton_op  # noqa: PLC0415  optional

    return triton_op.philox_normal_triton(
        keys, replicas, counts, rollout_step, stream_evaluation, n_total, rows=rows
    )


def philox_integers(counters: Tensor, keys: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Encrypt counters with Philox-4x32-10.

    Parameters
    ----------
    counters
        (n, 4) int64, 32 bits each.
    keys
        (n, 2) int64, 32 bits each.
    backend
        ``auto``, ``native`` (CPU tensors), ``triton``, ``reference`` or ``eager`` (the same as ``reference``).

    Returns
    -------
    Tensor
        (n, 4) int64, 32 bits each; equal on every backend.

    Raises
    ------
    ValueError
        A shape is wrong.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.
    """
    check_dtype("counters", counters, torch.int64)
    check_shape("counters", counters, ("n", 4))
    check_dtype("keys", keys, torch.int64)
    check_shape("keys", keys, (counters.shape[0], 2))
    check_same_device("keys", keys, "counters", counters)
    implementation = resolve_backend("philox_normal", backend, counters.device)
    if implementation == "native":
        return native.philox_integers_native(counters, keys)
    if implementation == "triton":
        from tito_fast.ops.philox_normal import triton_op  # noqa: PLC0415  optional

        return triton_op.philox_integers_triton(counters, keys)
    return philox_4x32_10(counters, keys)


def _check_rows(keys: Tensor, replicas: Tensor, counts: Tensor) -> None:
    check_dtype("keys", keys, torch.int64)
    check_shape("keys", keys, ("n_rows",))
    for name, tensor in (("replicas", replicas), ("counts", counts)):
        check_dtype(name, tensor, torch.int64)
        check_shape(name, tensor, (keys.shape[0],))
        check_same_device(name, tensor, "keys", keys)


def _check_word(name: str, value: int) -> None:
    if not 0 <= value <= _MAX_WORD:
        raise ValueError(f"{name}: expected 0 to 2**32 - 1, got {value}")


def _check_contents(replicas: Tensor, counts: Tensor, n_total: int) -> None:
    bad = (replicas < 0) | (replicas > _MAX_WORD)
    if bad.any():
        raise ValueError(f"replicas: expected 0 to 2**32 - 1, got {int(replicas[bad][0])}")
    bad = (counts < 0) | (counts > n_total) | (counts > 4 * _MAX_WORD)
    if bad.any():
        raise ValueError(
            f"counts: expected 0 to n_total = {n_total} normals in a row, got {int(counts[bad][0])}"
        )
    if int(counts.sum()) != n_total:
        raise ValueError(f"counts: expected a sum of n_total = {n_total}, got {int(counts.sum())}")
