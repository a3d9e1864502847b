"""Tensor operations with compiled kernels; importing this registers ``torch.ops.tito_fast``."""

from tito_fast.ops.center import center
from tito_fast.ops.edge_embed import edge_embed
from tito_fast.ops.ode_step import ode_step
from tito_fast.ops.ot_couple import ot_couple
from tito_fast.ops.painn_message import (
    MessageGraph,
    MessageResult,
    message_graph,
    painn_message,
)
from tito_fast.ops.philox_normal import philox_integers, philox_normal
from tito_fast.ops.resolve import OpRow, op_table

__all__ = [
    "MessageGraph",
    "MessageResult",
    "OpRow",
    "center",
    "edge_embed",
    "message_graph",
    "ode_step",
    "op_table",
    "ot_couple",
    "painn_message",
    "philox_integers",
    "philox_normal",
]
