"""Bond orders and formal charges for atoms whose connections alone are known."""

from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from tito_fast.data.readers.carbon_shapes import first_bent_carbon
from tito_fast.data.readers.raw_structure import RawStructure
from tito_fast.data.readers.residues import is_standard_residue, residue_double_bonds

# RDKit enumerates valence combinations; beyond this many it would take minutes.
_MAX_PERCEPTION_STEPS = 200_000

_NEUTRAL_VALENCE = {6: 4, 7: 3, 8: 2, 16: 2}
_ORDER_TYPES = {
    1.0: Chem.BondType.SINGLE,
    2.0: Chem.BondType.DOUBLE,
    3.0: Chem.BondType.TRIPLE,
    1.5: Chem.BondType.AROMATIC,
}


def mol_with_bond_orders(
    raw: RawStructure, *, smiles_template: str | None, source: str
) -> tuple[Chem.Mol, str]:
    """Return a sanitized molecule with bond orders, and a note on where they came from.

    All hydrogens must be atoms of ``raw``. In order: the template, orders that ``raw`` states,
    residue templates where every residue is standard, RDKit's perception from the connections.

    Raises
    ------
    ValueError
        If the template is another molecule, or no closed-shell structure fits the connections.
    """
    mol = raw.single_bonded_mol()
    if smiles_template is not None:
        return _from_template(mol, smiles_template, source)
    if raw.bond_orders is not None:
        return _from_orders(mol, raw, source), "bond orders as stated by the topology"
    if all(is_standard_residue(name) for name in raw.residue_names):
        _apply_residue_templates(mol, source)
        note = "bond orders from residue templates"
    else:
        mol = _perceive(mol, raw, source)
        note = "bond orders perceived by RDKit from the connections"
    _sanitize(mol, source)
    return mol, note + _charge_summary(mol)


def template_molecule(smiles: str) -> Chem.Mol:
    """Return the template's molecule, hydrogens implicit.

    Raises
    ------
    ValueError
        If ``smiles`` is not a valid SMILES of one molecule.
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        raise ValueError(f"smiles_template: expected a valid SMILES, got {smiles!r}")
    return mol


def copy_template_orders(mol: Chem.Mol, template: Chem.Mol) -> bool:
    """Give ``mol`` the bond orders and charges of ``template``; return whether they match.

    Both are compared as single-bonded skeletons of the same atoms.
    """
    if mol.GetNumAtoms() != template.GetNumAtoms() or mol.GetNumBonds() != template.GetNumBonds():
        return False
    match = _skeleton(mol).GetSubstructMatch(_skeleton(template))
    if not match:
        return False
    for bond in template.GetBonds():
        target = mol.GetBondBetweenAtoms(match[bond.GetBeginAtomIdx()], match[bond.GetEndAtomIdx()])
        target.SetBondType(bond.GetBondType())
        target.SetIsAromatic(bond.GetIsAromatic())
    for atom in template.GetAtoms():
        target = mol.GetAtomWithIdx(match[atom.GetIdx()])
        target.SetFormalCharge(atom.GetFormalCharge())
        target.SetIsAromatic(atom.GetIsAromatic())
        target.SetNumRadicalElectrons(atom.GetNumRadicalElectrons())
    return True


def _skeleton(mol: Chem.Mol) -> Chem.Mol:
    """Return elements and single bonds only, so that matching sees connections alone."""
    skeleton = Chem.RWMol()
    for atom in mol.GetAtoms():
        bare = Chem.Atom(atom.GetAtomicNum())
        bare.SetNoImplicit(True)
        skeleton.AddAtom(bare)
    for bond in mol.GetBonds():
        skeleton.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return skeleton.GetMol()


def _from_template(mol: Chem.RWMol, smiles: str, source: str) -> tuple[Chem.Mol, str]:
    template = template_molecule(smiles)
    if not copy_template_orders(mol, Chem.AddHs(template)):
        raise ValueError(
            f"smiles_template: expected the molecule of {source} with {mol.GetNumAtoms()} atoms "
            f"and {mol.GetNumBonds()} bonds, got {smiles!r}, whose connections differ"
        )
    _sanitize(mol, source)
    Chem.AssignStereochemistryFrom3D(mol)
    if mol.GetNumConformers() and not mol.HasSubstructMatch(template, useChirality=True):
        raise ValueError(
            f"smiles_template: expected the stereochemistry of the coordinates, "
            f"{Chem.MolToSmiles(Chem.RemoveHs(mol))}, got {smiles!r}; "
            "leave out the stereo marks to take that of the coordinates"
        )
    return mol, f"bond orders from the SMILES template {smiles}"


def _from_orders(mol: Chem.RWMol, raw: RawStructure, source: str) -> Chem.Mol:
    for (i, j), order in zip(raw.bonds, raw.bond_orders or (), strict=True):
        bond = mol.GetBondBetweenAtoms(i, j)
        bond.SetBondType(_ORDER_TYPES[order])
        bond.SetIsAromatic(order == 1.5)
        if order == 1.5:
            bond.GetBeginAtom().SetIsAromatic(True)
            bond.GetEndAtom().SetIsAromatic(True)
    if raw.charges is not None:
        for atom, charge in zip(mol.GetAtoms(), raw.charges, strict=True):
            atom.SetFormalCharge(charge)
    elif not any(atom.GetIsAromatic() for atom in mol.GetAtoms()):
        _charges_from_valence(mol, source)
    _sanitize(mol, source)
    return mol


def _perceive(mol: Chem.RWMol, raw: RawStructure, source: str) -> Chem.RWMol:
    """Return RDKit's bond orders for the smallest total charge that closes all shells."""
    if _fits_single_bonds(mol):
        # RDKit tries high valences of P first and would make PH2-PH2 a multiple bond.
        return mol
    if raw.positions is not None:
        _check_shapes(mol, raw, source)
    n_protons = sum(raw.elements)
    hint = [sum(raw.charges)] if raw.charges is not None else []
    totals = [*hint, *sorted(range(-6, 7), key=lambda total: (abs(total), total < 0))]
    for total in totals:
        if (n_protons - total) % 2:
            continue
        candidate = Chem.RWMol(mol)
        try:
            with rdBase.BlockLogs():
                rdDetermineBonds.DetermineBondOrders(
                    candidate,
                    charge=total,
                    allowChargedFragments=True,
                    embedChiral=False,
                    maxIterations=_MAX_PERCEPTION_STEPS,
                )
                Chem.SanitizeMol(candidate)
        except (ValueError, RuntimeError):
            continue
        if _is_plausible(candidate):
            return candidate
    raise ValueError(
        f"{source}: expected connections that fit a closed-shell molecule, got none that do; a hydrogen "
        "is missing or too many, it is a radical, or it is too large: pass smiles_template"
    )


