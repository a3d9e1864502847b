"""Distances of pairs of atoms and saturated vectors along edges."""

from tito_fast.ops.edge_geometry.api import EdgeGeometry, edge_geometry

__all__ = ["EdgeGeometry", "edge_geometry"]
