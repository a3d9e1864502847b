"""``tito-fast relax``: what users type, and what they are told."""

import json

import mdtraj as md
import pytest

from tito_fast.cli.main import run
from tito_fast.models.load import save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel

QUICK = {"time": "0.1ps", "platform": "Reference", "jobs": "1"}
NETWORK = TitoConfig(n_features=8, n_embedding_layers=2, n_model_layers=1, max_lag_ps=100.0)
INFO = ModelInfo(length_unit_nm=0.2, elements=(1, 6, 7, 8), bond_types=(0, 1, 2, 3), min_lag_ps=1.0)


@pytest.fixture
def rollout(tmp_path, monkeypatch):
    """A rollout of ACE-GLY-NME by a model that was never trained: its samples are torn apart."""
    monkeypatch.chdir(tmp_path)
    save_model(TitoModel.create(NETWORK, INFO, seed=0), tmp_path / "model.safetensors")
    words = "--lag 100ps --n-steps 3 --ode-steps 2 --no-figure --out rollout"
    assert run(["sample", "ACE-G-NME", "--model", "model.safetensors", *words.split()]) == 0
    return "rollout"


@pytest.fixture
def relax(tmp_path, capsys):
    """Run the command; return status, standard output and standard error."""

    def call(*arguments, **changed):
        options = QUICK | changed
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        capsys.readouterr()
        status = run(["relax", *arguments, *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_a_rollout_is_relaxed(rollout, relax, tmp_path):
    status, out, _ = relax(rollout)
    report = json.loads((tmp_path / "rollout_relaxed" / "relax.json").read_text())
    # The start, frame 0, is sound; what a model without training draws need not be.
    (n_kept,) = report["n_frames_relaxed"]
    assert status == 0
    assert n_kept >= 1
    assert n_kept + report["n_failed"] == 4
    assert out.startswith(f"rollout_relaxed: {n_kept} frames of 1 replicas relaxed, ")
    frames = md.load(
        tmp_path / "rollout_relaxed" / "rep_0000.xtc",
        top=tmp_path / "rollout_relaxed" / "topology.pdb",
    )
    assert frames.n_frames == n_kept
    failed = {entry["frame"] for entry in report["failed"]}
    assert frames.time.tolist() == [100.0 * i for i in range(4) if i not in failed]


def test_options_reach_the_relaxation(rollout, relax, tmp_path):
    options = {"every": 3, "out": "third", "temperature": 280, "minimize": 10, "seed": 4}
    assert relax(rollout, **options, step="1fs")[0] == 0
    settings = json.loads((tmp_path / "third" / "run.json").read_text())["settings"]
    given = ("every", "temperature_k", "n_minimization_steps", "seed", "step_fs", "relax_time_ps")
    assert [settings[name] for name in given] == [3, 280.0, 10, 4, 1.0, 0.1]
    status, _, err = relax(rollout, **options)
    assert status == 1
    assert "error: step_fs: expected 1.0 as in third/run.json, got 2.0; pass --overwrite" in err
    assert relax(rollout, "--overwrite", **options)[0] == 0


def test_a_system_file_may_be_given(rollout, relax, tmp_path):
    assert relax(rollout)[0] == 0
    assert relax(rollout, system="rollout_relaxed/system.xml", out="again")[0] == 0
    first, second = (tmp_path / name / "rep_0000.xtc" for name in ("rollout_relaxed", "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("source", "changed", "message"),
    [
        ("nothing", {}, "run: expected a directory with run.json, got 'nothing'"),
        ("rollout", {"time": "1"}, "time: expected a time with a unit"),
        ("rollout", {"time": "1.5fs"}, "time: expected a multiple of the step of 2 fs, got"),
        ("rollout", {"preset": "slow"}, "preset: expected one of fast, timewarp, gaff-vacuum"),
        ("rollout", {"system": "nothing.xml"}, "system: expected an OpenMM system (system.xml)"),
        ("rollout", {"every": 4}, "every: expected at most 3, the steps of the run rollout, got 4"),
        ("rollout", {"out": "rollout"}, "out: expected another directory than the run's, got"),
        ("rollout", {"platform": "TPU"}, "platform: expected one of auto, Reference, CPU"),
    ],
)
def test_bad_input_ends_in_one_sentence(rollout, relax, tmp_path, source, changed, message):
    status, _, err = relax(source, **changed)
    assert status == 1
    assert message in err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "rollout_relaxed").exists()
