"""Pairs of atoms closer than a cutoff, batched, with or without a periodic box."""

from tito_fast.ops.radius_graph.api import RadiusGraph, radius_graph

__all__ = ["RadiusGraph", "radius_graph"]
