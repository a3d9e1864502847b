"""Converters from the formats in which others keep trajectories to the store."""
