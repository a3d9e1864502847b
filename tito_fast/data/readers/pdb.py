"""Molecules from PDB files, and from any structure without bond orders."""

import os
from dataclasses import replace
from pathlib import Path

from rdkit import Chem, rdBase

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers.bond_orders import (
    apply_residue_double_bonds,
    copy_template_orders,
    mol_with_bond_orders,
    template_molecule,
)
from tito_fast.data.readers.connectivity import with_all_bonds
from tito_fast.data.readers.finish import check_parts, check_positions, finish
from tito_fast.data.readers.hydrogens import n_missing_hydrogens, protonate_at_ph7
from tito_fast.data.readers.options import ReadOptions
from tito_fast.data.readers.pdb_records import parse_pdb
from tito_fast.data.readers.raw_structure import RawStructure
from tito_fast.data.readers.residues import (
    RESIDUE_OF_LETTER,
    canonical_residue,
    is_standard_residue,
    set_natural_stereo,
)
from tito_fast.data.readers.text_file import read_text


def from_pdb(path: str | os.PathLike[str], *, options: ReadOptions | None = None) -> Molecule:
    """Return the one molecule of a PDB file.

    Bonds come from CONECT records and residue templates, and from distances where these leave
    gaps. Bond orders come from ``options.smiles_template``, else from residue templates where
    every residue is a natural amino acid (or ACE, NME), else from RDKit's perception; the notes
    say which. Formal charges follow from the valences.

    Parameters
    ----------
    path : path
    options : ReadOptions, optional

    Returns
    -------
    Molecule
        Atoms in the order of the file (hydrogens added by request stand behind their partners,
        or last where there is one residue), positions in nm.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a PDB file, is truncated or garbled, has several fragments or no hydrogens.
    """
    options = options or ReadOptions()
    text = read_text(path, expected="a PDB file")
    source = f"path {str(path)!r}"
    raw = parse_pdb(text, source=source)
    return from_raw_structure(raw, name=Path(path).stem, source=source, options=options)


def from_raw_structure(
    raw: RawStructure, *, name: str, source: str, options: ReadOptions
) -> Molecule:
    """Return the molecule of ``raw``: bonds, then bond orders, then hydrogens if asked for.

    Raises
    ------
    ValueError
        As ``from_pdb``.
    """
    check_positions(raw.positions, source=source)
    raw = with_all_bonds(raw, source=source)
    # Before bond orders: a solvent or an ion would only fail there with a less clear sentence.
    with rdBase.BlockLogs():
        check_parts(raw.single_bonded_mol(), source=source)
    if _needs_hydrogens(raw, options):
        if not options.add_hydrogens:
            raise ValueError(
                f"{source}: expected hydrogens, got {raw.n_atoms} atoms without any; give a file "
                "with hydrogens or pass add_hydrogens=True (--add-hydrogens); if the molecule has "
                "none, pass smiles_template (--smiles)"
            )
        mol, note = _completed(raw, options=options, source=source)
    else:
        try:
            mol, note = mol_with_bond_orders(
                raw, smiles_template=options.smiles_template, source=source
            )
        except ValueError:
            if not options.add_hydrogens:
                raise
            mol, note = _completed(raw, options=options, source=source)
    if raw.positions is None:
        set_natural_stereo(mol)
    return finish(mol, name=name, source=source, options=options, notes=(*raw.notes, note))


def _needs_hydrogens(raw: RawStructure, options: ReadOptions) -> bool:
    """Whether there are no hydrogens where there should be; only a template can say 'none'."""
    if 1 in raw.elements:
        return False
    if options.smiles_template is None:
        return True
    return n_missing_hydrogens(template_molecule(options.smiles_template)) > 0


def _completed(raw: RawStructure, *, options: ReadOptions, source: str) -> tuple[Chem.Mol, str]:
    """Return a molecule whose missing hydrogens are implicit, for ``finish`` to add."""
    mol = raw.single_bonded_mol()
    heavy = [i for i, number in enumerate(raw.elements) if number != 1]
    if options.smiles_template is not None:
        skeleton = _heavy_only(raw).single_bonded_mol()
        if not copy_template_orders(skeleton, template_molecule(options.smiles_template)):
            raise ValueError(
                f"smiles_template: expected the molecule of {source} with {len(heavy)} heavy "
                f"atoms, got {options.smiles_template!r}, whose connections differ"
            )
        note = f"bond orders from the SMILES template {options.smiles_template}"
    else:
        skeleton = _heavy_only(raw).single_bonded_mol()
        _check_completable(raw, source)
        apply_residue_double_bonds(skeleton)
        note = "bond orders from residue templates, protonation as at pH 7"
    for bond in skeleton.GetBonds():
        target = mol.GetBondBetweenAtoms(heavy[bond.GetBeginAtomIdx()], heavy[bond.GetEndAtomIdx()])
        target.SetBondType(bond.GetBondType())
        target.SetIsAromatic(bond.GetIsAromatic())
    for atom in skeleton.GetAtoms():
        target = mol.GetAtomWithIdx(heavy[atom.GetIdx()])
        target.SetFormalCharge(atom.GetFormalCharge())
        target.SetIsAromatic(atom.GetIsAromatic())
        target.SetNoImplicit(False)
    try:
        with rdBase.BlockLogs():
            if options.smiles_template is None:
                protonate_at_ph7(mol)
            Chem.SanitizeMol(mol)
    except ValueError as error:
        raise ValueError(
            f"{source}: expected a molecule that hydrogens complete, got: {str(error).strip()}; "
            "add the hydrogens with another program"
        ) from error
    return mol, note


def _heavy_only(raw: RawStructure) -> RawStructure:
    heavy = [i for i, number in enumerate(raw.elements) if number != 1]
    new_index = {old: new for new, old in enumerate(heavy)}
    return replace(
        raw,
        elements=tuple(raw.elements[i] for i in heavy),
        atom_names=tuple(raw.atom_names[i] for i in heavy),
        residue_names=tuple(raw.residue_names[i] for i in heavy),
        residue_numbers=tuple(raw.residue_numbers[i] for i in heavy),
        chain_ids=tuple(raw.chain_ids[i] for i in heavy),
        positions=None if raw.positions is None else raw.positions[heavy],
        bonds=tuple(
            (new_index[i], new_index[j]) for i, j in raw.bonds if i in new_index and j in new_index
        ),
        bond_orders=None,
        charges=None,
    )


def _check_completable(raw: RawStructure, source: str) -> None:
    """Refuse residues whose heavy atoms do not say where hydrogens belong."""
    plain = {*RESIDUE_OF_LETTER.values(), "HIE", "HSE", "CYX", "ACE", "NME"}
    for name in raw.residue_names:
        if name.upper() not in plain:
            what = (
                "names another protonation state"
                if is_standard_residue(name) and canonical_residue(name) != name.upper()
                else "is not an amino acid"
            )
            raise ValueError(
                f"{source}: expected residues that hydrogens can be added to, got {name!r}, which "
                f"{what}; pass smiles_template (--smiles)"
            )
