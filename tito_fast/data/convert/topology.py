"""Molecules for the converters: SDF and RDKit molecules, and the atoms of an mdtraj topology."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tito_fast.data.molecule import FloatArray, IntArray, Molecule

if TYPE_CHECKING:
    import mdtraj


def rdkit_molecule(
    mol: Any,  # noqa: ANN401  RDKit has no types
    *,
    name: str,
    positions: FloatArray | None = None,
) -> Molecule:
    """Return the molecule of an RDKit ``mol``, atoms in its order.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
    name : str
    positions : ndarray, shape (n_atoms, 3), optional
        Start structure, in nm, in place of the conformer of ``mol``; stereo follows from it.

    Raises
    ------
    ValueError
        If :func:`tito_fast.data.readers.from_rdkit` refuses it; the message starts with ``name``.
    """
    from rdkit import Chem  # noqa: PLC0415  slow to import

    from tito_fast.data.readers import ReadOptions, from_rdkit  # noqa: PLC0415  imports RDKit

    if positions is not None:
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.Set3D(True)
        conformer.SetPositions(np.ascontiguousarray(10.0 * positions, dtype=np.float64))
        mol = Chem.Mol(mol)
        mol.RemoveAllConformers()
        mol.AddConformer(conformer)
    try:
        return from_rdkit(mol, options=ReadOptions(name=name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def with_pdb_labels(molecule: Molecule, trajectory: "mdtraj.Trajectory") -> Molecule:
    """Return ``molecule`` with the atom labels of an mdtraj ``trajectory`` and its first frame.

    Raises
    ------
    ValueError
        If the elements differ in number or order.
    """
    check_same_elements(molecule, elements_of(trajectory), other=f"the topology of {molecule.name}")
    atoms = list(trajectory.topology.atoms)
    return replace(
        molecule,
        positions=np.asarray(trajectory.xyz[0], dtype=np.float64),
        atom_names=tuple(atom.name for atom in atoms),
        residue_names=tuple(atom.residue.name for atom in atoms),
        residue_numbers=tuple(atom.residue.resSeq for atom in atoms),
        chain_ids=tuple(atom.residue.chain.chain_id or "A" for atom in atoms),
    )


def elements_of(trajectory: "mdtraj.Trajectory") -> IntArray:
    """Return the atomic numbers of an mdtraj ``trajectory``, (n_atoms,), int64.

    Raises
    ------
    ValueError
        If an atom has no element, as virtual sites.
    """
    atoms = list(trajectory.topology.atoms)
    numbers = np.array([0 if a.element is None else a.element.atomic_number for a in atoms])
    if not (numbers > 0).all():
        bad = int(np.argmin(numbers))
        raise ValueError(f"topology: expected an element for every atom, got none for atom {bad}")
    return numbers.astype(np.int64)


def check_same_elements(molecule: Molecule, numbers: IntArray, *, other: str) -> None:
    """Raise ``ValueError`` unless ``numbers`` are the atomic numbers of ``molecule``, in order."""
    have = molecule.atomic_numbers
    if have.shape != numbers.shape:
        raise ValueError(
            f"atoms: expected {have.shape[0]} as in the bonds, got {numbers.shape[0]} in {other}"
        )
    if (have != numbers).any():
        first = int(np.argmax(have != numbers))
        raise ValueError(
            f"atoms: expected the order of the bonds, got element {numbers[first]} in place of "
            f"{have[first]} at atom {first} in {other}"
        )
