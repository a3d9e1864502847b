"""3D coordinates by RDKit: ETKDGv3 with a seed, then a force-field relaxation."""

from collections.abc import Sequence
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

_MAX_RELAXATION_STEPS = 5000
# Water's: keeps opposite charges of a zwitterion from folding onto each other in vacuum.
_DIELECTRIC_OF_CHARGED = 78.5


def embed(mol: Chem.Mol, *, seed: int, source: str) -> tuple[Chem.Mol, tuple[str, ...]]:
    """Return ``mol`` (all hydrogens explicit) with one conformer, and what was decided.

    Deterministic for one RDKit version: the same atoms, bonds and seed give the same coordinates.
    Stereo elements that ``mol`` leaves open come out as one isomer, which the notes name.

    Raises
    ------
    ValueError
        If RDKit finds no 3D structure, or one of another stereoisomer.
    """
    wanted = Chem.Mol(mol)
    wanted.RemoveAllConformers()
    embedded = Chem.Mol(wanted)
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    with rdBase.BlockLogs():
        failed = rdDistGeom.EmbedMolecule(embedded, parameters) < 0
        if failed:
            parameters.useRandomCoords = True
            failed = rdDistGeom.EmbedMolecule(embedded, parameters) < 0
        if failed:
            raise ValueError(
                f"{source}: expected a molecule that RDKit can build in 3D, got "
                f"{Chem.MolToSmiles(Chem.RemoveHs(wanted))}; give a file with coordinates"
            )
        relaxation = relax(embedded, fixed=())
        Chem.AssignStereochemistryFrom3D(embedded)
        isomer = Chem.MolToSmiles(Chem.RemoveHs(embedded))
        if not embedded.HasSubstructMatch(wanted, useChirality=True):
            raise ValueError(
                f"{source}: expected the stereoisomer {Chem.MolToSmiles(Chem.RemoveHs(wanted))}, "
                f"but RDKit built {isomer}; give a file with coordinates"
            )
    notes: tuple[str, ...] = (f"start structure from ETKDGv3 (seed {seed}), {relaxation}",)
    n_open = n_open_stereo(wanted)
    if n_open:
        notes += (f"stereo left open at {n_open} place(s); isomer taken: {isomer}",)
    return embedded, notes


def n_open_stereo(mol: Chem.Mol) -> int:
    """Return the number of tetrahedral centers and double bonds without stereo marks."""
    with rdBase.BlockLogs():
        found = Chem.FindPotentialStereo(Chem.Mol(mol))
    return sum(item.specified != Chem.StereoSpecified.Specified for item in found)


def relax(mol: Chem.Mol, *, fixed: Sequence[int]) -> str:
    """Relax the conformer of ``mol`` in place with MMFF94, else UFF; return what was done.

    Atoms in ``fixed`` stay where they are.
    """
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        is_charged = any(atom.GetFormalCharge() for atom in mol.GetAtoms())
        if is_charged:
            properties.SetMMFFDielectricConstant(_DIELECTRIC_OF_CHARGED)
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
        name = "MMFF94 in water's dielectric" if is_charged else "MMFF94"
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        field = rdForceFieldHelpers.UFFGetMoleculeForceField(mol)
        name = "UFF"
    else:
        return "not relaxed: no force field has all its elements"
    field.Initialize()
    for index in fixed:
        field.AddFixedPoint(index)
    if field.Minimize(maxIts=_MAX_RELAXATION_STEPS):
        return f"relaxed with {name} (stopped after {_MAX_RELAXATION_STEPS} steps)"
    return f"relaxed with {name}"
