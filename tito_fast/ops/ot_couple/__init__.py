"""Optimal-transport coupling of base samples to data."""

from tito_fast.ops.ot_couple.api import ot_couple

__all__ = ["ot_couple"]
