"""Standard normals from a counter, the same whatever else is drawn."""

from tito_fast.ops.philox_normal.api import philox_integers, philox_normal

__all__ = ["philox_integers", "philox_normal"]
