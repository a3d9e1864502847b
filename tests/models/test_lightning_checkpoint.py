import sys

import pytest
import torch

from tito_fast.models.lightning_checkpoint import read_lightning_checkpoint, released_checkpoint

VARIANTS = [
    {},
    {"n_reduced_features": 4},
    {"temperature": True},
    {"cutoff": 1.5, "length_scale": 7.0, "max_lag": 250, "virtual_node": True},
]


def _write(released, tmp_path, config, *, change=None):
    """Write a checkpoint of ``config``; ``change`` may alter the module before it is pickled."""
    module = released.released_module(config)
    if change is not None:
        change(module)
    content = released.lightning_content(module)
    return module, released.write_released(tmp_path / "a.ckpt", content)


@pytest.mark.parametrize("change", VARIANTS)
def test_weights_and_arguments_are_those_of_the_module(released, tmp_path, change):
    config = {**released.CONFIG, **change}
    module, path = _write(released, tmp_path, config)
    checkpoint = read_lightning_checkpoint(path)
    assert checkpoint.config == config
    expected = module.state_dict()
    assert set(checkpoint.state_dict) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.state_dict[name], tensor), name


@pytest.mark.parametrize("change", VARIANTS)
def test_older_file_without_config_is_read_from_its_modules(released, tmp_path, change):
    config = {**released.CONFIG, **change}

    def remove(module):
        del module.config
        del module.temperature

    _, path = _write(released, tmp_path, config, change=remove)
    found = read_lightning_checkpoint(path).config
    # Nothing but an argument without effect is unknown.
    assert found == {name: value for name, value in config.items() if name != "virtual_node"}


def test_config_without_later_arguments_is_completed(released, tmp_path):
    config = {**released.CONFIG, "temperature": True}

    def remove(module):
        module.config = {
            k: v for k, v in config.items() if k not in ("temperature", "length_scale")
        }

    _, path = _write(released, tmp_path, config, change=remove)
    assert read_lightning_checkpoint(path).config == config


@pytest.mark.parametrize("prefix", ["score.", ""])
@pytest.mark.parametrize("key", ["score_config", "config"])
def test_plain_dictionary_is_read_from_file_and_memory(released, tmp_path, prefix, key):
    state = released.released_module(released.CONFIG).state_dict(prefix=prefix)
    content = {"state_dict": state, key: released.CONFIG, "hyper_parameters": {"lr": 1e-3}}
    path = released.write_released(tmp_path / "a.pt", content)
    for checkpoint in (read_lightning_checkpoint(path), released_checkpoint(content)):
        assert checkpoint.config == released.CONFIG
        assert {prefix + name for name in checkpoint.state_dict} == set(state)
        assert all(torch.equal(t, state[prefix + n]) for n, t in checkpoint.state_dict.items())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_features", 16, "n_features: expected 8 as its tensors have it, got 16"),
        ("embedding_layers", 2, "embedding_layers: expected 1 as its tensors"),
        ("model_layers", 1, "model_layers: expected 2 as its tensors"),
        ("n_reduced_features", 4, "n_reduced_features: expected 0 as its tensors"),
        ("temperature", True, "temperature: expected False as its tensors"),
        ("temperature", [True], "temperature: expected False as its tensors have it, got list"),
        ("max_lag", 500, "max_lag: expected 1000 as its modules have it, got 500"),
        ("length_scale", 5.0, "length_scale: expected 10.0 as its modules"),
        ("cutoff", 2.0, "cutoff: expected None as its modules have it, got 2.0"),
    ],
)
def test_contradiction_is_named(released, tmp_path, name, value, message):
    def contradict(module):
        module.config = {**released.CONFIG, name: value}

    _, path = _write(released, tmp_path, released.CONFIG, change=contradict)
    with pytest.raises(ValueError, match=message) as error:
        read_lightning_checkpoint(path)
    assert str(error.value).startswith(str(path))


def test_other_length_in_the_velocity_network_is_refused(released, tmp_path):
    def change(module):
        module.score[5].layers[0].positional_encoder.max_length = 7.0

    _, path = _write(released, tmp_path, released.CONFIG, change=change)
    with pytest.raises(ValueError, match=r"expected max_length 10, .* got 7\.0"):
        read_lightning_checkpoint(path)


def test_missing_arguments_are_refused(released):
    state = released.released_module(released.CONFIG).state_dict()
    for content in ({}, {"score_config": 3}, {"hyper_parameters": {"lr": 1.0}}, {"config": {1: 2}}):
        with pytest.raises(ValueError, match="max_lag is recorded nowhere else"):
            released_checkpoint({"state_dict": state, **content})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "expected a dictionary, got a list"),
        ({"a": 1}, "expected a dictionary under 'state_dict', got a NoneType"),
        ({"state_dict": {"a": 1}}, "state_dict: expected tensors by name"),
        ({"state_dict": {1: torch.ones(1)}}, "state_dict: expected tensors by name"),
        ({"state_dict": {}}, r"expected a matrix embed\.1|expected a matrix score\.4"),
    ],
)
def test_other_content_is_refused(released, tmp_path, content, message):
    path = released.write_released(tmp_path / "a.pt", content)
    with pytest.raises(ValueError, match=message):
        read_lightning_checkpoint(path)


def test_nothing_imports_the_released_package(ckpt):
    read_lightning_checkpoint(ckpt)
    assert not [name for name in sys.modules if name == "tito" or name.startswith("tito.")]
