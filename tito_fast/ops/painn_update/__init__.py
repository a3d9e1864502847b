"""The update of PaiNN: mix the features of each atom."""

from tito_fast.ops.painn_update.api import UpdatedFeatures, painn_update

__all__ = ["UpdatedFeatures", "painn_update"]
