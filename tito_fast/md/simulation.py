"""Simulating: molecules in, one directory of reference trajectories for each, out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers import read_molecules
from tito_fast.data.run_directory import check_out, run_paths
from tito_fast.md.config import SimulationConfig
from tito_fast.md.contexts import check_platform
from tito_fast.md.crew import n_cores, work_off
from tito_fast.md.molecule_simulation import MoleculeSimulation, SimulationResult
from tito_fast.md.openmm_import import import_openmm
from tito_fast.md.progress import Board, SimulationProgress
from tito_fast.md.repair import read_complete


def simulate(
    inputs: str | Path | Molecule | Sequence[str | Path | Molecule],
    config: SimulationConfig,
    *,
    out: str | Path,
    overwrite: bool = False,
    on_progress: Callable[[SimulationProgress], None] | None = None,
    on_prepare: Callable[[Molecule], None] | None = None,
) -> list[SimulationResult]:
    """Simulate molecules, or go on with the simulations in ``out``.

    Parameters
    ----------
    inputs : str, path or Molecule, or several
        SMILES, peptide sequence, PDB or SDF file (:func:`tito_fast.read_molecule`); a peptide's PDB file that
        lacks atoms is completed by PDBFixer, and the molecule's notes say by which.
    config : SimulationConfig
    out : path
        Directory of the run; with several inputs each molecule has a sub-directory of its name.
    overwrite : bool
        Start afresh where a run exists.
    on_progress : callable, optional
        Told about twice a second.
    on_prepare : callable, optional
        Told of every molecule before its parameters are made, which may take minutes.

    Returns
    -------
    list of SimulationResult
        In the order of ``inputs``.

    Raises
    ------
    ImportError
        OpenMM is missing.
    ValueError
        A molecule that the force field does not know, a run with other settings.
    RuntimeError
        AmberTools is missing or fails.
    OSError
        The disk; what was written before stays whole.
    ProcessLostError
        One of several processes was killed; what was simulated is kept.

    Notes
    -----
    Running the same call again continues after a kill, and extends the trajectories when there is more time
    or are more replicas. A trajectory is a function of (seed, molecule, replica) on one version of OpenMM and
    one platform, on Reference bit for bit: neither restarts nor the number of processes change it.
    """
    import_openmm()
    check_platform(config.platform)
    many = [inputs] if isinstance(inputs, str | Path | Molecule) else list(inputs)
    molecules = read_molecules(
        [each if isinstance(each, Molecule) else read_complete(each) for each in many]
    )
    if config.init_from is not None and len(molecules) > 1:
        raise ValueError(
            f"init_from: expected samples of one molecule, got {len(molecules)} molecules"
        )
    paths = run_paths(Path(out), molecules)
    for path in paths:
        check_out(path)
    runs: list[MoleculeSimulation] = []
    try:
        for molecule, path in zip(molecules, paths, strict=True):
            run = MoleculeSimulation.open(
                path, molecule, config, overwrite=overwrite, on_prepare=on_prepare
            )
            runs.append(run)
        _simulate_all(runs, config, on_progress)
        return [run.finish() for run in runs]
    except BaseException:
        for run in runs:
            run.directory.set_status("interrupted")
        raise
    finally:
        for run in runs:
            run.directory.close()


def _simulate_all(
    runs: Sequence[MoleculeSimulation],
    config: SimulationConfig,
    on_progress: Callable[[SimulationProgress], None] | None,
) -> None:
    jobs = [(run, job) for run in runs for job in run.jobs()]
    if not jobs:
        return
    for run in {id(run): run for run, _ in jobs}.values():
        run.forget_results()
    board = Board(runs, jobs, config, on_progress)
    n_processes = config.n_jobs or n_cores()
    for index, state in work_off(
        [job for _, job in jobs], n_processes=n_processes, on_message=board.hear
    ):
        run, job = jobs[index]
        run.states[job.payload.replica] = state
    board.log()
