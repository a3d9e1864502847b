"""Standard normals from a counter, the same whatever else is drawn."""

from tito_fast.ops.philox_normal.api import (
    philox_integers,
    philox_normal,
    philox_normal_at,
    philox_rows,
)

__all__ = ["philox_integers", "philox_normal", "philox_normal_at", "philox_rows"]
