"""Move each molecule's mean position to the origin."""

from tito_fast.ops.center.api import center

__all__ = ["center"]
