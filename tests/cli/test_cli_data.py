import json

import mdtraj
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem
from typer.testing import CliRunner

from tito_fast.cli.data import app
from tito_fast.data.store import POSITIONS_FILE, open_store


@pytest.fixture
def source(tmp_path):
    """Write one molecule, in a split each, in the layout of folders; return the set's folder."""
    mol = Chem.AddHs(Chem.MolFromSmiles("CC=O"))
    AllChem.EmbedMolecule(mol, randomSeed=7)
    base = 0.1 * np.asarray(mol.GetConformer().GetPositions())
    frames = base + np.random.default_rng(0).normal(scale=0.002, size=(6, *base.shape))
    for split in ("train", "val"):
        folder = tmp_path / "set" / split / "ethanal"
        folder.mkdir(parents=True)
        (folder / "topology.pdb").write_text(Chem.MolToPDBBlock(mol, flavor=4))
        (folder / "molecule.sdf").write_text(Chem.MolToMolBlock(mol))
        top = mdtraj.load_topology(str(folder / "topology.pdb"))
        mdtraj.Trajectory(frames, top, time=np.arange(6) * 0.5).save_xtc(
            str(folder / "trajectory.xtc")
        )
    return tmp_path / "set"


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_convert_info_and_check_agree(tmp_path, source):
    made = call("convert", source, tmp_path / "out")
    assert made.exit_code == 0, made.output
    assert "2 (train 1, val 1)" in made.stdout
    shown = call("info", tmp_path / "out")
    assert shown.exit_code == 0
    assert shown.stdout == made.stdout
    facts = json.loads(call("info", tmp_path / "out", "--json").stdout)
    assert facts["n_frames"] == 12
    assert facts["frame_interval_ps"] == [0.5, 0.5]
    assert facts["elements"] == ["H", "C", "O"]
    assert facts["bond_types"] == [1, 2]
    assert facts["content_hash"] == open_store(tmp_path / "out").content_hash
    assert facts["content_hash"] in shown.stdout
    checked = call("check", tmp_path / "out")
    assert checked.exit_code == 0
    assert "no problems in 2 trajectories of 12 frames" in checked.stdout


def test_check_fails_on_a_damaged_store(tmp_path, source):
    assert call("convert", source, tmp_path / "out").exit_code == 0
    file = tmp_path / "out" / POSITIONS_FILE
    data = bytearray(file.read_bytes())
    data[5] ^= 4
    file.write_bytes(bytes(data))
    checked = call("check", tmp_path / "out")
    assert checked.exit_code == 1
    assert "positions.f32: expected sha256" in checked.stderr
    assert call("check", tmp_path / "none").exit_code == 1


def test_one_split_is_converted(tmp_path, source):
    assert call("convert", source, tmp_path / "out", "--split", "val").exit_code == 0
    assert open_store(tmp_path / "out").splits == ("val",)


def test_a_topology_with_trajectories_is_converted(tmp_path, source):
    run, other = source / "train" / "ethanal", source / "val" / "ethanal"
    made = call(
        *("convert", run / "topology.pdb", tmp_path / "out", "--sdf", run / "molecule.sdf"),
        *("--trajectory", run / "trajectory.xtc", "--trajectory", other / "trajectory.xtc"),
        *("--interval", "500fs", "--temperature", 300, "--split", "test"),
    )
    assert made.exit_code == 0, made.output
    store = open_store(tmp_path / "out")
    assert [(row.split, row.temperature_k) for row in store.trajectories] == [("test", 300.0)] * 2
    assert store.molecules[0].smiles == "CC=O"
    by_smiles = call(
        *("convert", run / "topology.pdb", tmp_path / "out2", "--smiles", "CC=O"),
        *("--trajectory", run / "trajectory.xtc"),
    )
    assert by_smiles.exit_code == 0, by_smiles.output
    assert set(open_store(tmp_path / "out2").molecules[0].bond_type.tolist()) == {1, 2}


def test_overwriting_must_be_asked_for(tmp_path, source):
    assert call("convert", source, tmp_path / "out", "--split", "val").exit_code == 0
    refused = call("convert", source, tmp_path / "out")
    assert refused.exit_code == 1
    assert "destination: expected a path where nothing is yet" in str(refused.exception)
    assert open_store(tmp_path / "out").splits == ("val",)
    assert call("convert", source, tmp_path / "out", "--overwrite").exit_code == 0
    assert open_store(tmp_path / "out").splits == ("train", "val")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--spacing", "5ps"], r"--spacing: expected no such option for format mdtraj"),
        (["--limit", "3"], r"--limit: expected no such option for format mdtraj"),
        (["--interval", "5"], r"interval: expected a time with a unit"),
        (["--interval", "2ps"], r"time stamps: expected one frame every 2 ps"),
        (["--split", "other"], r"splits: expected a folder 'other'"),
        (["--format", "mdqm9"], r"source: expected one file .hdf5 or .h5"),
        (["--format", "timewarp"], r"source: expected files \*-traj-arrays.npz"),
    ],
)
def test_bad_options_end_in_one_sentence(tmp_path, source, options, message):
    result = call("convert", source, tmp_path / "out", *options)
    assert result.exit_code != 0
    with pytest.raises(ValueError, match=message):
        raise result.exception
    assert not (tmp_path / "out").exists()


def test_bad_sources_end_in_one_sentence(tmp_path, source):
    topology = source / "train" / "ethanal" / "topology.pdb"
    for arguments, message in (
        ((tmp_path / "none",), r"source: expected a file or directory, got"),
        ((topology,), r"--trajectory: expected a trajectory of the topology"),
        ((topology, "--split", "a", "--split", "b"), r"--trajectory|--split: expected one split"),
    ):
        result = call("convert", arguments[0], tmp_path / "out", *arguments[1:])
        assert result.exit_code != 0
        with pytest.raises(ValueError, match=message):
            raise result.exception
    result = call("info", tmp_path)
    assert result.exit_code != 0
    with pytest.raises(ValueError, match=r"store: expected a directory with manifest.json"):
        raise result.exception
    assert call("convert", source, tmp_path / "out", "--format", "pdb").exit_code == 2
