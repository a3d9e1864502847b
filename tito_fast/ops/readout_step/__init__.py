"""The end of a velocity network and the Euler step behind it."""

from tito_fast.ops.readout_step.api import SteppedPositions, readout_step

__all__ = ["SteppedPositions", "readout_step"]
