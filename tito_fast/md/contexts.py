"""OpenMM contexts: a system with its integrator on a platform, and what is read from it."""

import math
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

from tito_fast.data.molecule import FloatArray, Molecule
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.presets import Preset
from tito_fast.validation import check_choice

if TYPE_CHECKING:
    import openmm

GAS_CONSTANT_KJ_PER_MOL_K: Final = 8.31446261815324e-3

_AUTO: Final = ("Reference", "CPU")
_MEASURED_STEPS: Final = 300
_MEASURED_S: Final = 2.0
_MAX_SEED: Final = 2**31 - 1


def make_context(
    system: "openmm.System", preset: Preset, *, platform: str, seed: int
) -> "openmm.Context":
    """Return a context of ``system`` with the preset's integrator, on one thread.

    Parameters
    ----------
    system : openmm.System
    preset : Preset
    platform : str
        A name that OpenMM has here.
    seed : int
        Of the integrator's noise, 1 to 2^31 - 1.
    """
    openmm = import_openmm()
    integrator = openmm.LangevinMiddleIntegrator(
        preset.temperature_k, preset.friction_per_ps, 1e-3 * preset.step_fs
    )
    integrator.setRandomNumberSeed(seed)
    return openmm.Context(
        system, integrator, openmm.Platform.getPlatformByName(platform), _properties(platform)
    )


def energy_context(system: "openmm.System", *, platform: str) -> "openmm.Context":
    """Return a context of ``system`` that only energies and minima are asked of."""
    openmm = import_openmm()
    return openmm.Context(
        system,
        openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName(platform),
        _properties(platform),
    )


def positions_nm(context: "openmm.Context") -> FloatArray:
    """Return the positions, (n_atoms, 3), in nm."""
    unit = import_openmm().unit
    positions = context.getState(positions=True).getPositions(asNumpy=True)
    return np.asarray(positions.value_in_unit(unit.nanometer), dtype=np.float64)


def potential_energy(context: "openmm.Context") -> float:
    """Return the potential energy in kJ/mol."""
    unit = import_openmm().unit
    energy = context.getState(energy=True).getPotentialEnergy()
    return float(energy.value_in_unit(unit.kilojoule_per_mole))


def minimized(system: "openmm.System", molecule: Molecule) -> Molecule:
    """Return ``molecule`` at the minimum of energy near its positions, its mass center at the origin.

    Raises
    ------
    ValueError
        If the energy at the start, or at the minimum, is not finite.
    """
    openmm = import_openmm()
    context = energy_context(system, platform="Reference")
    context.setPositions(molecule.positions)
    start = potential_energy(context)
    if math.isfinite(start):
        openmm.LocalEnergyMinimizer.minimize(context)
    end = potential_energy(context)
    if not math.isfinite(end):
        raise ValueError(
            f"positions: expected a structure of {molecule.name!r} with a finite energy, got "
            f"{start:g} kJ/mol, {end:g} after minimization; mend the structure"
        )
    return molecule.with_positions(centered(positions_nm(context), masses_amu(system)))


def centered(positions: FloatArray, masses: FloatArray) -> FloatArray:
    """Return ``positions`` (n_atoms, 3) with the mass center at the origin."""
    center = (masses[:, None] * positions).sum(axis=0) / masses.sum()
    return np.asarray(positions - center, dtype=np.float64)


def masses_amu(system: "openmm.System") -> FloatArray:
    """Return the masses of all particles."""
    unit = import_openmm().unit
    particles = range(system.getNumParticles())
    return np.array([system.getParticleMass(i).value_in_unit(unit.amu) for i in particles])


def derived_seed(*parts: int) -> int:
    """Return a seed for OpenMM, 1 to 2^31 - 1, that follows from whole numbers.

    OpenMM reads 0 as 'random'.
    """
    digest = blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _MAX_SEED + 1


def check_platform(name: str) -> None:
    """Raise ``ValueError`` unless ``name`` is ``auto`` or a platform that OpenMM has here."""
    openmm = import_openmm()
    names = [
        openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())
    ]
    check_choice("platform", name, ("auto", *names))


def measured_speeds(
    system: "openmm.System", molecule: Molecule, preset: Preset
) -> dict[str, float]:
    """Return the speed in ns/day of each platform that ``auto`` chooses among, from a few hundred steps."""
    speeds = {}
    for platform in _AUTO:
        context = make_context(system, preset, platform=platform, seed=1)
        context.setPositions(molecule.positions)
        context.setVelocitiesToTemperature(preset.temperature_k, 1)
        integrator = context.getIntegrator()
        integrator.step(10)
        n_steps, started = 0, time.perf_counter()
        while n_steps < _MEASURED_STEPS and time.perf_counter() - started < _MEASURED_S:
            integrator.step(_MEASURED_STEPS // 10)
            n_steps += _MEASURED_STEPS // 10
        seconds = time.perf_counter() - started
        speeds[platform] = ns_per_day(1e-3 * n_steps * preset.step_fs, seconds)
    return speeds


def ns_per_day(time_ps: float, seconds: float) -> float:
    """Return the speed of ``time_ps`` simulated in ``seconds``."""
    return 86.4 * time_ps / max(seconds, 1e-9)


def _properties(platform: str) -> dict[str, str]:
    # One thread: more are slower for molecules of this size.
    return {"Threads": "1"} if platform == "CPU" else {}
