"""Small molecules, fast presets and directories for simulations of picoseconds."""

from dataclasses import replace

import numpy as np
import pytest

from tito_fast.data.readers import from_sequence
from tito_fast.md import PRESETS, SimulationConfig, simulate
from tito_fast.md.gaff import missing_programs


@pytest.fixture(scope="session")
def glycine():
    """Diglycine, a zwitterion of 17 atoms."""
    return from_sequence("GG")


@pytest.fixture(scope="session")
def alanine():
    """ACE-ALA-NME: 22 atoms, one stereocenter."""
    return from_sequence("ACE-A-NME")


@pytest.fixture(scope="session")
def vacuum():
    """A preset that is quick on the Reference platform: ff14SB without solvent."""
    return replace(PRESETS["fast"], name="vacuum", solvent="vacuum", equilibration_ps=0.1)


@pytest.fixture
def run_simulation(glycine, vacuum, tmp_path):
    """Return a function that simulates diglycine for some tenths of a picosecond."""

    def run(name="run", molecule=glycine, *, overwrite=False, on_progress=None, **changes):
        options = {
            "preset": vacuum,
            "time_ps": 1.0,
            "save_every_ps": 0.1,
            "platform": "Reference",
            "n_jobs": 1,
        }
        config = SimulationConfig(**{**options, **changes})
        (result,) = simulate(
            molecule, config, out=tmp_path / name, overwrite=overwrite, on_progress=on_progress
        )
        return result

    return run


@pytest.fixture(scope="session")
def gaff():
    """Skip, visibly, where the programs of AmberTools are not installed."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"no {', '.join(missing)}: pip install 'tito_fast[gaff]'")


@pytest.fixture
def shaken():
    """Return a function: structures around a molecule's own, (n_frames, n_atoms, 3) float64 in nm."""

    def make(molecule, n_frames, *, scale=0.005, seed=0):
        noise = np.random.default_rng(seed).normal(
            scale=scale, size=(n_frames, molecule.n_atoms, 3)
        )
        return molecule.positions + noise

    return make
