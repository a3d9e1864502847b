"""The namespace ``torch.ops.tito_fast`` and what every registration needs."""

from collections.abc import Callable
from typing import Any

import torch

# A fragment, so that each op adds its own definitions; kept alive for the life of the process.
# Any, for torch gives its library no types.
_LIBRARY: Any = torch.library.Library("tito_fast", "FRAGMENT")  # type: ignore[no-untyped-call]


def define(schema: str) -> None:
    """Define ``torch.ops.tito_fast.<name>`` by its schema."""
    _LIBRARY.define(schema)


def implement(name: str, function: Callable[..., object], dispatch_key: str) -> None:
    """Register the implementation of an op for a dispatch key, as ``CPU`` or ``Autograd``."""
    _LIBRARY.impl(name, function, dispatch_key)


def implement_fake(name: str, function: Callable[..., object]) -> None:
    """Register the shape and dtype function of an op."""
    torch.library.register_fake(f"tito_fast::{name}", function, lib=_LIBRARY)


def dtype_suffix(dtype: torch.dtype) -> str:
    """Return the suffix that names a kernel's dtype, as in ``float32``."""
    return str(dtype).removeprefix("torch.")
