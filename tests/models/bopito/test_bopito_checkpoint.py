import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tito_fast.models.bopito.model import BopitoModel
from tito_fast.models.checkpoint import model_hash
from tito_fast.models.load import load_model, save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel

INFO = ModelInfo(length_unit_nm=0.2, coupling="none", elements=(1, 6))
CONFIG = TitoConfig(n_features=8, n_embedding_layers=1, n_model_layers=1, vector_start="zeros")


@pytest.fixture
def model():
    prior = TitoModel.create(
        replace(CONFIG, is_conditional=False, n_embedding_layers=0), INFO, seed=0
    )
    return BopitoModel.from_equilibrium(
        prior,
        CONFIG,
        INFO,
        relaxation_time_ps=2500.0,
        frame_interval_ps=2.0,
        is_decay_learned=True,
        seed=1,
    )


def rewritten(path, *, weights=None, config=None):
    """Change what a file holds, and leave its hash as it was."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["tito_fast"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = {name: t for name, t in (state | (weights or {})).items() if t is not None}
    header["config"] |= config or {}
    save_file(state, path, metadata={"tito_fast": json.dumps(header)})


def test_a_model_comes_back_bit_for_bit(model, tmp_path):
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert isinstance(loaded, BopitoModel)
    assert (loaded.config, loaded.info) == (model.config, model.info)
    ours, theirs = model.network.state_dict(), loaded.network.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert loaded.relaxation_time_ps == model.relaxation_time_ps
    assert model_hash(loaded) == model_hash(model)
    trained = {name for name, p in loaded.network.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in model.network.named_parameters() if p.requires_grad}
    assert "decay_logit" in trained


def test_the_hash_knows_the_decay_and_its_interval(model):
    before = model_hash(model)
    model.network.frame_interval_ps = 1.0
    with_other_interval = model_hash(model)
    with torch.no_grad():
        model.network.decay_logit += 0.1
    assert len({before, with_other_interval, model_hash(model)}) == 3


@pytest.mark.parametrize(
    ("weights", "config", "message"),
    [
        ({"decay_logit": None}, {}, "expected a finite number decay_logit"),
        ({"decay_logit": torch.tensor(float("nan"))}, {}, "expected a finite number decay_logit"),
        (
            {"other": torch.ones(1)},
            {},
            "weights: expected those of the configuration, got with other",
        ),
        ({}, {"kind": "else"}, "config: expected kind bopito with .* got kind 'else'"),
        ({}, {"newer": 1}, "the file may come from a newer version"),
        ({}, {"frame_interval_ps": 1.0}, "expected content with the hash that it states"),
    ],
)
def test_other_content_is_refused(model, tmp_path, weights, config, message):
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    rewritten(path, weights=weights, config=config)
    with pytest.raises(ValueError, match=message):
        load_model(path)
