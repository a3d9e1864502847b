"""Public functions of the op ``philox_normal``."""

import torch
from torch import Tensor

from tito_fast.ops.philox_normal import native
from tito_fast.ops.philox_normal.checks import check_counts, check_replicas, check_rows, check_word
from tito_fast.ops.philox_normal.reference import philox_4x32_10, philox_normal_reference
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import Backend
from tito_fast.validation import check_dtype, check_same_device, check_shape


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
        ``auto``, ``native``, ``triton``, ``reference`` or ``eager`` (the same as ``reference``).

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
    Native: the same bits on every instruction set and on CUDA, where a launch follows one of
    ``torch.cumsum``. No synchronisation, CUDA graphs yes (the step numbers are constants of them; see
    `philox_normal_at`). On CUDA tensors, values that ``counts`` would put behind ``n_total`` are left out,
    and values that it leaves over are not set.

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
    check_rows(keys, replicas, counts)
    check_word("rollout_step", rollout_step)
    check_word("stream_evaluation", stream_evaluation)
    if n_total < 0:
        raise ValueError(f"n_total: expected at least 0, got {n_total}")
    implementation = resolve_backend("philox_normal", backend, keys.device)
    if implementation == "native":
        return native.philox_normal_native(
            keys, replicas, counts, rollout_step, stream_evaluation, n_total
        )
    if keys.device.type == "cpu":
        check_replicas(replicas)
        check_counts(counts, n_total)
    if implementation == "triton":
        from tito_fast.ops.philox_normal import triton_op  # noqa: PLC0415  optional

        return triton_op.philox_normal_triton(
            keys, replicas, counts, rollout_step, stream_evaluation, n_total
        )
    return philox_normal_reference(keys, replicas, counts, rollout_step, stream_evaluation, n_total)


def philox_normal_at(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    *,
    rows: Tensor,
    rollout_step: Tensor,
    stream_evaluation: int,
    n_total: int,
    backend: Backend = "auto",
) -> Tensor:
    """Draw what `philox_normal` draws, for a step whose number the device reads: in a captured graph, at each replay.

    Parameters
    ----------
    keys, replicas, counts, stream_evaluation, n_total
        As there; on CUDA tensors, and by Triton, contents are not checked.
    rows
        ``philox_rows(counts)``.
    rollout_step
        (1,) int64 on the device of ``keys``; the low 32 bits count.
    backend
        As there.

    Returns
    -------
    Tensor
        (n_total,) float32, bitwise what `philox_normal` draws with the same backend.

    Raises
    ------
    ValueError
        A shape or a number is wrong.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.

    Notes
    -----
    No synchronisation. CUDA graphs yes: native and Triton are one launch, which reads ``rollout_step`` when it
    runs.
    """
    check_rows(keys, replicas, counts)
    check_word("stream_evaluation", stream_evaluation)
    check_shape("rows", rows, (2, keys.shape[0]))
    check_shape("rollout_step", rollout_step, (1,))
    for name, tensor in (("rows", rows), ("rollout_step", rollout_step)):
        check_dtype(name, tensor, torch.int64)
        check_same_device(name, tensor, "keys", keys)
    implementation = resolve_backend("philox_normal", backend, keys.device)
    if implementation == "native":
        return native.philox_normal_at_native(
            keys, replicas, counts, rows, rollout_step, stream_evaluation, n_total
        )
    if implementation == "reference":
        return philox_normal_reference(
            keys, replicas, counts, rollout_step, stream_evaluation, n_total
        )
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
        ``auto``, ``native``, ``triton``, ``reference`` or ``eager`` (the same as ``reference``).

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

    Notes
    -----
    One launch on CUDA, no synchronisation, CUDA graphs yes.
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
