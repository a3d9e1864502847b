"""``torch.ops.tito_fast.philox_normal_triton``, ``_triton_at`` and ``philox_integers_triton``."""

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.native_call import dense
from tito_fast.ops.philox_normal.rows import philox_rows
from tito_fast.ops.philox_normal.triton_kernel import (
    INTEGERS,
    NORMALS,
    philox_integers_fwd_kernel,
    philox_normal_fwd_kernel,
)
from tito_fast.ops.triton_launch import choose_launch

define(
    "philox_normal_triton(Tensor keys, Tensor replicas, Tensor counts, int rollout_step, "
    "int stream_evaluation, int n_total) -> Tensor"
)
define(
    "philox_normal_triton_at(Tensor keys, Tensor replicas, Tensor counts, Tensor rows, "
    "Tensor rollout_step, int stream_evaluation, int n_total) -> Tensor"
)
define("philox_integers_triton(Tensor counters, Tensor keys) -> Tensor")


def philox_normal_triton(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    rollout_step: int | Tensor,
    stream_evaluation: int,
    n_total: int,
    *,
    rows: Tensor | None = None,
) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.philox_normal`, checked.

    Parameters
    ----------
    keys, replicas, counts, stream_evaluation, n_total
        As there.
    rollout_step
        A number, or a tensor of one int64 on the device of ``keys``, which is read when the kernel runs: a
        captured graph then draws for another step at each replay. Of it only the low 32 bits count.
    rows
        ``philox_rows(counts)``, if there are more draws of the same counts; read with a tensor as step only.
    """
    if isinstance(rollout_step, Tensor):
        rows = philox_rows(counts) if rows is None else rows
        result: Tensor = torch.ops.tito_fast.philox_normal_triton_at(
            keys, replicas, counts, rows, rollout_step, stream_evaluation, n_total
        )
    else:
        result = torch.ops.tito_fast.philox_normal_triton(
            keys, replicas, counts, rollout_step, stream_evaluation, n_total
        )
    return result


def philox_integers_triton(counters: Tensor, keys: Tensor) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.philox_normal.philox_integers`."""
    result: Tensor = torch.ops.tito_fast.philox_integers_triton(counters, keys)
    return result


def _as_int32(word: int) -> int:
    """Return the signed number with the same 32 bits, so that the kernel's argument has one type."""
    return word - 2**32 if word >= 2**31 else word


def _draw(
    row_tensors: tuple[Tensor, Tensor, Tensor, Tensor],
    device_step: Tensor | None,
    step: int,
    stream_evaluation: int,
    n_total: int,
) -> Tensor:
    keys, replicas, counts, rows = dense(*row_tensors)
    n_rows = keys.shape[0]
    normals = torch.empty(n_total, dtype=torch.float32, device=keys.device)
    if n_total == 0 or n_rows == 0:
        return normals
    # As many blocks as there can be: that of each row may be left with one normal.
    n_blocks = (n_total + 3 * n_rows) // 4
    launch = choose_launch(NORMALS, keys.device, 4, "ieee")
    philox_normal_fwd_kernel[-(-n_blocks // launch.tile["TILE"]),](
        keys,
        replicas,
        counts,
        rows[0],
        rows[1],
        keys if device_step is None else device_step,
        normals,
        n_blocks,
        n_rows,
        n_rows.bit_length(),
        n_total,
        _as_int32(step),
        _as_int32(stream_evaluation),
        HAS_DEVICE_STEP=device_step is not None,
        **launch.options,
    )
    return normals


def _normal(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    rollout_step: int,
    stream_evaluation: int,
    n_total: int,
) -> Tensor:
    rows = (keys, replicas, counts, philox_rows(counts))
    return _draw(rows, None, rollout_step, stream_evaluation, n_total)


def _normal_at(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    rows: Tensor,
    rollout_step: Tensor,
    stream_evaluation: int,
    n_total: int,
) -> Tensor:
    return _draw((keys, replicas, counts, rows), rollout_step, 0, stream_evaluation, n_total)


def _integers(counters: Tensor, keys: Tensor) -> Tensor:
    counters, keys = dense(counters, keys)
    words = torch.empty_like(counters)
    n_counters = counters.shape[0]
    if n_counters:
        launch = choose_launch(INTEGERS, counters.device, 4, "ieee")
        philox_integers_fwd_kernel[-(-n_counters // launch.tile["TILE"]),](
            counters, keys, words, n_counters, **launch.options
        )
    return words


def _fake_normal(
    keys: Tensor,
    replicas: Tensor,  # noqa: ARG001, the schema's argument
    counts: Tensor,  # noqa: ARG001
    rollout_step: int,  # noqa: ARG001
    stream_evaluation: int,  # noqa: ARG001
    n_total: int,
) -> Tensor:
    return keys.new_empty((n_total,), dtype=torch.float32)


def _fake_normal_at(
    keys: Tensor,
    replicas: Tensor,  # noqa: ARG001
    counts: Tensor,  # noqa: ARG001
    rows: Tensor,  # noqa: ARG001
    rollout_step: Tensor,  # noqa: ARG001
    stream_evaluation: int,  # noqa: ARG001
    n_total: int,
) -> Tensor:
    return keys.new_empty((n_total,), dtype=torch.float32)


def _fake_integers(counters: Tensor, keys: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(counters, memory_format=torch.contiguous_format)


for _device in ("CPU", "CUDA"):
    implement("philox_normal_triton", _normal, _device)
    implement("philox_normal_triton_at", _normal_at, _device)
    implement("philox_integers_triton", _integers, _device)
implement_fake("philox_normal_triton", _fake_normal)
implement_fake("philox_normal_triton_at", _fake_normal_at)
implement_fake("philox_integers_triton", _fake_integers)
