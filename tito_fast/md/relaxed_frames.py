"""Short dynamics from given structures: the part of a relaxation that runs in processes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray, IntArray
from tito_fast.md.contexts import centered, make_context, masses_amu
from tito_fast.md.crew import Tell
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.presets import Preset

if TYPE_CHECKING:
    import openmm

EXPLODED_SHARE: Final = 1.5
"""A structure is torn apart where a bond is so many times as long as the force field's."""

_TOLERANCE_KJ_PER_MOL_NM: Final = 10.0


@dataclass(frozen=True, eq=False, kw_only=True)
class FramesJob:
    """Frames of one replica to relax.

    Parameters
    ----------
    system_xml : str
    preset : Preset
    platform : str
    n_steps : int
        Integration steps from each frame.
    n_minimization_steps : int
        Steps of the minimizer before; 0 for none.
    positions : ndarray, shape (n_frames, n_atoms, 3)
    seeds : ndarray, shape (n_frames, 2), int64
        Of velocities and noise.
    bonds : ndarray, shape (2, n_bonds), int64
    bond_lengths_nm : ndarray, shape (n_bonds,)
        Of the force field.
    """

    system_xml: str
    preset: Preset
    platform: str
    n_steps: int
    n_minimization_steps: int
    positions: NDArray[np.float32]
    seeds: IntArray
    bonds: IntArray
    bond_lengths_nm: FloatArray


@dataclass(frozen=True, eq=False)
class RelaxedFrames:
    """What came of the frames of a job.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_atoms, 3), float64
        Last frames, mass centers at the origin; of a failed one, zeros.
    energies_kj_per_mol : ndarray, shape (n_frames,)
        At the end; NaN of a failed one.
    reasons : tuple of str
        Why a frame failed; empty where it did not.
    """

    positions: FloatArray
    energies_kj_per_mol: FloatArray
    reasons: tuple[str, ...]


_KEPT: dict[tuple[Any, ...], Any] = {}


def relax_frames(job: FramesJob, tell: Tell) -> RelaxedFrames:
    """Minimize and simulate from each frame, in the one context that this process keeps.

    What becomes of a frame follows from its positions and seeds alone, not from the frames before it.
    """
    openmm = import_openmm()
    key = (job.system_xml, job.preset, job.platform)
    if key not in _KEPT:
        _KEPT.clear()
        system = openmm.XmlSerializer.deserialize(job.system_xml)
        _KEPT[key] = make_context(system, job.preset, platform=job.platform, seed=1)
    context = _KEPT[key]
    masses = masses_amu(context.getSystem())
    relaxed = np.zeros(job.positions.shape)
    energies = np.full(len(relaxed), np.nan)
    reasons = []
    for index, frame in enumerate(job.positions):
        reason = _relax(context, job, frame.astype(np.float64), job.seeds[index])
        if not reason:
            positions, energy = _state(context)
            reason = _why_bad(positions, energy, job)
        if not reason:
            relaxed[index] = centered(positions, masses)
            energies[index] = energy
        reasons.append(reason)
        tell(1)
    return RelaxedFrames(relaxed, energies, tuple(reasons))


def _relax(context: "openmm.Context", job: FramesJob, frame: FloatArray, seeds: IntArray) -> str:
    """Relax a frame in ``context``; return why that failed, nothing if it did not."""
    openmm = import_openmm()
    if not np.isfinite(frame).all():
        return "the sample is not finite"
    integrator = context.getIntegrator()
    # Some platforms take the seed only when they are initialized.
    integrator.setRandomNumberSeed(int(seeds[1]))
    context.reinitialize()
    try:
        context.setPositions(frame)
        if job.n_minimization_steps:
            openmm.LocalEnergyMinimizer.minimize(
                context, _TOLERANCE_KJ_PER_MOL_NM, job.n_minimization_steps
            )
        context.applyConstraints(integrator.getConstraintTolerance())
        context.setVelocitiesToTemperature(job.preset.temperature_k, int(seeds[0]))
        integrator.step(job.n_steps)
    except openmm.OpenMMException as error:
        return "NaN" if "NaN" in str(error) else str(error).split("\n")[0]
    return ""


def _state(context: "openmm.Context") -> tuple[FloatArray, float]:
    unit = import_openmm().unit
    state = context.getState(positions=True, energy=True)
    positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    return np.asarray(positions, dtype=np.float64), float(energy)


def _why_bad(positions: FloatArray, energy: float, job: FramesJob) -> str:
    if not (np.isfinite(positions).all() and np.isfinite(energy)):
        return "NaN"
    lengths = np.linalg.norm(positions[job.bonds[0]] - positions[job.bonds[1]], axis=-1)
    return "exploded" if (lengths > EXPLODED_SHARE * job.bond_lengths_nm).any() else ""
