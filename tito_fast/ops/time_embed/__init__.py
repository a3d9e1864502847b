"""Scalars of the velocity network from the condition's scalars and the encoded times."""

from tito_fast.ops.time_embed.api import time_embed

__all__ = ["time_embed"]
