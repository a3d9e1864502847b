"""C++ kernels of ``philox_normal`` as ``torch.ops.tito_fast.philox_normal`` and ``_integers``."""

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.library import define, implement, implement_fake

define(
    "philox_normal(Tensor keys, Tensor replicas, Tensor counts, int rollout_step, "
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
    keys, replicas, counts = keys.contiguous(), replicas.contiguous(), counts.contiguous()
    normals = torch.empty(n_total, dtype=torch.float32)
    native_module().philox_normal_fwd_cpu(
        keys.data_ptr(),
        replicas.data_ptr(),
        counts.data_ptr(),
        normals.data_ptr(),
        keys.shape[0],
        n_total,
        rollout_step,
        stream_evaluation,
        torch.get_num_threads(),
    )
    return normals


def _integers(counters: Tensor, keys: Tensor) -> Tensor:
    counters, keys = counters.contiguous(), keys.contiguous()
    words = torch.empty_like(counters)
    native_module().philox_integers_cpu(
        counters.data_ptr(), keys.data_ptr(), words.data_ptr(), counters.shape[0]
    )
    return words


implement("philox_normal", _normal, "CPU")
implement("philox_integers", _integers, "CPU")


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


def _fake_philox_integers(counters: Tensor, keys: Tensor) -> Tensor:  # noqa: ARG001, the schema's argument
    return torch.empty_like(counters, memory_format=torch.contiguous_format)


implement_fake("philox_integers", _fake_philox_integers)
