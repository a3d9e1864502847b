"""``tito-fast train-equilibrium``: what users type, and what they are told."""

import numpy as np
import pytest

from tito_fast.cli.main import run
from tito_fast.data.convert.writer import Frames, StoreWriter
from tito_fast.models.tbg.checkpoint import read_tbg_checkpoint

QUICK = {
    "out": "run",
    "encoding": "element",
    "elements": "1,6,7,8,9,16",
    "features": "4",
    "layers": "1",
    "steps": "2",
    "batch-size": "3",
    "log-every": "1",
    "device": "cpu",
}


@pytest.fixture
def train(tmp_path, make_molecule, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    molecule = make_molecule(4)
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "store", converter="test", source_name="test") as writer:
        writer.add_molecule(molecule)
        for split in ("train", "val"):
            frames = [Frames(positions=molecule.positions + 0.02 * rng.normal(size=(20, 4, 3)))]
            writer.add_trajectory(0, frames, name=split, split=split, frame_interval_ps=1.0)

    def call(**changed):
        words = [word for name, value in (QUICK | changed).items() for word in (f"--{name}", value)]
        status = run(["train-equilibrium", "store", *words])
        return status, capsys.readouterr()

    return call


def test_a_run_prints_lines_and_where_the_model_is_and_goes_on(train, tmp_path):
    status, told = train()
    assert status == 0
    assert told.out == "run/last.safetensors: 2 steps\n"
    first, last = told.err.splitlines()
    assert first.startswith("step 1 of 2, loss ")
    assert "validation loss" in last
    model = read_tbg_checkpoint(tmp_path / "run" / "last.safetensors")
    assert (model.config.n_features, model.config.elements) == (4, (1, 6, 7, 8, 9, 16))
    status, told = train(steps="3")
    assert (status, told.err.count("step ")) == (0, 1)
    status, told = train(layers="2")
    assert status == 1
    assert "error: model: expected {" in told.err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"elements": "C,H"}, "elements: expected atomic numbers such as 1,6,7,8, got 'C,H'"),
        ({"encoding": "names"}, "encoding: expected one of element, backbone, full, got 'names'"),
        ({"encoding": "full"}, "molecule: expected a dipeptide of the 20 amino acids"),
        ({"train-split": "all"}, "split: expected one of train, val, got 'all'"),
        ({"steps": "0"}, "n_steps: expected at least 1, got 0"),
    ],
)
def test_bad_input_ends_in_one_sentence(train, changed, message):
    status, told = train(**changed)
    assert status == 1
    assert f"error: {message}" in told.err
    assert "Traceback" not in told.err
