import errno
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from tito_fast.models.checkpoint import (
    model_hash,
    network_from_state,
    read_checkpoint,
    write_checkpoint,
)
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel

CONFIGS = [
    TitoConfig(n_features=8, n_embedding_layers=1, n_model_layers=2),
    TitoConfig(
        n_features=8,
        n_embedding_layers=2,
        n_model_layers=1,
        n_reduced_features=4,
        scaled_cutoff=1.5,
        distance_encoding_length=7.1,
        max_lag_ps=0.1,
        has_temperature=True,
        temperature_scale_k=1 / 3,
        vector_start="zeros",
    ),
]
INFO = ModelInfo(
    length_unit_nm=0.1 + 0.2,
    elements=(1, 6),
    bond_types=(0, 1),
    formal_charges=(-1, 0),
    min_lag_ps=1.0,
    coupling="none",
    training_set="ü",
)


def _model(config=CONFIGS[0], *, seed=0):
    return TitoModel.create(config, INFO, seed=seed)


def _rewritten(path, *, header=None, state=None, key="tito_fast"):
    """Write a file by hand: that of a model with some fields or tensors replaced."""
    model = _model()
    fields = {
        "format_version": 1,
        "config": model.config.to_dict(),
        "info": model.info.to_dict(),
        "hash": model_hash(model),
    }
    tensors = {**model.network.state_dict(), **(state or {})}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    text = header if isinstance(header, str) else json.dumps({**fields, **(header or {})})
    save_file(tensors, path, {key: text})
    return path


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_is_bitwise(tmp_path, config, dtype):
    model = _model(config).to(dtype=dtype)
    path = tmp_path / "a.safetensors"
    write_checkpoint(model, path)
    loaded = read_checkpoint(path)
    assert loaded.config == config
    assert loaded.info == INFO
    assert loaded.dtype == dtype
    expected, found = model.network.state_dict(), loaded.network.state_dict()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)), name
    assert model_hash(loaded) == model_hash(model)
    assert all(parameter.requires_grad for parameter in loaded.network.parameters())


def test_file_is_the_same_each_time(tmp_path):
    for name in "ab":
        write_checkpoint(_model(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_checkpoint(read_checkpoint(tmp_path / "a"), tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_hash_sees_weights_config_and_info():
    model = _model()
    before = model_hash(model)
    assert len(before) == 64
    assert before == model_hash(_model())
    changed = [_model(seed=1), _model().to(dtype=torch.float64)]
    changed.append(TitoModel(model.config, ModelInfo(length_unit_nm=0.2), model.network))
    other = TitoConfig(**{**model.config.to_dict(), "max_lag_ps": 1.0})
    changed.append(TitoModel(other, INFO, model.network))
    one_bit = _model()
    weight = one_bit.network.velocity.readout.v.weight
    with torch.no_grad():
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))
    changed.append(one_bit)
    assert len({before, *map(model_hash, changed)}) == 1 + len(changed)


def test_reading_leaves_the_global_generator_alone(tmp_path):
    path = tmp_path / "a"
    write_checkpoint(_model(), path)
    before = torch.get_rng_state()
    read_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_tensors_taken_over_can_be_trained(tmp_path):
    path = tmp_path / "a"
    write_checkpoint(_model(), path)
    network = read_checkpoint(path).network
    sum(p.square().sum() for p in network.parameters()).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert not torch.equal(
        network.velocity.combine[0].weight, _model().network.velocity.combine[0].weight
    )


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_leaves_the_earlier_file(tmp_path, monkeypatch, step):
    path = tmp_path / "a.safetensors"
    write_checkpoint(_model(), path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (type(path), "replace")), fail)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(_model(seed=1), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected an existing folder, got .*none"):
        write_checkpoint(_model(), tmp_path / "none" / "a")


@pytest.mark.parametrize("cut", [0, 4, 100, -1, -1000])
def test_truncated_file_is_refused(tmp_path, cut):
    path = tmp_path / "a.safetensors"
    write_checkpoint(_model(), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"a\.safetensors: expected a whole safetensors file"):
        read_checkpoint(path)


def test_missing_file_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        read_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["length_unit_nm", "weights"])
def test_change_behind_our_back_is_noticed(tmp_path, name):
    path = tmp_path / "a.safetensors"
    write_checkpoint(_model(), path)
    data = path.read_bytes()
    if name == "weights":
        data = data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]
    else:
        data = data.replace(b"0.30000000000000004", b"0.30000000000000008")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="expected content with the hash that it states"):
        read_checkpoint(path)


NAME = "condition.layers.0.update.u.weight"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({NAME: None}, rf"weights: expected those of the configuration, got without {NAME}"),
        ({"other": torch.ones(1)}, "expected those of the configuration, got with other"),
        ({NAME: None, "x": torch.ones(1)}, rf"got without {NAME} and with x"),
        ({f"x{i}": torch.ones(1) for i in range(8)}, "with x0, x1, x2, x3, x4 and 3 more"),
        ({NAME: torch.ones(8, 7)}, rf"got {NAME} \(8, 7\) instead of \(8, 8\)"),
        ({NAME: torch.ones(8, 8).double()}, "float32 or float64 throughout, got float32, float64"),
        ({NAME: torch.ones(8, 8).long()}, "got float32, int64"),
        ({NAME: torch.full((8, 8), torch.nan)}, f"expected finite values, got others in {NAME}"),
        ({NAME: torch.full((8, 8), torch.inf)}, f"expected finite values, got others in {NAME}"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, state, message):
    path = _rewritten(tmp_path / "a.safetensors", state=state)
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(str(path))


def test_half_precision_is_refused():
    state = {name: tensor.half() for name, tensor in _model().network.state_dict().items()}
    with pytest.raises(TypeError, match="expected float32 or float64 throughout, got float16"):
        network_from_state(CONFIGS[0], state)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format_version": 2}, "expected format version 1, got 2; the file comes from another"),
        ({"format_version": "1"}, "expected a format version in the metadata"),
        ({"config": 3}, "expected config in the metadata, got none"),
        ({"info": None}, "expected info in the metadata, got none"),
        ({"config": {"n_feature": 8}}, "TitoConfig: expected fields .* got n_feature"),
        ({"config": {"n_features": "8"}}, r"a\.safetensors: "),
        ({"config": {"n_features": 6, "n_embedding_layers": 1, "n_model_layers": 2}}, "expected the shapes of"),
        ({"config": {"n_features": 10**6}}, "expected features for tensors of at most 1336 values, got 1000000"),
        ({"config": {"n_reduced_features": 10**15}}, "expected features for tensors of at most"),
        ({"config": {"n_model_layers": 10**9}}, "config: expected layers for .* tensors, got 2 [+] 1000000000"),
        ({"info": {}}, "length_unit_nm"),
        ("{", "expected JSON in the metadata"),
        ("[]", "expected a format version in the metadata"),
        ({"hash": "0"}, "expected content with the hash"),
    ],
)  # fmt: skip
def test_wrong_metadata_is_refused(tmp_path, header, message):
    path = _rewritten(tmp_path / "a.safetensors", header=header)
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(str(path))


def test_safetensors_of_something_else_is_refused(tmp_path):
    path = _rewritten(tmp_path / "a.safetensors", key="other")
    with pytest.raises(ValueError, match="expected a model of tito_fast, got safetensors without"):
        read_checkpoint(path)


def test_file_written_by_hand_is_read(tmp_path):
    """The changes above are what is refused: unchanged, such a file is good."""
    assert model_hash(read_checkpoint(_rewritten(tmp_path / "a"))) == model_hash(_model())
