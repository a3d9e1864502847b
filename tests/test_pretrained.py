"""The shipped model is whole, small, documented, and gives sound molecules."""

from importlib.resources import files

import pytest

from tito_fast.data.readers import from_smiles
from tito_fast.models.load import load_model, shipped_models
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.sample import sample

FOLDER = files("tito_fast") / "pretrained"


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_has_a_card_and_knows_what_it_needs(name):
    model = load_model(name)
    assert len((FOLDER / f"{name}.safetensors").read_bytes()) < 8_000_000
    card = (FOLDER / f"{name}.md").read_text()
    for fact in ("steps", "hardware", "validation loss", "JSD", model.info.training_set_hash):
        assert fact in card
    assert model.config.max_lag_ps >= 100
    assert model.info.elements
    assert model.info.training_set


def test_smallmol_is_shipped():
    assert "smallmol" in shipped_models()


def test_bonds_of_a_molecule_that_was_not_trained_on_are_sound(tmp_path):
    config = RolloutConfig(lag_times_ps=(100.0,), n_rollout_steps=20, n_replicas=4)
    (result,) = sample(from_smiles("CCCCO"), config, out=tmp_path / "run")
    counts = result.validity["all"]
    assert counts["frames"] == 80
    assert counts["share_bonds_in_range"] >= 0.95
    assert counts["share_clash_frames"] <= 0.05
