"""Where replicas start: each from a sample of its own, of a Boltzmann generator or any trajectory.

The directory of such a run has ``starts.npz``: ``sample_idx`` (n_replicas,), the sample of each replica;
``positions`` (n_replicas, n_atoms, 3) in nm, after the minimization; ``energies_kj_per_mol`` and
``sample_energies_kj_per_mol`` (n_replicas,), after it and of the samples as they were.
"""

import io
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.bg_samples import read_bg_samples, systematic_resample
from tito_fast.data.configuration_checks import check_configurations
from tito_fast.data.convert.mdtraj_files import read_frames, read_topology
from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.run_directory import ADVICE, json_bytes, trajectory_files
from tito_fast.data.writers.disk import replace_file
from tito_fast.md.config import SimulationConfig
from tito_fast.md.contexts import (
    GAS_CONSTANT_KJ_PER_MOL_K,
    centered,
    derived_seed,
    make_context,
    masses_amu,
    positions_nm,
    potential_energy,
)
from tito_fast.md.directory import STARTS, SYSTEM_JSON, read_system_json
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.system import n_degrees_of_freedom

if TYPE_CHECKING:
    import openmm

MAX_START_ENERGY: Final = 5.0
"""A start may lie so many kT for every degree of freedom above the minimum; thermal ones lie about 0.5."""

_ARRAYS: Final = ("sample_idx", "positions", "energies_kj_per_mol", "sample_energies_kj_per_mol")
_TOLERANCE_KJ_PER_MOL_NM: Final = 10.0
_PURPOSE: Final = 4  # beside those of a replica's seeds
_N_NAMED: Final = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class StartSamples:
    """Samples to start from.

    Parameters
    ----------
    positions : ndarray, shape (n_samples, n_atoms, 3)
        In nm.
    log_weights : ndarray, shape (n_samples,), float64
        Minus infinity for samples that are not the molecule; equal for all others where none are given.
    is_weighted : bool
    source : str
        Name of the file.
    content_hash : str
        SHA-256 of positions and weights.
    counts : dict of str to int
        What the checks of topology and chirality found.
    """

    positions: NDArray[np.floating]
    log_weights: FloatArray
    is_weighted: bool
    source: str
    content_hash: str
    counts: dict[str, int]


