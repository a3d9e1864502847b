"""The network's one kind of MLP."""

from tito_fast.ops.mlp.api import mlp

__all__ = ["mlp"]
