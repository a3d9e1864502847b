"""Replay of recorded inputs and outputs of the released TITO network.

``python -m tito_fast.testing.golden FILE...`` runs what a file records through the public code path of a backend
and prints one line per quantity; see :mod:`tito_fast.testing.golden.replay` for the formats.
"""

from tito_fast.testing.golden.comparison import TOLERANCES, Line, Quantity
from tito_fast.testing.golden.replay import Replay, replay

__all__ = ["TOLERANCES", "Line", "Quantity", "Replay", "replay"]
