"""A molecule's topology for other programs: an MDTraj topology and a PDB file with all bonds."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase, digits

import mdtraj as md
import numpy as np

from tito_fast.data.molecule import FloatArray, IntArray, Molecule

# Names by which MDTraj and others know polymer residues: ATOM records, all others HETATM.
_AMINO_ACIDS = frozenset(
    {
        *("ALA", "ARG", "ASN", "ASP", "CYS", "GLU", "GLN", "GLY", "HIS", "ILE", "LEU", "LYS"),
        *("MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL"),
        *("ASH", "CYM", "CYX", "GLH", "HID", "HIE", "HIP", "LYN"),
    }
)
_MAX_ATOMS = 99_999  # five columns of a serial number
_CONECT_PARTNERS = 4  # columns 12-31 hold four


def to_mdtraj_topology(molecule: Molecule) -> md.Topology:
    """Return the MDTraj topology of ``molecule`` with typed bonds and formal charges.

    Parameters
    ----------
    molecule : Molecule

    Returns
    -------
    md.Topology
        Atoms in the molecule's order; each bond once, with type and order (an aromatic bond has
        a type and no order).
    """
    bond_types = {
        1: (md.core.topology.Single, 1),
        2: (md.core.topology.Double, 2),
        3: (md.core.topology.Triple, 3),
        12: (md.core.topology.Aromatic, None),
    }
    topology = md.Topology()
    charges = molecule.formal_charges or (0,) * molecule.n_atoms
    names = _names(molecule)
    chain = residue = None
    for i, number in enumerate(molecule.atomic_numbers.tolist()):
        is_new_chain = i == 0 or molecule.chain_ids[i] != molecule.chain_ids[i - 1]
        if is_new_chain:
            chain = topology.add_chain(chain_id=molecule.chain_ids[i])
        if is_new_chain or _residue(molecule, i) != _residue(molecule, i - 1):
            residue = topology.add_residue(
                molecule.residue_names[i], chain, resSeq=molecule.residue_numbers[i]
            )
        topology.add_atom(
            names[i],
            md.element.Element.getByAtomicNumber(number),
            residue,
            serial=i + 1,
            formal_charge=charges[i],
        )
    atoms = list(topology.atoms)
    for (i, j), code in zip(molecule.bond_index.T.tolist(), molecule.bond_type, strict=True):
        if i < j:
            if int(code) not in bond_types:
                raise ValueError(
                    f"bond_type: expected one of {', '.join(map(str, bond_types))}, got {code}"
                )
            kind, order = bond_types[int(code)]
            topology.add_bond(atoms[i], atoms[j], type=kind, order=order)
    return topology


def write_pdb(
    molecule: Molecule, path: str | os.PathLike[str], *, positions: FloatArray | None = None
) -> None:
    """Write ``molecule`` as a PDB file with a CONECT record for every bond.

    The file appears whole or not at all. Bond orders have no place in a PDB file.

    Parameters
    ----------
    molecule : Molecule
    path : path
    positions : ndarray, shape (n_atoms, 3), optional
        In nm; by default those of the molecule. The file holds them to 5e-5 nm.

    Raises
    ------
    ValueError
        If positions have another shape, are not finite, or something does not fit its columns:
        more than 99999 atoms, residue numbers outside -999 to 9999, coordinates of 999 nm.
    """
    chosen = molecule.positions if positions is None else np.asarray(positions, dtype=np.float64)
    if chosen.shape != (molecule.n_atoms, 3):
        raise ValueError(f"positions: expected shape ({molecule.n_atoms}, 3), got {chosen.shape}")
    _check_columns(molecule, chosen)
    _replace_file(Path(path), "\n".join(_pdb_lines(molecule, chosen)) + "\n")


def unique_atom_names(
    names: Sequence[str], *, atomic_numbers: IntArray, residues: Sequence[object]
) -> tuple[str, ...]:
    """Return names of one to four characters that are unique within each residue.

    A residue whose names already are keeps them; in any other all atoms are named by element and
    count (``C1``, ``H12``).

    Parameters
    ----------
    names : sequence of str, one per atom
    atomic_numbers : ndarray, shape (n_atoms,), int64
    residues : sequence, one label per atom

    Raises
    ------
    ValueError
        If a residue has more atoms of one element than names of four characters.
    """
    members: dict[object, list[int]] = {}
    for i, label in enumerate(residues):
        members.setdefault(label, []).append(i)
    result = list(names)
    for indices in members.values():
        own = [names[i] for i in indices]
        if len(set(own)) == len(own) and all(_is_pdb_name(name) for name in own):
            continue
        counts: dict[str, int] = {}
        for i in indices:
            symbol = md.element.Element.getByAtomicNumber(int(atomic_numbers[i])).symbol.upper()
            counts[symbol] = counts.get(symbol, 0) + 1
            result[i] = _numbered_name(symbol, counts[symbol])
    return tuple(result)


def _is_pdb_name(name: str) -> bool:
    return 1 <= len(name) <= 4 and name.isascii() and name.isprintable() and " " not in name


def _numbered_name(symbol: str, count: int) -> str:
    """Return symbol and count in four characters; past the digits, a letter and base 36."""
    width = 4 - len(symbol)
    if count < 10**width:
        return f"{symbol}{count}"
    rest = count - 10**width
    base = digits + ascii_uppercase
    tail = ""
    for _ in range(width - 1):
        rest, digit = divmod(rest, len(base))
        tail = base[digit] + tail
    if rest >= len(ascii_uppercase):
        raise ValueError(
            f"atom_names: expected atoms of a residue to fit names of four characters, got {count} "
            f"of element {symbol}; split the residue"
        )
    return symbol + ascii_uppercase[rest] + tail


def _residue(molecule: Molecule, i: int) -> tuple[str, int, str]:
    return molecule.chain_ids[i], molecule.residue_numbers[i], molecule.residue_names[i]


def _names(molecule: Molecule) -> tuple[str, ...]:
    return unique_atom_names(
        molecule.atom_names,
        atomic_numbers=molecule.atomic_numbers,
        residues=[_residue(molecule, i) for i in range(molecule.n_atoms)],
    )


def _check_columns(molecule: Molecule, positions: FloatArray) -> None:
    if molecule.n_atoms > _MAX_ATOMS:
        raise ValueError(
            f"molecule: expected at most {_MAX_ATOMS} atoms in a PDB file, got {molecule.n_atoms}"
        )
    if not np.isfinite(positions).all():
        raise ValueError("positions: expected finite coordinates, got NaN or infinity")
    # Eight columns with three decimals, in ångström.
    if positions.size and (positions.max() > 999.9 or positions.min() < -99.9):
        raise ValueError(
            "positions: expected -99.9 to 999.9 nm in a PDB file, got "
            f"{positions.min():g} to {positions.max():g}; center them"
        )
    for number in molecule.residue_numbers:
        if not -999 <= number <= 9999:
            raise ValueError(f"residue_numbers: expected -999 to 9999 in a PDB file, got {number}")
    for name in molecule.residue_names:
        if not 1 <= len(name) <= 3:
            raise ValueError(
                f"residue_names: expected one to three characters in a PDB file, got {name!r}"
            )
    for chain in molecule.chain_ids:
        if len(chain) != 1:
            raise ValueError(f"chain_ids: expected one character in a PDB file, got {chain!r}")


def _pdb_lines(molecule: Molecule, positions: FloatArray) -> list[str]:
    names = _names(molecule)
    charges = molecule.formal_charges or (0,) * molecule.n_atoms
    lines = ["REMARK   1 WRITTEN BY TITO_FAST"]
    for i, number in enumerate(molecule.atomic_numbers.tolist()):
        symbol = md.element.Element.getByAtomicNumber(number).symbol.upper()
        chain, residue_number, residue_name = _residue(molecule, i)
        if i and chain != molecule.chain_ids[i - 1]:
            lines.append("TER")
        record = "ATOM  " if residue_name in _AMINO_ACIDS else "HETATM"
        # Symbols of one letter start in column 14 unless the name needs all four columns.
        name = names[i] if len(symbol) == 2 or len(names[i]) == 4 else " " + names[i]
        x, y, z = (10.0 * positions[i]).tolist()
        charge = f"{abs(charges[i])}{'+' if charges[i] > 0 else '-'}" if charges[i] else "  "
        lines.append(
            f"{record}{i + 1:5d} {name:<4s} {residue_name:>3s} {chain}{residue_number:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}{1.0:6.2f}{0.0:6.2f}          {symbol:>2s}{charge}"
        )
    lines.append("TER")
    partners: list[list[int]] = [[] for _ in range(molecule.n_atoms)]
    for i, j in molecule.bond_index.T.tolist():
        partners[i].append(j)
    for i, others in enumerate(partners):
        ordered = sorted(set(others))
        for start in range(0, len(ordered), _CONECT_PARTNERS):
            row = ordered[start : start + _CONECT_PARTNERS]
            lines.append(f"CONECT{i + 1:5d}" + "".join(f"{j + 1:5d}" for j in row))
    lines.append("END")
    return lines


def _replace_file(path: Path, text: str) -> None:
    """Write ``text`` beside ``path``, then rename it, so that readers never see half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(temporary)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; give what open() would.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