def _check_shapes(mol: Chem.RWMol, raw: RawStructure, source: str) -> None:
    """Refuse a bent carbon: perception would close its shell by a multiple bond."""
    Chem.FastFindRings(mol)
    bent = first_bent_carbon(mol, raw.positions) if raw.positions is not None else None
    if bent is not None:
        i, shape = bent
        raise ValueError(
            f"{source}: expected all hydrogens, got atom {i + 1} ({raw.atom_names[i]}, carbon) "
            f"with {shape}; add the hydrogens, or pass smiles_template if none is missing"
        )


def _fits_single_bonds(mol: Chem.Mol) -> bool:
    """Whether every atom has its neutral valence with all bonds single."""
    valence = {1: 1, 9: 1, 15: 3, 17: 1, 35: 1, 53: 1, **_NEUTRAL_VALENCE}
    return all(valence.get(atom.GetAtomicNum()) == atom.GetDegree() for atom in mol.GetAtoms())


def _is_plausible(mol: Chem.Mol) -> bool:
    """Whether there are no radicals, and no charged carbon without an opposite neighbor."""
    for atom in mol.GetAtoms():
        if atom.GetNumRadicalElectrons():
            return False
        charge = atom.GetFormalCharge()
        if charge and atom.GetAtomicNum() in (1, 6):
            opposite = any(other.GetFormalCharge() * charge < 0 for other in atom.GetNeighbors())
            if not opposite:
                return False
    return True


def apply_residue_double_bonds(mol: Chem.RWMol) -> None:
    """Make the double bonds of standard residues double, in place, by atom and residue names."""
    for bond in mol.GetBonds():
        one, two = (atom.GetPDBResidueInfo() for atom in (bond.GetBeginAtom(), bond.GetEndAtom()))
        is_within = (one.GetResidueNumber(), one.GetChainId()) == (
            two.GetResidueNumber(),
            two.GetChainId(),
        )
        pair = frozenset({one.GetName().strip(), two.GetName().strip()})
        if is_within and pair in residue_double_bonds(one.GetResidueName().strip()):
            bond.SetBondType(Chem.BondType.DOUBLE)


