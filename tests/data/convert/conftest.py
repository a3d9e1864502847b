import mdtraj
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem


@pytest.fixture
def embedded():
    """Return a function: SMILES to an RDKit molecule with hydrogens and coordinates."""

    def make(smiles):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
        return mol

    return make


@pytest.fixture
def shaken():
    """Return a function: a molecule's frames, (n_frames, n_atoms, 3) float32 in nm, off center."""

    def make(mol, n_frames, *, seed=0):
        base = 0.1 * np.asarray(mol.GetConformer().GetPositions())
        noise = np.random.default_rng(seed).normal(scale=0.002, size=(n_frames, *base.shape))
        return (base + noise + 0.3).astype(np.float32)

    return make


@pytest.fixture
def write_run():
    """Return a function that writes topology.pdb, molecule.sdf and a trajectory into a folder."""

    def make(folder, mol, positions, *, times, suffix=".xtc", sdf=True):
        folder.mkdir(parents=True)
        (folder / "topology.pdb").write_text(Chem.MolToPDBBlock(mol, flavor=4))
        if sdf:
            (folder / "molecule.sdf").write_text(Chem.MolToMolBlock(mol) + "$$$$\n")
        top = mdtraj.load_topology(str(folder / "topology.pdb"))
        mdtraj.Trajectory(positions, top, time=np.asarray(times)).save(
            str(folder / f"trajectory{suffix}")
        )
        return folder

    return make


@pytest.fixture
def centered():
    """Return a function: frames in float64 with each frame's center removed."""

    def make(positions):
        positions = np.asarray(positions, dtype=np.float64)
        return positions - positions.mean(axis=1, keepdims=True)

    return make
