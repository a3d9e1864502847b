"""Atomic numbers by symbol."""

from functools import cache

from rdkit import Chem


def atomic_number_of(symbol: str) -> int | None:
    """Return the atomic number of ``symbol`` (any case; D is hydrogen), or None if unknown.

    Examples
    --------
    >>> atomic_number_of("CL")
    17
    """
    return _numbers().get(symbol.capitalize())


@cache
def _numbers() -> dict[str, int]:
    table = Chem.GetPeriodicTable()
    return {"D": 1} | {str(table.GetElementSymbol(number)): number for number in range(1, 119)}
