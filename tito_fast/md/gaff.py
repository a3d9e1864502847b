"""GAFF2 with AM1-BCC charges, by the programs of AmberTools."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tito_fast.data.molecule import Molecule
from tito_fast.data.stereo import mol_with_stereo
from tito_fast.md.openmm_import import import_openmm

if TYPE_CHECKING:
    from openmm.app import AmberPrmtopFile

PROGRAMS: Final = ("antechamber", "parmchk2", "tleap")
ELEMENTS: Final = {
    1: "H",
    6: "C",
    7: "N",
    8: "O",
    9: "F",
    15: "P",
    16: "S",
    17: "Cl",
    35: "Br",
    53: "I",
}
"""Atomic numbers and symbols of the elements that GAFF2 has parameters of."""

_RESIDUE: Final = "MOL"
_N_LAST_LINES: Final = 5
# sqm takes minutes for molecules of a hundred atoms; beyond this it hangs.
_TIMEOUT_S: Final = 3600
_LEAP_INPUT: Final = """source leaprc.gaff2
loadamberparams molecule.frcmod
molecule = loadmol2 molecule.mol2
saveamberparm molecule molecule.prmtop molecule.inpcrd
quit
"""


def missing_programs() -> list[str]:
    """Return the programs of AmberTools that are not found."""
    return [name for name in PROGRAMS if _program(name) is None]


def gaff_prmtop(molecule: Molecule) -> "AmberPrmtopFile":
    """Return GAFF2 parameters of ``molecule`` with AM1-BCC charges, atoms in its order.

    Parameters
    ----------
    molecule : Molecule
        Charges follow from its start structure, which sqm optimizes.

    Returns
    -------
    openmm.app.AmberPrmtopFile

    Raises
    ------
    ValueError
        If GAFF2 does not know an element.
    RuntimeError
        If AmberTools is missing, or one of its programs fails: the message has its last lines.

    Notes
    -----
    The programs run in a temporary folder, on one thread; about a second for ten heavy atoms, and time
    rises with the third power of the size.
    """
    unknown = sorted(set(molecule.atomic_numbers.tolist()) - set(ELEMENTS))
    if unknown:
        raise ValueError(
            f"preset: expected a molecule of {', '.join(ELEMENTS.values())} for gaff2, got "
            f"{molecule.name!r} with atomic number {unknown[0]}"
        )
    missing = missing_programs()
    if missing:
        raise RuntimeError(
            f"gaff: expected the programs of AmberTools, got no {' and no '.join(missing)} beside "
            "Python or on PATH; install them with pip install 'tito_fast[gaff]'"
        )
    app = import_openmm().app
    charge = sum(molecule.formal_charges) if molecule.formal_charges else 0
    with tempfile.TemporaryDirectory(prefix="tito_fast_gaff_") as name:
        folder = Path(name)
        (folder / "molecule.sdf").write_text(_mol_block(molecule), "utf-8")
        (folder / "leap.in").write_text(_LEAP_INPUT, "utf-8")
        antechamber = [*("-i", "molecule.sdf", "-fi", "mdl", "-o", "molecule.mol2", "-fo", "mol2")]
        antechamber += ["-c", "bcc", "-nc", str(charge), "-at", "gaff2", "-rn", _RESIDUE]
        _run(folder, "antechamber", antechamber, makes="molecule.mol2", molecule=molecule)
        parmchk2 = ["-i", "molecule.mol2", "-f", "mol2", "-s", "gaff2", "-o", "molecule.frcmod"]
        _run(folder, "parmchk2", parmchk2, makes="molecule.frcmod", molecule=molecule)
        _run(folder, "tleap", ["-f", "leap.in"], makes="molecule.prmtop", molecule=molecule)
        prmtop = app.AmberPrmtopFile(str(folder / "molecule.prmtop"))
    numbers = np.array([atom.element.atomic_number for atom in prmtop.topology.atoms()])
    if not np.array_equal(numbers, molecule.atomic_numbers):
        raise RuntimeError(
            f"gaff: expected the atoms of {molecule.name!r} in their order, got another order from tleap"
        )
    return prmtop


def _run(
    folder: Path, program: str, arguments: list[str], *, makes: str, molecule: Molecule
) -> None:
    """Run a program in ``folder``; raise ``RuntimeError`` with its last lines unless it makes its file."""
    path = _program(program)
    if path is None:  # pragma: no cover - looked for before
        raise RuntimeError(f"gaff: expected the program {program}, got none")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603  the program that was looked for, no shell
            [path, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(
            f"gaff: expected {program} to end within {_TIMEOUT_S} s for {molecule.name!r}, got no end; "
            "the molecule is too large for AM1-BCC"
        ) from None
    if done.returncode == 0 and (folder / makes).is_file():
        return
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if program == "antechamber" and (folder / "sqm.out").is_file():
        output = (folder / "sqm.out").read_text("utf-8", errors="replace")
        lines += [line.strip() for line in output.splitlines() if line.strip()][-_N_LAST_LINES:]
    said = " | ".join(lines[-_N_LAST_LINES:]) or "nothing"
    raise RuntimeError(
        f"gaff: expected parameters of {molecule.name!r} from {program}, got status "
        f"{done.returncode}; it said: {said}"
    )


def _program(name: str) -> str | None:
    """Return the path of a program on PATH, or beside the interpreter: an environment need not be active."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def _mol_block(molecule: Molecule) -> str:
    from rdkit import Chem  # noqa: PLC0415  slow to import

    mol = mol_with_stereo(molecule)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return str(Chem.MolToMolBlock(mol)) + "$$$$\n"
