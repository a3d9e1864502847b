import pytest
import torch

from tito_fast.models import load
from tito_fast.models.checkpoint import model_hash
from tito_fast.models.load import load_model, parse_elements, save_model, shipped_models
from tito_fast.models.released_names import to_released
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel

CONFIG = TitoConfig(n_features=8, n_embedding_layers=1, n_model_layers=2)
INFO = ModelInfo(length_unit_nm=0.277, elements=(1, 6))


@pytest.fixture
def ours(tmp_path):
    path = tmp_path / "ours.safetensors"
    save_model(TitoModel.create(CONFIG, INFO, seed=0), path)
    return path


def _bits(model):
    return {n: t.view(torch.uint8).tolist() for n, t in model.network.state_dict().items()}


def test_released_weights_arrive_under_our_names(released, ckpt):
    model = load_model(ckpt, units="mdqm9")
    expected = released.lightning_content(released.released_module(released.CONFIG))["state_dict"]
    for name, tensor in model.network.state_dict().items():
        released_name = "score." + to_released(name, config=model.config)
        assert torch.equal(tensor, expected[released_name]), name
    assert model.config == TitoConfig(
        n_features=8, n_embedding_layers=1, n_model_layers=2, temperature_scale_k=1.0
    )


def test_released_to_ours_and_back_is_bitwise(ckpt, tmp_path):
    model = load_model(ckpt, units="timewarp")
    save_model(model, tmp_path / "a.safetensors")
    again = load_model(tmp_path / "a.safetensors")
    assert _bits(again) == _bits(model)
    assert (again.config, again.info) == (model.config, model.info)
    assert model_hash(again) == model_hash(model)


@pytest.mark.parametrize(
    ("units", "length", "elements", "bonds", "charges"),
    [
        ("mdqm9", 0.20754094, (1, 6, 7, 8, 9), (0, 1, 2, 3), (0,)),
        ("timewarp", 0.277, (1, 6, 7, 8, 16), (0, 1, 2, 12), (-1, 0, 1)),
        (0.25, 0.25, None, None, (0,)),
        ("0.25", 0.25, None, None, (0,)),
        ("0.25 nm", 0.25, None, None, (0,)),
        (1, 1.0, None, None, (0,)),
    ],
)
def test_units_bring_length_and_vocabulary(ckpt, units, length, elements, bonds, charges):
    info = load_model(ckpt, units=units).info
    assert info.length_unit_nm == length
    assert info.elements == elements
    assert info.bond_types == bonds
    assert info.formal_charges == charges
    assert info.coupling == "released"
    assert info.flow_sigma == 0.001


def test_elements_may_restrict_units_given_as_number(ckpt):
    assert load_model(ckpt, units=0.2, elements=["C", "H", 17]).info.elements == (1, 6, 17)
    with pytest.raises(ValueError, match="elements: expected none with units mdqm9"):
        load_model(ckpt, units="mdqm9", elements=["C"])


def test_released_file_without_units_is_refused(ckpt):
    with pytest.raises(
        ValueError, match=r"units: expected mdqm9, timewarp or the nm .* give units"
    ):
        load_model(ckpt)


@pytest.mark.parametrize("units", ["angstrom", "", "nan", 0.0, -1.0, 1e6, float("inf"), "0.2 A"])
def test_wrong_units_are_refused(ckpt, units):
    with pytest.raises(ValueError, match="units: expected mdqm9, timewarp or a number of nm"):
        load_model(ckpt, units=units)


@pytest.mark.parametrize("elements", [["Xx"], ["h"], [0], [119], [1.0], [True], [""], "CH,"])
def test_wrong_elements_are_refused(elements):
    with pytest.raises(ValueError, match="elements: expected symbols such as H, C, Cl"):
        parse_elements(elements)


def test_no_elements_are_refused():
    with pytest.raises(ValueError, match="elements: expected at least one, got none"):
        parse_elements([])


def test_symbols_are_those_of_the_periodic_table():
    symbols = ["H", "He", "C", "Ne", "Cl", "Ca", "Br", "I", "Xe", "La", "Lu", "Hf", "Pb", "U", "Og"]
    numbers = (1, 2, 6, 10, 17, 20, 35, 53, 54, 57, 71, 72, 82, 92, 118)
    assert parse_elements(symbols) == numbers


