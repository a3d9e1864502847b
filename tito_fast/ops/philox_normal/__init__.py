"""Standard normals from a counter, the same whatever else is drawn."""

from tito_fast.ops.philox_normal.api import (
    philox_integers,
    philox_normal,
    philox_normal_at,
)
from tito_fast.ops.philox_normal.checks import check_replicas, check_word
from tito_fast.ops.philox_normal.rows import philox_rows

__all__ = [
    "check_replicas",
    "check_word",
    "philox_integers",
    "philox_normal",
    "philox_normal_at",
    "philox_rows",
]
