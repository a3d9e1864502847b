"""Tensor operations with compiled kernels; importing this registers ``torch.ops.tito_fast``."""

from tito_fast.ops.center import center
from tito_fast.ops.ode_step import ode_step
from tito_fast.ops.ot_couple import ot_couple
from tito_fast.ops.philox_normal import philox_integers, philox_normal
from tito_fast.ops.radius_graph import RadiusGraph, radius_graph
from tito_fast.ops.resolve import OpRow, op_table

__all__ = [
    "OpRow",
    "RadiusGraph",
    "center",
    "ode_step",
    "op_table",
    "ot_couple",
    "philox_integers",
    "philox_normal",
    "radius_graph",
]
