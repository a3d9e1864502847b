"""The columns of a PDB file: ATOM, HETATM and CONECT records become a ``RawStructure``."""

import math
import re
from collections.abc import Iterable

import numpy as np

from tito_fast.data.readers.elements import atomic_number_of
from tito_fast.data.readers.raw_structure import RawStructure
from tito_fast.data.readers.residues import is_standard_residue

_CHARGE = re.compile(r"([+-]?)(\d)([+-]?)")


def parse_pdb(text: str, *, source: str) -> RawStructure:
    """Return the atoms and CONECT bonds of the first model in ``text``.

    Of alternate locations the first of each atom is kept; both choices are noted.

    Parameters
    ----------
    text : str
        A PDB file.
    source : str
        What to call it in error messages.

    Raises
    ------
    ValueError
        If a record is truncated or garbled, an element is unknown, a coordinate is not finite,
        there are no atoms, or a CONECT record names an atom that is not there.
    """
    lines = text.splitlines()
    model, notes = _first_model(lines)
    atom_lines = [(number, line) for number, line in model if line.startswith(("ATOM  ", "HETATM"))]
    if not atom_lines:
        raise ValueError(
            f"{source}: expected a PDB file with ATOM or HETATM records, got none{_looks_like(text)}"
        )
    atom_lines, alternates = _first_locations(atom_lines)
    if alternates:
        notes.append(f"alternate locations: the first was taken for {alternates} atoms")
    guessed: list[str] = []
    elements = tuple(_element(line, number, source, guessed) for number, line in atom_lines)
    if guessed:
        notes.append(f"elements of {len(guessed)} atoms taken from their names")
    charges = tuple(_charge(line) for _, line in atom_lines)
    return RawStructure(
        elements=elements,
        atom_names=tuple(line[12:16].strip() for _, line in atom_lines),
        residue_names=tuple(line[17:20].strip() or "UNL" for _, line in atom_lines),
        residue_numbers=tuple(
            _integer(line[22:26], "residue number in columns 23-26", number, source, default=1)
            for number, line in atom_lines
        ),
        chain_ids=tuple(line[21:22].strip() or "A" for _, line in atom_lines),
        positions=np.array([_position(line, number, source) for number, line in atom_lines]) / 10,
        bonds=_conect_bonds(lines, atom_lines, source),
        charges=charges if any(charges) else None,
        notes=tuple(notes),
    )


def _first_model(lines: list[str]) -> tuple[list[tuple[int, str]], list[str]]:
    """Return the numbered lines of the first model and a note where there are several."""
    starts = [i for i, line in enumerate(lines) if line.startswith("MODEL ")]
    numbered = list(enumerate(lines, start=1))
    if len(starts) < 2:
        return numbered, []
    note = f"the first of {len(starts)} models was taken"
    return numbered[starts[0] : starts[1]], [note]


def _first_locations(
    atom_lines: list[tuple[int, str]],
) -> tuple[list[tuple[int, str]], int]:
    """Drop second and later alternate locations; return the rest and how many were dropped."""
    kept: list[tuple[int, str]] = []
    seen: set[tuple[str, str]] = set()
    for number, line in atom_lines:
        if line[16:17].strip():
            key = (line[12:16], line[17:27])
            if key in seen:
                continue
            seen.add(key)
        kept.append((number, line))
    return kept, len(atom_lines) - len(kept)


def _looks_like(text: str) -> str:
    if "V2000" in text or "V3000" in text:
        return "; it looks like an SDF or MOL file: name it .sdf"
    return ""


def _integer(field: str, what: str, number: int, source: str, *, default: int) -> int:
    if not field.strip():
        return default
    try:
        return int(field)
    except ValueError:
        raise ValueError(
            f"{source}: expected a {what} of line {number}, got {field.strip()!r}"
        ) from None


def _position(line: str, number: int, source: str) -> tuple[float, float, float]:
    fields = line[30:38], line[38:46], line[46:54]
    try:
        x, y, z = (float(field) for field in fields)
    except ValueError:
        raise ValueError(
            f"{source}: expected three coordinates in columns 31-54 of line {number}, "
            f"got {line[30:54].strip()!r}; the file is truncated or garbled"
        ) from None
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        raise ValueError(
            f"{source}: expected finite coordinates in line {number}, got {line[30:54].strip()!r}"
        )
    return x, y, z


def _element(line: str, number: int, source: str, guessed: list[str]) -> int:
    """Return the atomic number from columns 77-78, else from the atom's name."""
    symbol = line[76:78].strip()
    name = line[12:16]
    if not symbol:
        guessed.append(name)
        symbol = _symbol_from_name(name, line[17:20].strip())
    atomic_number = atomic_number_of(symbol)
    if atomic_number is None:
        raise ValueError(
            f"{source}: expected an element in columns 77-78 of line {number}, got {symbol!r} "
            f"(atom {name.strip()!r})"
        )
    return atomic_number


def _symbol_from_name(name: str, residue_name: str) -> str:
    letters = "".join(letter for letter in name if letter.isalpha())
    # A symbol of one letter stands in column 14, so a name that starts in column 13 has a
    # symbol of two, except for names of four characters and in standard residues.
    two_letters = name[:1].isalpha() and len(name.strip()) < 4
    if two_letters and not is_standard_residue(residue_name) and atomic_number_of(letters[:2]):
        return letters[:2]
    return letters[:1]


def _charge(line: str) -> int:
    """Return the formal charge of columns 79-80 (``1+`` or ``+1``), 0 where there is none."""
    match = _CHARGE.fullmatch(line[78:80].strip())
    if match is None or bool(match.group(1)) == bool(match.group(3)):
        return 0
    return int((match.group(1) or match.group(3)) + match.group(2))


def _conect_bonds(
    lines: Iterable[str], atom_lines: list[tuple[int, str]], source: str
) -> tuple[tuple[int, int], ...]:
    records = [(i, line) for i, line in enumerate(lines, start=1) if line.startswith("CONECT")]
    if not records:
        return ()
    index_of: dict[str, int] = {}
    for index, (number, line) in enumerate(atom_lines):
        serial = line[6:11].strip()
        if serial in index_of:
            raise ValueError(
                f"{source}: expected one atom with each serial number that CONECT uses, "
                f"got {serial!r} again in line {number}"
            )
        index_of[serial] = index
    bonds: set[tuple[int, int]] = set()
    for number, line in records:
        serials = [line[start : start + 5].strip() for start in range(6, 31, 5)]
        indices = []
        for serial in filter(None, serials):
            if serial not in index_of:
                raise ValueError(
                    f"{source}: expected CONECT to name atoms of the file, got {serial!r} in line "
                    f"{number}; the file is truncated, or its CONECT records are stale: remove them"
                )
            indices.append(index_of[serial])
        if indices:
            first, *others = indices
            bonds.update((min(first, j), max(first, j)) for j in others if j != first)
    return tuple(sorted(bonds))
