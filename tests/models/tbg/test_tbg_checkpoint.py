"""Files of TBG models."""

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tito_fast.models.checkpoint import read_checkpoint
from tito_fast.models.tbg.checkpoint import (
    is_tbg_checkpoint,
    read_tbg_checkpoint,
    tbg_model_hash,
    write_tbg_checkpoint,
)
from tito_fast.models.tbg.config import TbgConfig
from tito_fast.models.tbg.model import TbgModel
from tito_fast.models.tito.config import ModelInfo

CONFIG = TbgConfig(encoding="element", n_features=4, n_layers=2)
INFO = ModelInfo(length_unit_nm=1.0 / 30.0, coupling="none", flow_sigma=0.01, temperature_k=310.0)


@pytest.fixture
def model():
    return TbgModel.create(CONFIG, INFO, seed=5)


def test_a_model_is_read_back_as_it_was_written(model, tmp_path):
    path = tmp_path / "model.safetensors"
    write_tbg_checkpoint(model, path)
    found = read_tbg_checkpoint(path)
    assert (found.config, found.info) == (CONFIG, INFO)
    assert tbg_model_hash(found) == tbg_model_hash(model)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], tensor)
    assert is_tbg_checkpoint(path)


def test_weights_follow_from_the_seed_alone(model):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert tbg_model_hash(TbgModel.create(CONFIG, INFO, seed=5)) == tbg_model_hash(model)
    assert tbg_model_hash(TbgModel.create(CONFIG, INFO, seed=6)) != tbg_model_hash(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_files_that_do_not_fit_are_refused(model, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError):
        read_tbg_checkpoint(path)
    path.write_bytes(b"nothing of the kind")
    assert not is_tbg_checkpoint(path)
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        read_tbg_checkpoint(path)
    save_file({"weight": torch.zeros(2)}, path)
    assert not is_tbg_checkpoint(path)
    with pytest.raises(ValueError, match="expected a TBG model of tito_fast, got another file"):
        read_tbg_checkpoint(path)
    write_tbg_checkpoint(model, path)
    with pytest.raises(ValueError):  # noqa: PT011  whichever check of the other format finds it
        read_checkpoint(path)
    state = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({name: 2 * tensor for name, tensor in state.items()}, path, metadata=metadata)
    with pytest.raises(ValueError, match="expected content with the hash that it states"):
        read_tbg_checkpoint(path)
    state["embedding.bias"] = torch.zeros(3)
    save_file(state, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"got others for embedding\.bias"):
        read_tbg_checkpoint(path)
    metadata["tito_fast"] = metadata["tito_fast"].replace(
        '"format_version":1', '"format_version":7'
    )
    save_file(state, path, metadata=metadata)
    with pytest.raises(ValueError, match="expected format version 1, got 7"):
        read_tbg_checkpoint(path)


def test_facts_are_part_of_the_hash(model):
    other = TbgModel(CONFIG, replace(INFO, length_unit_nm=0.1), model.network)
    assert tbg_model_hash(other) != tbg_model_hash(model)
