"""Systems: the native solvent equals the custom one, presets reach OpenMM, strangers are refused."""

import builtins
from dataclasses import replace

import numpy as np
import openmm
import pytest
from openmm import app, unit

from tito_fast.data.readers import from_pdb, from_sequence, from_smiles
from tito_fast.data.topology import write_pdb
from tito_fast.md import PRESETS, openmm_system, potential_energies, preset_of
from tito_fast.md.contexts import minimized
from tito_fast.md.system import n_degrees_of_freedom, openmm_topology

FREE = preset_of("fast", constraints="none")


def forces_of(system, kind):
    return [force for force in system.getForces() if isinstance(force, kind)]


@pytest.mark.parametrize("sequence", ["AA", "ACE-A-NME", "GSKW", "ACE-PH-NME", "CDE", "RY", "MNQT"])
def test_native_solvent_has_the_energy_of_the_custom_force(sequence, shaken):
    molecule = from_sequence(sequence)
    native = openmm_system(molecule, FREE)
    custom = app.ForceField("amber14-all.xml", "implicit/obc2.xml").createSystem(
        openmm_topology(molecule), nonbondedMethod=app.NoCutoff
    )
    assert not forces_of(native, openmm.CustomGBForce)
    assert not forces_of(custom, openmm.GBSAOBCForce)
    frames = np.concatenate(
        [shaken(molecule, 2), shaken(minimized(native, molecule), 2), molecule.positions[None]]
    )
    difference = potential_energies(native, frames) - potential_energies(custom, frames)
    assert np.abs(difference).max() < 1e-3


def test_native_solvent_has_the_forces_of_the_custom_force(alanine):
    found = []
    for system in (
        openmm_system(alanine, FREE),
        app.ForceField("amber14-all.xml", "implicit/obc2.xml").createSystem(
            openmm_topology(alanine), nonbondedMethod=app.NoCutoff
        ),
    ):
        context = openmm.Context(
            system,
            openmm.VerletIntegrator(0.001),
            openmm.Platform.getPlatformByName("Reference"),
        )
        context.setPositions(alanine.positions)
        found.append(context.getState(forces=True).getForces(asNumpy=True)._value)
    assert np.abs(found[0] - found[1]).max() < 1e-5 * np.abs(found[1]).max()


def test_timewarp_is_obc1_with_a_cutoff(alanine):
    system = openmm_system(alanine, PRESETS["timewarp"])
    (custom,) = forces_of(system, openmm.CustomGBForce)
    (nonbonded,) = forces_of(system, openmm.NonbondedForce)
    assert custom.getNonbondedMethod() == custom.CutoffNonPeriodic
    assert nonbonded.getNonbondedMethod() == nonbonded.CutoffNonPeriodic
    for force in (custom, nonbonded):
        assert force.getCutoffDistance() == 2.0 * unit.nanometer
    assert system.getNumConstraints() == 0
    expected = app.ForceField("amber14-all.xml", "implicit/obc1.xml").createSystem(
        openmm_topology(alanine),
        nonbondedMethod=app.CutoffNonPeriodic,
        nonbondedCutoff=2.0 * unit.nanometer,
    )
    frames = alanine.positions[None]
    assert potential_energies(system, frames) == potential_energies(expected, frames)


def test_constraints_and_masses_are_the_presets(alanine):
    system = openmm_system(alanine, preset_of("fast", hydrogen_mass_amu=3.0))
    n_hydrogens = int((alanine.atomic_numbers == 1).sum())
    assert system.getNumConstraints() == n_hydrogens == 12
    masses = [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
    plain = openmm_system(alanine, FREE)
    before = [plain.getParticleMass(i)._value for i in range(plain.getNumParticles())]
    assert np.array(masses)[alanine.atomic_numbers == 1] == pytest.approx(3.0)
    assert sum(masses) == pytest.approx(sum(before))
    assert n_degrees_of_freedom(system) == 3 * 22 - 12 - 3
    assert n_degrees_of_freedom(plain) == 3 * 22 - 3


def test_topology_keeps_atoms_residues_and_bonds(alanine):
    topology = openmm_topology(alanine)
    atoms = list(topology.atoms())
    assert [atom.index for atom in atoms] == list(range(22))
    assert [atom.element.atomic_number for atom in atoms] == alanine.atomic_numbers.tolist()
    assert [residue.name for residue in topology.residues()] == ["ACE", "ALA", "NME"]
    bonds = {tuple(sorted((a.index, b.index))) for a, b in topology.bonds()}
    assert bonds == {tuple(sorted(pair)) for pair in alanine.bond_index.T.tolist()}


def test_a_pdb_file_gives_the_system_of_its_sequence(alanine, tmp_path):
    write_pdb(alanine, tmp_path / "alanine.pdb")
    read = from_pdb(tmp_path / "alanine.pdb")
    frames = alanine.positions[None]
    assert potential_energies(openmm_system(read, FREE), frames) == pytest.approx(
        potential_energies(openmm_system(alanine, FREE), frames)
    )


def test_a_small_molecule_is_refused_by_a_force_field_of_peptides():
    with pytest.raises(
        ValueError,
        match=r"preset: expected a molecule that amber14-all has parameters of, got 'CCO' "
        r"\(No template found for residue 0 \(MOL\)\); use the preset gaff-vacuum",
    ):
        openmm_system(from_smiles("CCO"), PRESETS["fast"])


def test_a_structure_without_a_finite_energy_is_refused(alanine):
    system = openmm_system(alanine, FREE)
    torn = alanine.with_positions(np.zeros_like(alanine.positions))
    with pytest.raises(ValueError, match="positions: expected a structure of 'ACE-A-NME' with a"):
        minimized(system, torn)


def test_a_missing_openmm_names_the_extra(alanine, monkeypatch):
    plain = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "openmm":
            raise ImportError(f"No module named {name!r}")
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"openmm: expected .* pip install 'tito_fast\[md\]'"):
        openmm_system(alanine, PRESETS["fast"])


def test_a_preset_is_not_read_as_another(alanine):
    # A vacuum of ff14SB differs from both solvents.
    vacuum = openmm_system(alanine, replace(FREE, solvent="vacuum"))
    frames = alanine.positions[None]
    assert not forces_of(vacuum, openmm.GBSAOBCForce)
    assert (
        abs(
            potential_energies(vacuum, frames)
            - potential_energies(openmm_system(alanine, FREE), frames)
        )
        > 10.0
    )
