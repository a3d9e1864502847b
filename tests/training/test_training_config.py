import re

import pytest
import yaml

from tito_fast.training.config import TrainingConfig, read_training_config

# As an earlier version wrote it, before the settings of several devices and fine-tuning were there.
EARLIER = """
out: somewhere
n_steps: 10000
batch_size: 32
precision: fp32
device: auto
seed: 1
flow_sigma: 0.001
log_every: 20
validate_every: 250
checkpoint_every: 250
n_validation_pairs: 256
data: {store: stores/a, train_split: train, validation_split: val, length_unit_nm: null,
       coupling: r, lag_law: uniform}
model: {n_features: 64, n_embedding_layers: 2, n_model_layers: 5, n_reduced_features: null,
        scaled_cutoff: null, distance_encoding_length: 10.0, max_lag_ps: 100.0,
        has_temperature: false, temperature_scale_k: 1000.0, vector_start: zeros}
optimizer: {learning_rate: 0.001, weight_decay: 0.0, schedule: cosine,
            final_learning_rate_share: 0.01, n_warmup_steps: 300, gradient_clip: 5.0,
            ema_decay: 0.999}
"""


@pytest.fixture
def write(tmp_path):
    def write_yaml(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write_yaml


def test_an_empty_file_gives_the_defaults(write):
    assert read_training_config(write("")) == TrainingConfig()


def test_what_is_written_is_read_back(write):
    config = TrainingConfig.from_dict({"devices": "auto", "model": {"n_reduced_features": 4}})
    assert read_training_config(write(yaml.safe_dump(config.to_dict()))) == config


def test_a_config_of_an_earlier_version_is_read_with_defaults(write):
    config = read_training_config(write(EARLIER))
    assert config.model.vector_start == "zeros"
    assert (config.devices, config.n_nodes, config.init_from) == (1, 1, "")


def test_overrides_change_nested_settings_and_only_these(write):
    path = write("n_steps: 5\nmodel:\n  n_features: 16\noptimizer:\n")
    config = read_training_config(
        path,
        overrides=["model.n_model_layers=3", "optimizer.learning_rate=1e-4", "data.store=a=b"],
    )
    assert (config.model.n_features, config.model.n_model_layers) == (16, 3)
    # YAML reads 1e-4 as text.
    assert config.optimizer.learning_rate == 1e-4
    assert config.data.store == "a=b"
    assert config.n_steps == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_stepz: 5", "config: expected settings among .*n_steps.*, got n_stepz"),
        ("model: {width: 5}", "got model.width"),
        ("model: 5", "model: expected a group of settings, got 5"),
        ("n_steps: 1.5", "n_steps: expected an integer, got 1.5"),
        ("n_steps: true", "n_steps: expected an integer, got True"),
        ("n_steps: 0", "n_steps: expected at least 1, got 0"),
        ("devices: many", "devices: expected an integer or auto, got 'many'"),
        ("devices: 0", "devices: expected at least 1, got 0"),
        ("backend: fast", "backend: expected one of .*native.*, got 'fast'"),
        ("data: {on_device: 1}", "data.on_device: expected true, false or auto, got 1"),
        ("data: {on_device: maybe}", "data.on_device: expected true, false or auto, got 'maybe'"),
        ("tensorboard: 1", "tensorboard: expected true or false, got 1"),
        ("out: 5", "out: expected text, got 5"),
        ("seed: -1", re.escape("seed: expected 0 to 2**63 - 1, got -1")),
        ("flow_sigma: -0.1", "flow_sigma: expected zero or more, got -0.1"),
        ("precision: fp8", "precision: expected one of fp32, tf32, bf16, fp64, got 'fp8'"),
        ("data: {coupling: x}", "data.coupling: expected one of none, r, .*, got 'x'"),
        ("data: {lag_law: x}", "data.lag_law: expected one of uniform, .*, got 'x'"),
        ("data: {length_unit_nm: 0}", "data.length_unit_nm: expected a value above zero, got 0 nm"),
        ("optimizer: {learning_rate: fast}", "learning_rate: expected a number, got 'fast'"),
        ("optimizer: {learning_rate: .nan}", "learning_rate: expected a number, got nan"),
        ("optimizer: {learning_rate: true}", "learning_rate: expected a number, got True"),
        ("optimizer: {learning_rate: 0}", "learning_rate: expected a value above zero, got 0"),
        ("optimizer: {schedule: x}", "optimizer.schedule: expected one of constant, cosine"),
        ("optimizer: {weight_decay: -1}", "optimizer.weight_decay: expected zero or more, got -1"),
        ("optimizer: {ema_decay: 1}", "optimizer.ema_decay: expected 0 to below 1, got 1"),
        ("optimizer: {final_learning_rate_share: 2}", "share: expected 0 to 1, got 2"),
        ("- 1", "config: expected a mapping of settings in .*, got list"),
        ("a: [", "config: expected YAML in .*"),
    ],
)
def test_bad_settings_are_refused_by_name(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_training_config(write(text))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("n_steps", "--set: expected name=value, got 'n_steps'"),
        ("=5", "--set: expected name=value, got '=5'"),
        ("n_steps.a=5", "--set: expected settings under n_steps, got 7"),
        ("n_steps=[", "--set: expected a YAML value"),
        ("nsteps=5", "got nsteps"),
    ],
)
def test_bad_overrides_are_refused(write, override, message):
    with pytest.raises(ValueError, match=message):
        read_training_config(write("n_steps: 7"), overrides=[override])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"config: expected an existing file, got .*none.yaml"
    ):
        read_training_config(tmp_path / "none.yaml")
