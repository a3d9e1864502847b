"""What a simulation must show: its temperature, its bond lengths, its stereochemistry."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tito_fast.data.convert.mdtraj_files import read_frames
from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.validity import ValidityCounter
from tito_fast.md.directory import ReplicaState
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.presets import Preset
from tito_fast.md.system import n_degrees_of_freedom

if TYPE_CHECKING:
    import openmm

TEMPERATURE_TOLERANCE: Final = 0.02
"""Accepted deviation of the mean temperature, as a share of the target, where the run is long enough."""

MEAN_BOND_TOLERANCE: Final = 0.1
"""Accepted deviation of a bond's mean length from the force field's: at most 0.045 in our MD."""

BOND_TOLERANCE: Final = 0.3
"""Accepted deviation of a single bond length: at most 0.15 in our MD at 310 K."""

_MAX_STANDARD_ERRORS: Final = 4.0


def check_simulation(
    path: Path,
    molecule: Molecule,
    system: "openmm.System",
    preset: Preset,
    states: Mapping[int, ReplicaState],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content of ``checks.json`` and of ``validity.json`` of the simulation in ``path``.

    The files are read in blocks. The mean temperature must be within 2 % of the target, or within four
    expected standard errors where the run is too short for that; velocities are taken as independent
    after 1/friction.

    Parameters
    ----------
    path : Path
    molecule : Molecule
        At its start structure.
    system : openmm.System
    preset : Preset
    states : mapping of int to ReplicaState
        By replica.
    """
    temperature = _temperature(system, preset, states)
    bonds, validity = _geometry(path, molecule, system, states)
    counts = validity["all"]
    stereo = {
        "stereocenters": len(validity["stereocenters"]),
        "double_bonds": len(validity["double_bonds"]),
        "inverted_frames": counts["inverted_frames"],
        "flipped_frames": counts["flipped_frames"],
    }
    lost = sorted(replica for replica, state in states.items() if state.lost_at_frame >= 0)
    problems = [f"replica {replica} became NaN" for replica in lost]
    mean_k = temperature["mean_k"]
    if mean_k is not None and abs(mean_k - preset.temperature_k) > temperature["allowed_k"]:
        problems.append(
            f"mean temperature {mean_k:.1f} K, expected {preset.temperature_k:g} ± {temperature['allowed_k']:.1f} K"
        )
    for what, limit in (
        ("largest_mean_deviation", MEAN_BOND_TOLERANCE),
        ("largest_deviation", BOND_TOLERANCE),
    ):
        if bonds[what] is not None and bonds[what] > limit:
            problems.append(
                f"bond lengths: {what.replace('_', ' ')} from the force field's {bonds[what]:.3f}, "
                f"expected at most {limit:g}"
            )
    if counts["inverted_frames"] or counts["flipped_frames"]:
        problems.append(
            f"stereochemistry: {counts['inverted_frames']} frames with an inverted stereocenter, "
            f"{counts['flipped_frames']} with a flipped double bond"
        )
    energies = [s.energy_sum_kj_per_mol for s in states.values()]
    n_measured = sum(state.n_measured for state in states.values())
    checks = {
        "passed": not problems,
        "problems": problems,
        "temperature": temperature,
        "bonds": bonds,
        "stereo": stereo,
        "energy": {"mean_kj_per_mol": sum(energies) / n_measured if n_measured else None},
        "lost_replicas": {str(r): states[r].lost_at_frame for r in lost},
    }
    return checks, validity


def _temperature(
    system: "openmm.System", preset: Preset, states: Mapping[int, ReplicaState]
) -> dict[str, Any]:
    n_dof = n_degrees_of_freedom(system)
    n_frames = sum(state.n_measured for state in states.values())
    mean_k = sum(s.temperature_sum_k for s in states.values()) / n_frames if n_frames else None
    time_ps = sum(1e-3 * state.step * preset.step_fs for state in states.values())
    # Each velocity forgets itself at the rate of the friction, so its square at twice that.
    n_independent = max(1.0, min(n_frames, time_ps * preset.friction_per_ps))
    error_k = preset.temperature_k * math.sqrt(2.0 / (n_dof * n_independent))
    return {
        "target_k": preset.temperature_k,
        "mean_k": mean_k,
        "expected_standard_error_k": error_k,
        "allowed_k": max(
            TEMPERATURE_TOLERANCE * preset.temperature_k, _MAX_STANDARD_ERRORS * error_k
        ),
        "n_frames": n_frames,
        "degrees_of_freedom": n_dof,
        "replicas": [
            {
                "mean_k": state.mean_temperature_k,
                "minimum_k": state.minimum_temperature_k if state.n_measured else None,
                "maximum_k": state.maximum_temperature_k if state.n_measured else None,
            }
            for _, state in sorted(states.items())
        ],
    }


def _geometry(
    path: Path,
    molecule: Molecule,
    system: "openmm.System",
    states: Mapping[int, ReplicaState],
) -> tuple[dict[str, Any], dict[str, Any]]:
    pairs, equilibrium_nm = equilibrium_bonds(system)
    counter = ValidityCounter(molecule)
    sums = np.zeros(len(equilibrium_nm))
    largest, n_frames = 0.0, 0
    for replica, state in sorted(states.items()):
        if not state.n_measured:
            continue
        for block in read_frames(path / f"rep_{replica:04d}.xtc", path / "topology.pdb"):
            frames = np.asarray(block.positions)
            counter.update(np.full(len(frames), replica), frames)
            vectors = frames[:, pairs[0]] - frames[:, pairs[1]]
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1)
            sums += lengths.sum(axis=0)
            largest = max(largest, _largest(lengths / equilibrium_nm))
            n_frames += len(frames)
    has_bonds = bool(n_frames and len(equilibrium_nm))
    means = sums / max(n_frames, 1)
    worst = int(np.argmax(np.abs(means / equilibrium_nm - 1.0))) if has_bonds else 0
    bonds = {
        "n_bonds": len(equilibrium_nm),
        "largest_mean_deviation": _largest(means / equilibrium_nm) if has_bonds else None,
        "largest_mean_deviation_atoms": pairs[:, worst].tolist() if has_bonds else None,
        "largest_deviation": largest if has_bonds else None,
    }
    return bonds, counter.result()


def _largest(ratios: FloatArray) -> float:
    return float(np.abs(ratios - 1.0).max(initial=0.0))


def equilibrium_bonds(system: "openmm.System") -> tuple[IntArray, FloatArray]:
    """Return atoms (2, n) and lengths in nm (n,) of the harmonic bonds and constraints of ``system``."""
    openmm = import_openmm()
    nanometer = openmm.unit.nanometer
    rows = [
        (*force.getBondParameters(i)[:2], force.getBondParameters(i)[2].value_in_unit(nanometer))
        for force in system.getForces()
        if isinstance(force, openmm.HarmonicBondForce)
        for i in range(force.getNumBonds())
    ]
    for i in range(system.getNumConstraints()):
        first, second, length = system.getConstraintParameters(i)
        rows.append((first, second, length.value_in_unit(nanometer)))
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return table[:, :2].T.astype(np.int64), table[:, 2].copy()
