"""Tensor operations with compiled kernels; importing this registers ``torch.ops.tito_fast``."""

from tito_fast.ops.center import center
from tito_fast.ops.edge_embed import edge_embed
from tito_fast.ops.edge_geometry import EdgeGeometry, edge_geometry
from tito_fast.ops.mlp import mlp
from tito_fast.ops.mlp_parameters import MlpParameters
from tito_fast.ops.ode_step import EmbeddedStep, embedded_ode_step, noisy_ode_step, ode_step
from tito_fast.ops.ot_couple import ot_couple
from tito_fast.ops.painn_message import (
    MessageGraph,
    MessageResult,
    complete_graph,
    message_graph,
    painn_message,
)
from tito_fast.ops.painn_update import UpdatedFeatures, painn_update
from tito_fast.ops.philox_normal import (
    philox_integers,
    philox_normal,
    philox_normal_at,
    philox_rows,
)
from tito_fast.ops.radius_graph import RadiusGraph, radius_graph
from tito_fast.ops.readout_step import SteppedPositions, readout_step
from tito_fast.ops.resolve import OpRow, op_table
from tito_fast.ops.time_embed import time_embed

__all__ = [
    "EdgeGeometry",
    "EmbeddedStep",
    "MessageGraph",
    "MessageResult",
    "MlpParameters",
    "OpRow",
    "RadiusGraph",
    "SteppedPositions",
    "UpdatedFeatures",
    "center",
    "complete_graph",
    "edge_embed",
    "edge_geometry",
    "embedded_ode_step",
    "message_graph",
    "mlp",
    "noisy_ode_step",
    "ode_step",
    "op_table",
    "ot_couple",
    "painn_message",
    "painn_update",
    "philox_integers",
    "philox_normal",
    "philox_normal_at",
    "philox_rows",
    "radius_graph",
    "readout_step",
    "time_embed",
]
