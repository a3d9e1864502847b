"""Units at the border: nm, ps and K. Parses and prints times; knows the published length scales."""

import math
import re
from typing import Final

TIME_UNITS_PS: Final = {"fs": 1e-3, "ps": 1.0, "ns": 1e3, "us": 1e6, "µs": 1e6, "ms": 1e9}
"""Picoseconds in one of each time unit."""

# nm per model unit of the released data sets: systems §1.1, read in the released code.
LENGTH_UNITS_NM: Final = {"mdqm9": 0.20754094, "timewarp": 0.277}
"""Nanometres in one model unit, by the name of the data set that fixed it."""

_TIME = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[+-]?\.\d+(?:[eE][+-]?\d+)?)\s*([a-zµ]+)")


def parse_time(text: str, *, name: str = "lag") -> float:
    """Return the time that ``text`` states, in ps.

    Parameters
    ----------
    text : str
        A positive number with a unit, such as ``100ps`` or ``1.5 ns``. Units: fs, ps, ns, us, ms.
    name : str
        The argument's name in the error message.

    Returns
    -------
    float
        The time in ps.

    Raises
    ------
    ValueError
        If there is no unit, an unknown unit, or the time is not finite and positive.

    Examples
    --------
    >>> parse_time("1.5ns")
    1500.0
    """
    match = _TIME.fullmatch(text.strip())
    if match is None or match.group(2) not in TIME_UNITS_PS:
        units = ", ".join(unit for unit in TIME_UNITS_PS if unit.isascii())
        msg = (
            f"{name}: expected a time with a unit ({units}), got {text!r}; write for example 100ps"
        )
        raise ValueError(msg)
    value = float(match.group(1)) * TIME_UNITS_PS[match.group(2)]
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a time above zero, got {text!r}")
    return value


def format_time(time_ps: float) -> str:
    """Return ``time_ps`` with the largest unit that keeps the number at one or above.

    Examples
    --------
    >>> format_time(2500.0)
    '2.5 ns'
    """
    for unit in ("ms", "us", "ns", "ps"):
        if abs(time_ps) >= TIME_UNITS_PS[unit]:
            return f"{time_ps / TIME_UNITS_PS[unit]:g} {unit}"
    return f"{time_ps / TIME_UNITS_PS['fs']:g} fs"
