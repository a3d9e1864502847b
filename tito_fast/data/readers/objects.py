"""Molecules from objects of MDTraj and RDKit."""

import mdtraj as md
import numpy as np
from rdkit import Chem, rdBase

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers.finish import finish
from tito_fast.data.readers.options import ReadOptions
from tito_fast.data.readers.pdb import from_raw_structure
from tito_fast.data.readers.raw_structure import RawStructure

_ORDER_OF_TYPE = {"Single": 1.0, "Double": 2.0, "Triple": 3.0, "Aromatic": 1.5, "Amide": 1.0}


def from_rdkit(mol: Chem.Mol, *, options: ReadOptions | None = None) -> Molecule:
    """Return the molecule of an RDKit ``mol``, which stays as it is.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With all hydrogens as atoms. Its first conformer is the start structure; without one, or
        with a flat one, ETKDGv3 builds it.
    options : ReadOptions, optional
        ``smiles_template`` is refused: the molecule has bond orders.

    Returns
    -------
    Molecule
        Atoms in the order of ``mol``, names from its residue information where there is one.

    Raises
    ------
    TypeError
        If ``mol`` is not an RDKit molecule.
    ValueError
        If it is not one closed-shell molecule with hydrogens.
    """
    options = options or ReadOptions()
    if not isinstance(mol, Chem.Mol):
        raise TypeError(f"mol: expected an rdkit.Chem.Mol, got {type(mol).__name__}")
    options.refuse_template("an RDKit molecule")
    copy = Chem.Mol(mol)
    title = copy.GetProp("_Name").strip() if copy.HasProp("_Name") else ""
    try:
        with rdBase.BlockLogs():
            Chem.SanitizeMol(copy)
            name = title or Chem.MolToSmiles(Chem.RemoveHs(copy)) or "molecule"
    except ValueError as error:
        raise ValueError(
            f"mol: expected a chemically valid molecule, got: {str(error).strip()}"
        ) from error
    return finish(copy, name=name, source="mol", options=options)


def from_mdtraj(
    trajectory: md.Trajectory | md.Topology,
    *,
    frame: int = 0,
    options: ReadOptions | None = None,
) -> Molecule:
    """Return the molecule of an MDTraj trajectory at ``frame``, or of a topology alone.

    Parameters
    ----------
    trajectory : md.Trajectory or md.Topology
        A topology alone must have its bonds; ETKDGv3 builds the start structure.
    frame : int
        Frame of the start structure; negative counts from the end.
    options : ReadOptions, optional

    Returns
    -------
    Molecule
        Bond orders are those of the topology where it states all of them; otherwise they are
        found as in ``from_pdb``.

    Raises
    ------
    TypeError
        If ``trajectory`` is neither.
    ValueError
        If there is no such frame, or the molecule is one that ``from_pdb`` refuses.
    """
    options = options or ReadOptions()
    positions = None
    if isinstance(trajectory, md.Trajectory):
        topology = trajectory.topology
        if not -trajectory.n_frames <= frame < trajectory.n_frames:
            raise ValueError(f"frame: expected 0 to {trajectory.n_frames - 1}, got {frame}")
        positions = np.asarray(trajectory.xyz[frame], dtype=np.float64)
    elif isinstance(trajectory, md.Topology):
        topology = trajectory
    else:
        raise TypeError(
            "trajectory: expected an mdtraj Trajectory or Topology, got "
            f"{type(trajectory).__name__}"
        )
    raw = _raw_structure(topology, positions)
    name = "-".join(dict.fromkeys(raw.residue_names)) if raw.n_atoms else "molecule"
    return from_raw_structure(raw, name=name, source="trajectory", options=options)


def _raw_structure(topology: md.Topology, positions: np.ndarray | None) -> RawStructure:
    atoms = list(topology.atoms)
    if not atoms:
        raise ValueError("trajectory: expected at least one atom, got none")
    for atom in atoms:
        if atom.element is None or atom.element.atomic_number == 0:
            raise ValueError(
                f"trajectory: expected an element for each atom, got none for atom "
                f"{atom.index + 1} ({atom.name})"
            )
    orders: dict[tuple[int, int], float | None] = {}
    for bond in topology.bonds:
        pair = min(bond[0].index, bond[1].index), max(bond[0].index, bond[1].index)
        order = _ORDER_OF_TYPE.get(str(bond.type)) or (float(bond.order) if bond.order else None)
        # A bond may be listed twice; the entry that states an order counts.
        orders[pair] = order if order is not None else orders.get(pair)
    pairs = tuple(sorted(orders))
    stated = [orders[pair] for pair in pairs]
    charges = [getattr(atom, "formal_charge", None) for atom in atoms]
    return RawStructure(
        elements=tuple(atom.element.atomic_number for atom in atoms),
        atom_names=tuple(atom.name for atom in atoms),
        residue_names=tuple(atom.residue.name for atom in atoms),
        residue_numbers=tuple(atom.residue.resSeq for atom in atoms),
        chain_ids=tuple(
            str(atom.residue.chain.chain_id or chr(65 + atom.residue.chain.index % 26))
            for atom in atoms
        ),
        positions=positions,
        bonds=pairs,
        bond_orders=tuple(order for order in stated if order is not None)
        if stated and None not in stated
        else None,
        charges=tuple(charge or 0 for charge in charges)
        if any(charge is not None for charge in charges)
        else None,
    )