def test_half_precision_becomes_float32_without_loss(released, tmp_path):
    module = released.released_module(released.CONFIG).half()
    half = module.state_dict()
    content = {"state_dict": half, "score_config": released.CONFIG}
    path = released.write_released(tmp_path / "a.ckpt", content)
    model = load_model(path, units=1.0)
    assert model.dtype == torch.float32
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor.half(), half[to_released(name, config=model.config)])


def test_double_precision_stays(released, tmp_path):
    module = released.released_module(released.CONFIG).double()
    path = released.write_released(tmp_path / "a.ckpt", released.lightning_content(module))
    assert load_model(path, units=1.0).dtype == torch.float64


def test_released_weights_that_are_not_finite_are_refused(released, tmp_path):
    content = released.lightning_content(released.released_module(released.CONFIG))
    content["state_dict"]["score.score.5.layers.4.V.linear.weight"].fill_(torch.nan)
    path = released.write_released(tmp_path / "a.ckpt", content)
    with pytest.raises(
        ValueError,
        match=r"a\.ckpt: weights: expected finite values, got others in velocity\.readout",
    ):
        load_model(path, units=1.0)


def test_released_weights_that_are_missing_are_named(released, tmp_path):
    content = released.lightning_content(released.released_module(released.CONFIG))
    del content["state_dict"]["score.embed.2.embedding.weight"]
    path = released.write_released(tmp_path / "a.ckpt", content)
    with pytest.raises(ValueError, match=r"got without condition\.bond_embedding\.weight"):
        load_model(path, units=1.0)


def test_our_file_needs_no_units(ours):
    model = load_model(ours)
    assert model.info == INFO
    # What it records anyway is no contradiction.
    assert load_model(ours, units="timewarp").info == INFO
    assert load_model(ours, units=0.277, elements=["C", "H"]).info == INFO
    with pytest.raises(
        ValueError, match=r"units: expected none for .*, which records 0\.277 nm, got 'mdqm9'"
    ):
        load_model(ours, units="mdqm9")
    with pytest.raises(
        ValueError, match=r"elements: expected none for .* got \['H'\]; leave it out"
    ):
        load_model(ours, elements=["H"])


def test_suffix_does_not_matter(ours, ckpt, tmp_path):
    assert load_model(ours.rename(tmp_path / "a.ckpt")).info == INFO
    assert load_model(ckpt.rename(tmp_path / "b.safetensors"), units=1.0).config.n_features == 8


def test_name_finds_a_shipped_model(ours, tmp_path, monkeypatch):
    folder = tmp_path / "pretrained"
    folder.mkdir()
    ours.rename(folder / "tiny.safetensors")
    (folder / "tiny.md").write_text("card")
    monkeypatch.setattr(load.resources, "files", lambda _: tmp_path)
    monkeypatch.chdir(folder)
    assert shipped_models() == ("tiny",)
    assert load_model("tiny").info == INFO
    with pytest.raises(
        ValueError, match=r"expected a file or a shipped model \(tiny\), got 'small'"
    ):
        load_model("small")


def test_package_without_shipped_models_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(load.resources, "files", lambda _: tmp_path)
    assert shipped_models() == ()
    with pytest.raises(ValueError, match=r"shipped model \(none here\), got 'tiny'"):
        load_model("tiny")


@pytest.mark.parametrize("name", ["none.ckpt", "none.safetensors", "./folder/none"])
def test_missing_file_is_named(name):
    with pytest.raises(FileNotFoundError, match=r"model: expected an existing file, got .*none"):
        load_model(name)


def test_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="which is a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a model, got an empty file"),
        (b"hello world", "got a file that starts with b'hello wo'"),
        (b"PK\x03\x04", "a truncated or damaged zip"),
        (b"\x80\x04N.", "a file that starts with"),
        (b"\x10\0\0\0\0\0\0\0{", "expected a whole safetensors file"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_model(path, units=1.0)
