"""GAFF2 parameters: charges, order, what is said when a program is missing or fails."""

import os
import sys

import numpy as np
import openmm
import pytest

from tito_fast.data.readers import from_smiles
from tito_fast.md import PRESETS, openmm_system
from tito_fast.md import gaff as gaff_module
from tito_fast.md.checks import equilibrium_bonds
from tito_fast.md.contexts import minimized

GAFF = PRESETS["gaff-vacuum"]


def charges_of(system):
    (force,) = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    return np.array(
        [force.getParticleParameters(i)[0]._value for i in range(system.getNumParticles())]
    )


@pytest.mark.usefixtures("gaff")
@pytest.mark.parametrize("smiles", ["CO", "CC(=O)[O-]", "C[NH3+]", "c1ccoc1"])
def test_charges_sum_to_the_molecules_charge(smiles):
    molecule = from_smiles(smiles)
    system = openmm_system(molecule, GAFF)
    assert system.getNumParticles() == molecule.n_atoms
    assert system.getNumConstraints() == 0
    assert charges_of(system).sum() == pytest.approx(sum(molecule.formal_charges), abs=2e-3)
    is_oxygen = molecule.atomic_numbers == 8
    assert (charges_of(system)[is_oxygen] < -0.05).all()


@pytest.mark.usefixtures("gaff")
def test_bonds_are_the_molecules_and_stereochemistry_stays():
    molecule = from_smiles("C/C=C/[C@H](O)F")
    system = openmm_system(molecule, GAFF)
    pairs, lengths_nm = equilibrium_bonds(system)
    assert {tuple(sorted(pair)) for pair in pairs.T.tolist()} == {
        tuple(sorted(pair)) for pair in molecule.bond_index.T.tolist()
    }
    start = minimized(system, molecule)
    found = np.linalg.norm(start.positions[pairs[0]] - start.positions[pairs[1]], axis=1)
    np.testing.assert_allclose(found, lengths_nm, rtol=0.05)
    masses = np.array([system.getParticleMass(i)._value for i in range(molecule.n_atoms)])
    np.testing.assert_allclose(masses @ start.positions, 0.0, atol=1e-9)


def fake_programs(folder, monkeypatch, *, script, names=("antechamber", "parmchk2", "tleap")):
    """Put programs on PATH that do what ``script`` says, in place of AmberTools."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text(f"#!{sys.executable}\n{script}\n")
        (folder / name).chmod(0o755)
    # No others, also not beside the interpreter.
    monkeypatch.setattr(
        gaff_module,
        "_program",
        lambda name: str(folder / name) if (folder / name).exists() else None,
    )
    assert os.access(folder, os.X_OK)


def test_missing_programs_name_the_extra(tmp_path, monkeypatch):
    fake_programs(tmp_path / "bin", monkeypatch, script="", names=("antechamber",))
    with pytest.raises(
        RuntimeError,
        match=r"gaff: expected the programs of AmberTools, got no parmchk2 and no tleap beside "
        r"Python or on PATH; install them with pip install 'tito_fast\[gaff\]'",
    ):
        openmm_system(from_smiles("CO"), GAFF)


def test_a_program_that_fails_is_quoted(tmp_path, monkeypatch):
    script = "import sys\nprint('first')\nfor i in range(7): print('line', i)\nsys.exit(3)"
    fake_programs(tmp_path / "bin", monkeypatch, script=script)
    with pytest.raises(
        RuntimeError,
        match=r"gaff: expected parameters of 'CO' from antechamber, got status 3; it said: "
        r"line 2 \| line 3 \| line 4 \| line 5 \| line 6$",
    ):
        openmm_system(from_smiles("CO"), GAFF)


def test_what_sqm_said_is_quoted(tmp_path, monkeypatch):
    script = "open('sqm.out', 'w').write('no convergence in SCF\\n')\nprint('fatal')"
    fake_programs(tmp_path / "bin", monkeypatch, script=script)
    with pytest.raises(
        RuntimeError, match=r"antechamber, got status 0; it said: fatal \| no convergence in SCF$"
    ):
        openmm_system(from_smiles("CO"), GAFF)


def test_a_program_that_hangs_is_ended(tmp_path, monkeypatch):
    fake_programs(tmp_path / "bin", monkeypatch, script="import time\ntime.sleep(60)")
    monkeypatch.setattr(gaff_module, "_TIMEOUT_S", 0.5)
    with pytest.raises(RuntimeError, match=r"gaff: expected antechamber to end within 0\.5 s"):
        openmm_system(from_smiles("CO"), GAFF)


def test_an_element_that_gaff_does_not_know_is_named():
    with pytest.raises(
        ValueError, match=r"preset: expected a molecule of H, C, .* atomic number 14"
    ):
        openmm_system(from_smiles("C[SiH3]"), GAFF)
