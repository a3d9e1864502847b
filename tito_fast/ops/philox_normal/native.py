"""C++ and CUDA kernels: ``torch.ops.tito_fast.philox_normal``, ``_at`` and ``philox_integers``."""

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.cuda_call import call_cuda, runs_on_cuda
from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.native_call import NO_ADDRESS, addresses, dense
from tito_fast.ops.philox_normal.checks import MAX_WORD

define(
    "philox_normal(Tensor keys, Tensor replicas, Tensor counts, int rollout_step, "
    "int stream_evaluation, int n_total) -> Tensor"
)
define(
    "philox_normal_at(Tensor keys, Tensor replicas, Tensor counts, Tensor rows, Tensor rollout_step, "
    "int stream_evaluation, int n_total) -> Tensor"
)
define("philox_integers(Tensor counters, Tensor keys) -> Tensor")


def philox_normal_native(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    rollout_step: int,
    stream_evaluation: int,
    n_total: int,
) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.philox_normal`, checked."""
    result: Tensor = torch.ops.tito_fast.philox_normal(
        keys, replicas, counts, rollout_step, stream_evaluation, n_total
    )
    return result


def philox_normal_at_native(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    rows: Tensor,
    rollout_step: Tensor,
    stream_evaluation: int,
    n_total: int,
) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.philox_normal_at`, checked."""
    result: Tensor = torch.ops.tito_fast.philox_normal_at(
        keys, replicas, counts, rows, rollout_step, stream_evaluation, n_total
    )
    return result


def philox_integers_native(counters: Tensor, keys: Tensor) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.philox_normal.philox_integers`."""
    result: Tensor = torch.ops.tito_fast.philox_integers(counters, keys)
    return result


def _normal(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    rollout_step: int,
    stream_evaluation: int,
    n_total: int,
) -> Tensor:
    if runs_on_cuda(keys):
        # The kernel does not read the first element, which is zero.
        starts = counts.new_empty(counts.shape[0] + 1)
        torch.cumsum(counts, 0, out=starts[1:])
        words = rollout_step, stream_evaluation
        return _cuda_normal((keys, replicas, counts, starts), None, words, n_total)
    keys, replicas, counts = dense(keys, replicas, counts)
    normals = torch.empty(n_total, dtype=torch.float32)
    native_module().philox_normal_fwd_cpu(
        *addresses((keys, replicas, counts, normals)),
        keys.shape[0],
        n_total,
        rollout_step,
        stream_evaluation,
        torch.get_num_threads(),
    )
    return normals


def _normal_at(
    keys: Tensor,
    replicas: Tensor,
    counts: Tensor,
    rows: Tensor,
    rollout_step: Tensor,
    stream_evaluation: int,
    n_total: int,
) -> Tensor:
    if runs_on_cuda(keys):
        words = 0, stream_evaluation
        return _cuda_normal((keys, replicas, counts, rows[0]), rollout_step, words, n_total)
    step = int(rollout_step) & MAX_WORD
    return _normal(keys, replicas, counts, step, stream_evaluation, n_total)


def _cuda_normal(
    row_tensors: tuple[Tensor, Tensor, Tensor, Tensor],
    device_step: Tensor | None,
    words: tuple[int, int],
    n_total: int,
) -> Tensor:
    given = dense(*row_tensors)
    normals = torch.empty(n_total, dtype=torch.float32, device=given[0].device)
    call_cuda(
        "philox_normal_fwd_cuda",
        normals,
        *addresses(given),
        NO_ADDRESS if device_step is None else device_step.data_ptr(),
        normals.data_ptr(),
        given[0].shape[0],
        n_total,
        *words,
    )
    return normals


def _integers(counters: Tensor, keys: Tensor) -> Tensor:
    counters, keys = dense(counters, keys)
    words = torch.empty_like(counters)
    arguments = *addresses((counters, keys, words)), counters.shape[0]
    if runs_on_cuda(counters):
        call_cuda("philox_integers_cuda", counters, *arguments)
    else:
        native_module().philox_integers_cpu(*arguments)
    return words


for _device in ("CPU", "CUDA"):
    implement("philox_normal", _normal, _device)
    implement("philox_normal_at", _normal_at, _device)
    implement("philox_integers", _integers, _device)


def _fake_philox_normal(
    keys: Tensor,
    replicas: Tensor,  # noqa: ARG001, the schema's argument
    counts: Tensor,  # noqa: ARG001
    rollout_step: int,  # noqa: ARG001
    stream_evaluation: int,  # noqa: ARG001
    n_total: int,
) -> Tensor:
    return keys.new_empty((n_total,), dtype=torch.float32)


implement_fake("philox_normal", _fake_philox_normal)


def _fake_philox_normal_at(
    keys: Tensor,
    replicas: Tensor,  # noqa: ARG001
    counts: Tensor,  # noqa: ARG001
    rows: Tensor,  # noqa: ARG001
    rollout_step: Tensor,  # noqa: ARG001
    stream_evaluation: int,  # noqa: ARG001
    n_total: int,
) -> Tensor:
    return keys.new_empty((n_total,), dtype=torch.float32)


implement_fake("philox_normal_at", _fake_philox_normal_at)


def _fake_philox_integers(counters: Tensor, keys: Tensor) -> Tensor:  # noqa: ARG001, the schema's argument
    return torch.empty_like(counters, memory_format=torch.contiguous_format)


implement_fake("philox_integers", _fake_philox_integers)
