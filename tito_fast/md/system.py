"""OpenMM systems of molecules: what their atoms weigh and which forces act on them."""

import re
from typing import TYPE_CHECKING, Any, Final

from tito_fast.data.molecule import Molecule
from tito_fast.md.gaff import gaff_prmtop
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.presets import Preset

if TYPE_CHECKING:
    import openmm
    from openmm.app import Topology

_SOLVENT_DIELECTRIC: Final = 78.5
_SOLUTE_DIELECTRIC: Final = 1.0


def openmm_system(molecule: Molecule, preset: Preset) -> "openmm.System":
    """Return the OpenMM system of ``molecule``, atoms in its order.

    Parameters
    ----------
    molecule : Molecule
        For ``amber14-all``, with residues that the force field has templates of.
    preset : Preset

    Raises
    ------
    ImportError
        If OpenMM is not installed.
    ValueError
        If the force field does not know the molecule.
    RuntimeError
        If AmberTools is missing, or fails on the molecule.

    Notes
    -----
    Bonds that are constrained have no harmonic term, so energies of samples whose bonds to hydrogen vibrate
    need a preset without constraints.
    """
    import_openmm()
    if preset.force_field == "gaff2":
        return _gaff_system(molecule, preset)
    return _amber_system(molecule, preset)


def openmm_topology(molecule: Molecule) -> "Topology":
    """Return the OpenMM topology of ``molecule``: its atoms in order, residues, chains and bonds."""
    app = import_openmm().app
    topology = app.Topology()
    atoms: list[Any] = []
    chain = residue = None
    for i, number in enumerate(molecule.atomic_numbers.tolist()):
        is_new_chain = i == 0 or molecule.chain_ids[i] != molecule.chain_ids[i - 1]
        label = (molecule.residue_numbers[i], molecule.residue_names[i])
        before = (molecule.residue_numbers[i - 1], molecule.residue_names[i - 1])
        if is_new_chain:
            chain = topology.addChain(molecule.chain_ids[i])
        if is_new_chain or label != before:
            residue = topology.addResidue(label[1], chain, str(label[0]))
        element = app.Element.getByAtomicNumber(number)
        atoms.append(topology.addAtom(molecule.atom_names[i], element, residue))
    for i, j in molecule.bond_index.T.tolist():
        if i < j:
            topology.addBond(atoms[i], atoms[j])
    return topology


def _amber_system(molecule: Molecule, preset: Preset) -> "openmm.System":
    app = import_openmm().app
    files = ["amber14-all.xml"]
    if preset.solvent == "obc1":
        files.append("implicit/obc1.xml")
    topology = openmm_topology(molecule)
    options: dict[str, Any] = {}
    if preset.solvent == "obc1":
        options["solventDielectric"] = _SOLVENT_DIELECTRIC
        options["soluteDielectric"] = _SOLUTE_DIELECTRIC
    try:
        system = app.ForceField(*files).createSystem(
            topology, **_nonbonded_options(preset), **_mass_options(preset), **options
        )
    except ValueError as error:
        raise ValueError(
            f"preset: expected a molecule that {preset.force_field} has parameters of, got "
            f"{molecule.name!r} ({_reason(error)}); use the preset gaff-vacuum, or mend the structure"
        ) from error
    if preset.solvent == "obc2-native":
        _add_native_obc2(system, topology, preset)
    return system


def _gaff_system(molecule: Molecule, preset: Preset) -> "openmm.System":
    prmtop = gaff_prmtop(molecule)
    return prmtop.createSystem(**_nonbonded_options(preset), **_mass_options(preset))


def _nonbonded_options(preset: Preset) -> dict[str, Any]:
    openmm = import_openmm()
    if preset.cutoff_nm is None:
        return {"nonbondedMethod": openmm.app.NoCutoff}
    return {
        "nonbondedMethod": openmm.app.CutoffNonPeriodic,
        "nonbondedCutoff": preset.cutoff_nm * openmm.unit.nanometer,
    }


def _mass_options(preset: Preset) -> dict[str, Any]:
    openmm = import_openmm()
    options: dict[str, Any] = {
        "constraints": openmm.app.HBonds if preset.constraints == "HBonds" else None
    }
    if preset.hydrogen_mass_amu is not None:
        options["hydrogenMass"] = preset.hydrogen_mass_amu * openmm.unit.amu
    return options


def _add_native_obc2(system: "openmm.System", topology: "Topology", preset: Preset) -> None:
    """Add OBC2 as ``GBSAOBCForce``: the energy of ``implicit/obc2.xml``, six times as fast and more."""
    openmm = import_openmm()
    # The parameters that implicit/obc2.xml takes; there is no public function for them.
    from openmm.app.internal.customgbforces import GBSAOBC2Force  # noqa: PLC0415  optional

    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    nonbonded.setReactionFieldDielectric(1.0)
    force = openmm.GBSAOBCForce()
    force.setSolventDielectric(_SOLVENT_DIELECTRIC)
    force.setSoluteDielectric(_SOLUTE_DIELECTRIC)
    if preset.cutoff_nm is None:
        force.setNonbondedMethod(force.NoCutoff)
    else:
        force.setNonbondedMethod(force.CutoffNonPeriodic)
        force.setCutoffDistance(preset.cutoff_nm)
    for i, (radius, scale) in enumerate(GBSAOBC2Force.getStandardParameters(topology)):
        charge = nonbonded.getParticleParameters(i)[0]
        force.addParticle(charge, float(radius), float(scale))
    system.addForce(force)


def n_degrees_of_freedom(system: "openmm.System") -> int:
    """Return the degrees of freedom that the temperature of ``system`` is measured in."""
    openmm = import_openmm()
    n_massive = sum(
        system.getParticleMass(i).value_in_unit(openmm.unit.amu) > 0
        for i in range(system.getNumParticles())
    )
    has_fixed_center = any(
        isinstance(force, openmm.CMMotionRemover) for force in system.getForces()
    )
    return int(3 * n_massive - system.getNumConstraints() - 3 * has_fixed_center)


def _reason(error: ValueError) -> str:
    """Return the first sentence of OpenMM's message."""
    first = re.split(r"\.\s|\n", str(error).strip())[0]
    return first.rstrip(".")