def _apply_residue_templates(mol: Chem.RWMol, source: str) -> None:
    apply_residue_double_bonds(mol)
    _charges_from_valence(mol, source)
    _shift_double_bonds(mol)
    _check_residue_anions(mol, source)


def _check_residue_anions(mol: Chem.RWMol, source: str) -> None:
    """Refuse anions that standard residues do not form: there a hydrogen is missing."""
    for atom in mol.GetAtoms():
        if atom.GetFormalCharge() >= 0:
            continue
        is_carboxylate = atom.GetAtomicNum() == 8 and any(
            bond.GetBondType() == Chem.BondType.DOUBLE
            for neighbor in atom.GetNeighbors()
            for bond in neighbor.GetBonds()
        )
        info = atom.GetPDBResidueInfo()
        name = info.GetResidueName().strip().upper()
        is_phenolate = name == "TYR" and info.GetName().strip() == "OH"
        if name in {"CYM", "TYM"} or (is_carboxylate and not is_phenolate):
            continue
        raise ValueError(
            f"{source}: expected all hydrogens, got none on atom {atom.GetIdx() + 1} "
            f"({info.GetName().strip()} of {name} {info.GetResidueNumber()}); "
            "add them or pass add_hydrogens=True"
        )


def _charges_from_valence(mol: Chem.RWMol, source: str) -> None:
    """Set each atom's formal charge to its valence minus the neutral one.

    Raises
    ------
    ValueError
        If carbon or hydrogen does not have its full valence.
    """
    for atom in mol.GetAtoms():
        number = atom.GetAtomicNum()
        valence = int(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()))
        charge = valence - _NEUTRAL_VALENCE[number] if number in _NEUTRAL_VALENCE else 0
        if (number == 6 and charge) or abs(charge) > 1 or (number == 1 and valence != 1):
            info = atom.GetPDBResidueInfo()
            raise ValueError(
                f"{source}: expected a closed-shell molecule, got atom {atom.GetIdx() + 1} "
                f"({info.GetName().strip()} of {info.GetResidueName().strip()} "
                f"{info.GetResidueNumber()}) with valence {valence}; hydrogens or other atoms are "
                "missing or misplaced, or it is a radical"
            )
        atom.SetFormalCharge(charge)


def _shift_double_bonds(mol: Chem.RWMol) -> None:
    """Turn X(+)=C-Y(-) into X-C=Y, which is how other protonation states are written.

    Templates hold one form: histidine with the hydrogen on NE2, acids with it on the second
    oxygen. HID, for example, comes out here as ND1(+)=CE1-NE2(-).
    """
    for positive in mol.GetAtoms():
        if positive.GetFormalCharge() != 1:
            continue
        for double in positive.GetBonds():
            if double.GetBondType() != Chem.BondType.DOUBLE:
                continue
            single = _bond_to_anion(double.GetOtherAtom(positive), positive)
            if single is not None:
                double.SetBondType(Chem.BondType.SINGLE)
                single.SetBondType(Chem.BondType.DOUBLE)
                single.GetBeginAtom().SetFormalCharge(0)
                single.GetEndAtom().SetFormalCharge(0)
                positive.SetFormalCharge(0)


def _bond_to_anion(middle: Any, positive: Any) -> Any:  # noqa: ANN401 - RDKit atoms and bonds
    for bond in middle.GetBonds():
        other = bond.GetOtherAtom(middle)
        if other.GetIdx() != positive.GetIdx() and other.GetFormalCharge() == -1:
            return bond
    return None


def _sanitize(mol: Chem.Mol, source: str) -> None:
    try:
        with rdBase.BlockLogs():
            Chem.SanitizeMol(mol)
    except ValueError as error:
        raise ValueError(
            f"{source}: expected a chemically valid molecule, got: {str(error).strip()}"
        ) from error


def _charge_summary(mol: Chem.Mol) -> str:
    charged = [
        f"{atom.GetPDBResidueInfo().GetName().strip()} {atom.GetFormalCharge():+d}"
        for atom in mol.GetAtoms()
        if atom.GetFormalCharge()
    ]
    return f"; formal charges: {', '.join(charged)}" if charged else ""
