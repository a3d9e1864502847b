"""Flows: how base samples and data are joined, and what the network learns from it."""

from tito_fast.flows.flow_matching import flow_matching_loss, interpolate

__all__ = ["flow_matching_loss", "interpolate"]
