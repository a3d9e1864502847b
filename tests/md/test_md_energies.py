"""Energies of many frames are those of a plain loop of OpenMM."""

import numpy as np
import openmm
import pytest
from openmm import unit

from tito_fast.md import PRESETS, openmm_system, potential_energies, preset_of


@pytest.fixture(scope="module")
def system(alanine):
    return openmm_system(alanine, preset_of("fast", constraints="none"))


def plain_energies(system, frames, *, platform="Reference"):
    energies = []
    for frame in frames:
        context = openmm.Context(
            system,
            openmm.VerletIntegrator(0.001),
            openmm.Platform.getPlatformByName(platform),
        )
        context.setPositions(frame * unit.nanometer)
        energy = context.getState(energy=True).getPotentialEnergy()
        energies.append(energy.value_in_unit(unit.kilojoule_per_mole))
    return np.array(energies)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_energies_equal_a_plain_loop(system, alanine, shaken, n_jobs):
    frames = shaken(alanine, 9)
    found = potential_energies(system, frames, n_jobs=n_jobs)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, plain_energies(system, frames))


def test_float32_frames_of_a_trajectory_are_taken(system, alanine, shaken):
    frames = shaken(alanine, 3).astype(np.float32)
    np.testing.assert_array_equal(
        potential_energies(system, frames), plain_energies(system, frames.astype(np.float64))
    )


def test_the_cpu_platform_agrees_to_its_precision(system, alanine, shaken):
    frames = shaken(alanine, 3)
    found = potential_energies(system, frames, platform="CPU")
    np.testing.assert_allclose(found, plain_energies(system, frames), rtol=1e-4, atol=1e-2)


def test_frames_that_are_not_finite_have_no_energy(system, alanine, shaken):
    frames = shaken(alanine, 3)
    frames[1, 4, 2] = np.nan
    found = potential_energies(system, frames)
    np.testing.assert_array_equal(np.isnan(found), [False, True, False])
    np.testing.assert_array_equal(found[[0, 2]], plain_energies(system, frames[[0, 2]]))


def test_no_frames_have_no_energies(system):
    assert potential_energies(system, np.zeros((0, 22, 3))).shape == (0,)


def test_a_run_and_its_system_file_are_systems(run_simulation, glycine, shaken, vacuum):
    path = run_simulation(time_ps=0.1).path
    frames = shaken(glycine, 2)
    expected = potential_energies(openmm_system(glycine, vacuum), frames)
    np.testing.assert_array_equal(potential_energies(path, frames), expected)
    np.testing.assert_array_equal(potential_energies(str(path / "system.xml"), frames), expected)


def test_constrained_bonds_have_no_energy(alanine, shaken):
    frames = shaken(alanine, 1)
    free = potential_energies(openmm_system(alanine, preset_of("fast", constraints="none")), frames)
    assert potential_energies(openmm_system(alanine, PRESETS["fast"]), frames) < free


def test_bad_input_is_refused(system, tmp_path):
    frames = np.zeros((1, 22, 3))
    with pytest.raises(ValueError, match=r"positions: expected shape \(n_frames, 22, 3\), got"):
        potential_energies(system, frames[0])
    with pytest.raises(ValueError, match=r"positions: expected shape \(n_frames, 22, 3\), got"):
        potential_energies(system, frames[:, :5])
    with pytest.raises(ValueError, match="n_jobs: expected at least 1, got 0"):
        potential_energies(system, frames, n_jobs=0)
    with pytest.raises(ValueError, match=r"platform: expected one of auto, Reference, CPU.* 'TPU'"):
        potential_energies(system, frames, platform="TPU")
    with pytest.raises(ValueError, match="platform: expected a platform's name, got 'auto'"):
        potential_energies(system, frames, platform="auto")
    with pytest.raises(ValueError, match=r"system: expected an OpenMM system .* none at"):
        potential_energies(tmp_path, frames)
    (tmp_path / "system.xml").write_text("<no/>")
    with pytest.raises(ValueError, match="system: expected an OpenMM system in"):
        potential_energies(tmp_path, frames)
    integrator = openmm.XmlSerializer.serialize(openmm.VerletIntegrator(0.001))
    (tmp_path / "system.xml").write_text(integrator)
    with pytest.raises(ValueError, match=r"system: expected a System in .*, got a Verlet"):
        potential_energies(tmp_path, frames)
