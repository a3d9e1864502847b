"""The message along edges: two chained MLPs, gated, summed over sources."""

from tito_fast.ops.painn_message.api import MessageResult, painn_message
from tito_fast.ops.painn_message.graph import MessageGraph, complete_graph, message_graph

__all__ = ["MessageGraph", "MessageResult", "complete_graph", "message_graph", "painn_message"]
