"""Potential energies of many structures: one context for all of them in each process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray
from tito_fast.md.contexts import check_platform, energy_context, potential_energy
from tito_fast.md.crew import Job, Tell, work_off
from tito_fast.md.directory import SYSTEM_XML
from tito_fast.md.openmm_import import import_openmm
from tito_fast.validation import check_at_least

if TYPE_CHECKING:
    import openmm

# Some blocks for each process, so that all end at nearly the same time.
_BLOCKS_PER_PROCESS: Final = 4


@dataclass(frozen=True, eq=False)
class _EnergyJob:
    system_xml: str
    positions: FloatArray
    platform: str


def potential_energies(
    system: "openmm.System | Path | str",
    positions: NDArray[np.floating],
    *,
    platform: str = "Reference",
    n_jobs: int = 1,
) -> FloatArray:
    """Return the potential energy of each frame.

    Parameters
    ----------
    system : openmm.System or path
        A system, a ``system.xml``, or the directory of a simulation or relaxation, which has one.
    positions : ndarray, shape (n_frames, n_atoms, 3)
        In nm, atoms in the system's order.
    platform : str
        OpenMM's name. Reference computes in float64; CPU in float32, and is faster beyond some 80 atoms.
    n_jobs : int
        Processes to share the frames among, each with one thread and one context.

    Returns
    -------
    ndarray, shape (n_frames,), float64
        In kJ/mol; NaN for a frame that is not finite.

    Raises
    ------
    ImportError
        If OpenMM is not installed.
    ValueError
        If there is no system, or the shape of ``positions`` is another.

    Notes
    -----
    Bonds that the system constrains have no energy, so samples of a model are best evaluated without
    constraints: ``openmm_system(molecule, preset_of("fast", constraints="none"))``.
    """
    openmm = import_openmm()
    check_at_least("n_jobs", n_jobs, 1)
    if platform == "auto":
        raise ValueError("platform: expected a platform's name, got 'auto'")
    check_platform(platform)
    loaded = read_system(system) if isinstance(system, str | Path) else system
    frames = np.asarray(positions, dtype=np.float64)
    n_atoms = loaded.getNumParticles()
    if frames.ndim != 3 or frames.shape[1:] != (n_atoms, 3):
        raise ValueError(f"positions: expected shape (n_frames, {n_atoms}, 3), got {frames.shape}")
    if n_jobs == 1 or len(frames) < 2:
        return _energies(loaded, frames, platform)
    blocks = np.array_split(np.arange(len(frames)), min(len(frames), n_jobs * _BLOCKS_PER_PROCESS))
    xml = openmm.XmlSerializer.serialize(loaded)
    jobs = [
        Job(__name__, "energies_of_job", _EnergyJob(xml, frames[block], platform))
        for block in blocks
    ]
    energies = np.empty(len(frames))
    for index, values in work_off(jobs, n_processes=n_jobs, on_message=lambda _: None):
        energies[blocks[index]] = values
    return energies


def read_system(path: Path | str) -> "openmm.System":
    """Return the system of an XML file, or of a directory that holds ``system.xml``.

    Raises
    ------
    ValueError
        If there is none.
    """
    openmm = import_openmm()
    file = Path(path) / SYSTEM_XML if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ValueError(
            f"system: expected an OpenMM system (system.xml), got none at {file}; simulate the molecule, "
            "or make one with tito_fast.md.openmm_system"
        )
    try:
        system = openmm.XmlSerializer.deserialize(file.read_text("utf-8"))
    except (openmm.OpenMMException, ValueError) as error:
        raise ValueError(f"system: expected an OpenMM system in {file}, got {error}") from error
    if not isinstance(system, openmm.System):
        kind = type(system).__name__
        raise ValueError(f"system: expected a System in {file}, got a {kind}")  # noqa: TRY004  the value of a file
    return system


_KEPT: dict[tuple[str, str], Any] = {}


def energies_of_job(job: _EnergyJob, _tell: Tell) -> FloatArray:
    """Return the energies of a block; the context of the last system is kept."""
    openmm = import_openmm()
    key = (job.system_xml, job.platform)
    if key not in _KEPT:
        _KEPT.clear()
        system = openmm.XmlSerializer.deserialize(job.system_xml)
        _KEPT[key] = energy_context(system, platform=job.platform)
    return _energies_in(_KEPT[key], job.positions)


def _energies(system: "openmm.System", frames: FloatArray, platform: str) -> FloatArray:
    return _energies_in(energy_context(system, platform=platform), frames)


def _energies_in(context: "openmm.Context", frames: Sequence[Any] | FloatArray) -> FloatArray:
    energies = np.full(len(frames), np.nan)
    for index, frame in enumerate(frames):
        if np.isfinite(frame).all():
            context.setPositions(frame)
            energies[index] = potential_energy(context)
    return energies
