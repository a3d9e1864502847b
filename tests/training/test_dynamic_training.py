"""Training of a dynamic term on a frozen equilibrium model."""

import math
from dataclasses import replace

import pytest
import torch

from tito_fast.analysis.decay import store_relaxation_time
from tito_fast.cli.train import _with_decay
from tito_fast.data.store import open_store
from tito_fast.models.bopito.model import BopitoModel
from tito_fast.models.load import load_model, save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.training.config import TrainingConfig
from tito_fast.training.loop import train

PRIOR = TitoConfig(
    n_features=8,
    n_embedding_layers=0,
    n_model_layers=1,
    vector_start="zeros",
    is_conditional=False,
)
INFO = ModelInfo(length_unit_nm=0.2, coupling="none")


@pytest.fixture
def prior_path(tmp_path):
    path = tmp_path / "prior.safetensors"
    save_model(TitoModel.create(PRIOR, INFO, seed=5), path)
    return path


@pytest.fixture
def make_dynamic_config(make_config, prior_path):
    def make(*, data=None, model=None, **settings):
        return make_config(
            data={"coupling": "none", **(data or {})},
            model={"vector_start": "zeros", "equilibrium": str(prior_path), **(model or {})},
            **settings,
        )

    return make


def test_only_the_dynamic_term_and_the_decay_are_trained(make_dynamic_config, prior_path):
    config = make_dynamic_config(n_steps=3)
    model = load_model(train(config).model_path)
    assert isinstance(model, BopitoModel)
    prior = load_model(prior_path).network.state_dict()
    kept = model.network.equilibrium.state_dict()
    assert all(torch.equal(kept[name], prior[name]) for name in prior)
    # It starts at the longest lag.
    assert model.relaxation_time_ps != pytest.approx(config.model.max_lag_ps, rel=1e-6)
    assert model.relaxation_time_ps == pytest.approx(config.model.max_lag_ps, rel=0.1)
    assert model.info.length_unit_nm == 0.2
    start = TitoModel.create(config.model.network, model.info, seed=config.seed).network
    moved = model.network.dynamic.state_dict()
    assert any(not torch.equal(moved[n], value) for n, value in start.state_dict().items())


def test_a_run_that_was_stopped_goes_on_as_if_it_was_not(make_dynamic_config, tmp_path):
    optimizer = {"schedule": "constant"}
    whole = make_dynamic_config(out=str(tmp_path / "whole"), n_steps=4, optimizer=optimizer)
    parts = replace(whole, out=str(tmp_path / "parts"))
    train(replace(parts, n_steps=2))
    ours, theirs = (load_model(train(each).model_path).network for each in (parts, whole))
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


def test_a_decay_that_is_given_stays(make_dynamic_config):
    model = load_model(train(make_dynamic_config(n_steps=2, model={"decay": 0.99})).model_path)
    assert not model.network.is_decay_learned
    # Frames are 1 ps apart.
    assert model.relaxation_time_ps == pytest.approx(-1 / math.log(0.99), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"coupling": "r"}}, "dynamic: expected coupling 'none', got 'r'"),
        ({"model": {"vector_start": "randn"}}, "dynamic: expected vectors that start at zero"),
        ({"model": {"decay": "fit"}}, "model.decay: expected a number or learn, got fit"),
        ({"model": {"equilibrium": "nowhere"}}, "model.equilibrium: "),
        ({"data": {"length_unit_nm": 0.1}}, "data.length_unit_nm: expected 0.2 nm"),
    ],
)
def test_settings_that_contradict_the_equilibrium_model_are_refused(
    make_dynamic_config, settings, message
):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(make_dynamic_config(**settings))


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ({"decay": 1.0}, {}, "model.decay: expected a value above 0 and below 1, fit or learn"),
        ({"decay": "slow"}, {}, "model.decay: expected a number, fit or learn, got 'slow'"),
        ({"equilibrium": "a"}, {"init_from": "b"}, "init_from: expected none with model.equilib"),
    ],
)
def test_settings_are_checked(model, settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig.from_dict({"model": model, **settings})


def test_a_dynamic_term_of_noise_is_trained_on_a_diffusion(make_dynamic_config, tmp_path):
    shape = {"n_features": 8, "n_model_layers": 1, "n_diffusion_steps": 20}
    path = tmp_path / "diffusion.safetensors"
    save_model(TitoModel.create(TitoConfig.bopito_equilibrium(**shape), INFO, seed=5), path)
    dynamic = TitoConfig.bopito_dynamic(max_lag_ps=10.0, **shape).to_dict()
    config = make_dynamic_config(n_steps=1, model={**dynamic, "equilibrium": str(path)})
    model = load_model(train(config).model_path)
    assert isinstance(model, BopitoModel)
    assert model.config.objective == "noise"


def test_the_command_line_fits_the_decay_to_the_data(make_dynamic_config, capsys):
    config = make_dynamic_config(model={"decay": "fit"})
    fitted = _with_decay(config)
    assert 0 < fitted.model.decay < 1
    assert replace(fitted.model, decay="fit") == config.model
    found = store_relaxation_time(open_store(config.data.store), split="train")
    assert fitted.model.decay == pytest.approx(math.exp(-1 / found.value_ps))
    assert f"decay: {fitted.model.decay:.8g} per frame of 1 ps" in capsys.readouterr().out
    given = make_dynamic_config(model={"decay": 0.5})
    assert _with_decay(given) is given


def test_a_decay_cannot_be_fitted_to_molecules_without_torsions(make_store):
    store = open_store(make_store("small", sizes=(3,)))
    with pytest.raises(
        ValueError, match="split: expected molecules with a slow torsion in 'train'"
    ):
        store_relaxation_time(store, split="train")