def read_start_samples(path: Path | str, molecule: Molecule) -> StartSamples:
    """Read samples of ``molecule``, and leave out those of another topology or chirality.

    Parameters
    ----------
    path : path
        ``.npz`` of :mod:`tito_fast.data.bg_samples`, with or without weights; a trajectory that mdtraj
        reads, with the molecule's atoms in its order; or the directory of a run.
    molecule : Molecule

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the samples are of other atoms, or none is left.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"init_from: expected a file of samples, got no {path}")
    weights: FloatArray | None = None
    if path.suffix.lower() == ".npz":
        samples = read_bg_samples(path)
        positions: NDArray[np.floating] = samples.positions
        weights = samples.log_weights
        _check_same_molecule(samples.molecule, molecule, path)
    else:
        positions = _trajectory_positions(path, molecule)
    digest = sha256(np.ascontiguousarray(positions, dtype="<f4").tobytes())
    if weights is not None:
        digest.update(np.ascontiguousarray(weights, dtype="<f8").tobytes())
    checked = check_configurations(molecule, positions)
    log_weights = np.zeros(len(positions)) if weights is None else weights
    log_weights = np.where(checked.is_kept, log_weights, -np.inf)
    if not np.isfinite(log_weights).any():
        raise ValueError(
            f"init_from: expected samples with the bonds and the chirality of {molecule.name!r}, got none "
            f"among {len(positions)} in {path}"
        )
    return StartSamples(
        positions=checked.positions,
        log_weights=log_weights,
        is_weighted=weights is not None,
        source=path.name,
        content_hash=digest.hexdigest(),
        counts=checked.counts,
    )


def write_starts(
    path: Path,
    samples: StartSamples,
    system: "openmm.System",
    molecule: Molecule,
    config: SimulationConfig,
) -> None:
    """Choose a sample for each replica that has none yet, minimize it a little, and record both.

    Samples are drawn by weight (:func:`~tito_fast.data.bg_samples.systematic_resample`), seeded by the run's seed,
    the molecule and the number of replicas that were there before; earlier choices stay.

    Parameters
    ----------
    path : Path
        Directory of the run.
    samples : StartSamples
    system : openmm.System
    molecule : Molecule
        At its minimum.
    config : SimulationConfig

    Raises
    ------
    ValueError
        If the energy of a start is not finite, or far above the minimum.
    """
    known = _read(path)
    first = len(known["sample_idx"]) if known else 0
    n_new = config.n_replicas - first
    if n_new > 0:
        rng = np.random.default_rng([config.seed, molecule.noise_hash, _PURPOSE, first])
        chosen = systematic_resample(samples.log_weights, n_new, rng=rng)
        new = _minimized(samples, chosen, system, molecule, config)
        arrays = {
            name: np.concatenate([known[name], new[name]]) if known else new[name]
            for name in _ARRAYS
        }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        replace_file(path / STARTS, buffer.getvalue())
        known = arrays
    description = {**read_system_json(path), "starts": _record(samples, known, config)}
    replace_file(path / SYSTEM_JSON, json_bytes(description))


def start_positions(path: Path, replica: int) -> FloatArray | None:
    """Return where ``replica`` of the run in ``path`` starts, (n_atoms, 3) in nm; None: at the minimum.

    Raises
    ------
    ValueError
        If ``starts.npz`` is damaged.
    """
    known = _read(path)
    return np.asarray(known["positions"][replica], dtype=np.float64) if known else None


def _read(path: Path) -> dict[str, NDArray[Any]]:
    file = path / STARTS
    if not file.is_file():
        return {}
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as content:
            return {name: content[name] for name in _ARRAYS}
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{file}: expected the starts of replicas, got other data ({error}); {ADVICE}"
        ) from error


def _minimized(
    samples: StartSamples,
    chosen: IntArray,
    system: "openmm.System",
    molecule: Molecule,
    config: SimulationConfig,
) -> dict[str, NDArray[Any]]:
    openmm, preset = import_openmm(), config.resolved_preset
    seed = derived_seed(config.seed, molecule.noise_hash, _PURPOSE)
    context = make_context(system, preset, platform="Reference", seed=seed)
    context.setPositions(molecule.positions)
    kt = GAS_CONSTANT_KJ_PER_MOL_K * preset.temperature_k
    limit = potential_energy(context) + MAX_START_ENERGY * kt * n_degrees_of_freedom(system)
    masses = masses_amu(system)
    positions = np.zeros((len(chosen), molecule.n_atoms, 3))
    before, after = np.zeros(len(chosen)), np.zeros(len(chosen))
    for row, sample in enumerate(chosen.tolist()):
        context.setPositions(samples.positions[sample].astype(np.float64))
        before[row] = potential_energy(context)
        if config.n_minimization_steps and np.isfinite(before[row]):
            openmm.LocalEnergyMinimizer.minimize(
                context, _TOLERANCE_KJ_PER_MOL_NM, config.n_minimization_steps
            )
        context.applyConstraints(context.getIntegrator().getConstraintTolerance())
        after[row] = potential_energy(context)
        positions[row] = centered(positions_nm(context), masses)
    # Also true for NaN.
    is_high = ~(after <= limit)
    if is_high.any():
        names = ", ".join(map(str, np.unique(chosen[is_high])[:_N_NAMED].tolist()))
        raise ValueError(
            f"init_from: expected starts below {limit:.0f} kJ/mol, got up to {after.max():.4g} kJ/mol for "
            f"{int(is_high.sum())} of {len(chosen)}, samples {names}; raise --minimize, or leave them out"
        )
    return {
        "sample_idx": chosen,
        "positions": positions,
        "energies_kj_per_mol": after,
        "sample_energies_kj_per_mol": before,
    }


def _record(
    samples: StartSamples, known: dict[str, NDArray[Any]], config: SimulationConfig
) -> dict[str, Any]:
    indices, counts = np.unique(known["sample_idx"], return_counts=True)
    shares = np.exp(samples.log_weights - samples.log_weights.max())
    energies = known["energies_kj_per_mol"]
    return {
        "source": samples.source,
        "sha256": samples.content_hash,
        "is_weighted": samples.is_weighted,
        "checks": samples.counts,
        "effective_samples": float(shares.sum() ** 2 / (shares**2).sum()),
        "replicas_by_sample": {
            str(index): int(count) for index, count in zip(indices, counts, strict=True)
        },
        "n_minimization_steps": config.n_minimization_steps,
        "energy_kj_per_mol": {
            "minimum": float(energies.min()),
            "mean": float(energies.mean()),
            "maximum": float(energies.max()),
        },
    }


def _trajectory_positions(path: Path, molecule: Molecule) -> NDArray[np.floating]:
    import mdtraj  # noqa: PLC0415  slow to import

    from tito_fast.data.topology import to_mdtraj_topology  # noqa: PLC0415  imports mdtraj

    if path.suffix.lower() == ".pdb":
        found = [atom.element.number for atom in read_topology(path).topology.atoms]
        if found != molecule.atomic_numbers.tolist():
            raise ValueError(_other_atoms(molecule, path))
    structure = mdtraj.Trajectory(molecule.positions[None], to_mdtraj_topology(molecule))
    files = trajectory_files(path) if path.is_dir() else [path]
    blocks = [
        np.asarray(block.positions)
        for file in files
        for block in read_frames(file, file, structure=structure)
    ]
    if not blocks or any(block.shape[1:] != (molecule.n_atoms, 3) for block in blocks):
        raise ValueError(_other_atoms(molecule, path))
    return np.concatenate(blocks)


def _check_same_molecule(found: Molecule, wanted: Molecule, path: Path) -> None:
    bonds = [set(map(tuple, each.bond_index.T.tolist())) for each in (found, wanted)]
    if not np.array_equal(found.atomic_numbers, wanted.atomic_numbers) or bonds[0] != bonds[1]:
        raise ValueError(_other_atoms(wanted, path))


def _other_atoms(molecule: Molecule, path: Path) -> str:
    return (
        f"init_from: expected samples of {molecule.name!r}, its {molecule.n_atoms} atoms in its order, got "
        f"others in {path}"
    )
