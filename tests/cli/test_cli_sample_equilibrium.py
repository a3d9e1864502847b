"""``tito-fast sample-equilibrium``: what users type, and what they are told."""

import numpy as np
import pytest

from tito_fast.cli.main import run
from tito_fast.data.bg_samples import read_bg_samples
from tito_fast.models.tbg.checkpoint import write_tbg_checkpoint
from tito_fast.models.tbg.config import TbgConfig
from tito_fast.models.tbg.model import TbgModel
from tito_fast.models.tito.config import ModelInfo

QUICK = ["--n-samples", "3", "--tolerance", "1e-2", "--device", "cpu", "--out", "samples.npz"]


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    info = ModelInfo(length_unit_nm=1 / 30, coupling="none", temperature_k=310.0)
    config = TbgConfig(encoding="element", n_features=4, n_layers=1)
    write_tbg_checkpoint(TbgModel.create(config, info, seed=0), "model.safetensors")
    return "model.safetensors"


def test_samples_are_written_with_their_density(model, tmp_path, capsys):
    arguments = ["--log-density", "--keep", "all", "--seed", "4"]
    assert run(["sample-equilibrium", model, "O", *QUICK, *arguments]) == 0
    found = read_bg_samples(tmp_path / "samples.npz")
    assert (found.n_samples, found.molecule.name, found.seed) == (3, "O", 4)
    assert np.isfinite(found.log_density).all()
    assert found.log_weights is None
    assert "samples.npz: 3 samples of O" in capsys.readouterr().out


def test_without_sound_samples_it_says_so(model, tmp_path, capsys):
    # Fresh weights: scattered atoms.
    assert run(["sample-equilibrium", model, "CCO", *QUICK]) == 1
    err = capsys.readouterr().err
    assert "3 wrong_topology" in err
    assert "error: keep: expected sound samples, got none among 3; train the model" in err
    assert not (tmp_path / "samples.npz").exists()


def test_random_probes_estimate_the_density(model, tmp_path):
    arguments = ["--log-density", "--keep", "all", "--double"]
    assert run(["sample-equilibrium", model, "O", *QUICK, *arguments]) == 0
    exact = read_bg_samples(tmp_path / "samples.npz").log_density
    assert run(["sample-equilibrium", model, "O", *QUICK, *arguments, "--probes", "2"]) == 0
    estimate = read_bg_samples(tmp_path / "samples.npz").log_density
    assert not np.array_equal(estimate, exact)
    np.testing.assert_allclose(estimate, exact, atol=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "300"], "temperature_k: expected none for this model, got 300"),
        (["--keep", "some"], "keep: expected one of sound, all, got 'some'"),
        (["--probes", "-1"], "probes: expected at least 0, got -1"),
        (["--tolerance", "0"], "absolute_tolerance: expected a value above zero, got 0"),
        (["--n-samples", "0"], "n_samples: expected at least 1, got 0"),
    ],
)
def test_bad_input_ends_in_one_sentence(model, capsys, arguments, message):
    assert run(["sample-equilibrium", model, "O", *QUICK, *arguments]) == 1
    err = capsys.readouterr().err
    assert f"error: {message}" in err
    assert "Traceback" not in err
