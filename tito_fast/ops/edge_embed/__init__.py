"""Rows of a bond-type embedding, one per edge."""

from tito_fast.ops.edge_embed.api import edge_embed

__all__ = ["edge_embed"]
