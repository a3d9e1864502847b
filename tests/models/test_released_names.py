import math

import pytest
import torch

from tito_fast.models.released_names import (
    ReleasedShape,
    released_config_to_tito,
    shape_of_released,
    state_dict_to_ours,
    to_ours,
    to_released,
)
from tito_fast.models.tito.config import TitoConfig
from tito_fast.models.tito.network import TitoNetwork

VARIANTS = [
    {},
    {"n_reduced_features": 4},
    {"temperature": True},
    {"embedding_layers": 3, "model_layers": 12, "n_features": 4},
    {"virtual_node": True, "cutoff": 1.5},
]


@pytest.mark.parametrize("change", VARIANTS)
def test_names_are_a_bijection_with_equal_shapes(released, change):
    config = {**released.CONFIG, **change}
    theirs = released.released_module(config).state_dict()
    tito = released_config_to_tito(config)
    ours = TitoNetwork(tito).state_dict()
    kept = {name: to_ours(name) for name in theirs if to_ours(name) is not None}
    assert set(kept.values()) == set(ours)
    assert len(set(kept.values())) == len(kept)
    assert {name for name in theirs if name not in kept} == {
        name for name in theirs if name.endswith("device_tracker")
    }
    for released_name, name in kept.items():
        assert to_released(name, config=tito) == released_name
        assert theirs[released_name].shape == ours[name].shape


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("embed.4.layers.0.phi.mlp.3.bias", "condition.layers.0.message.phi.3.bias"),
        ("embed.4.layers.2.w.mlp.6.weight", "condition.layers.1.message.filter.6.weight"),
        ("score.5.layers.9.u.linear.weight", "velocity.layers.4.update.u.weight"),
        ("score.5.layers.9.v.linear.weight", "velocity.layers.4.update.v.weight"),
        ("score.5.layers.10.V.linear.weight", "velocity.readout.v.weight"),
        ("score.4.mlp.mlp.0.weight", "velocity.combine.0.weight"),
        (
            "score.5.layers.0.reducer.expand_invariant_edges_features.bias",
            "velocity.layers.0.message.expand_edges.bias",
        ),
        ("radius_edges.device_tracker", None),
    ],
)
def test_names_by_hand(theirs, ours):
    assert to_ours(theirs) == ours


@pytest.mark.parametrize(
    "name",
    ["", "embed.5.weight", "score.5.layers.x.phi.mlp.0.weight", "score.5.layers.1.phi.mlp.0.weight",
     "embed.4.layers.-2.phi.mlp.0.weight", "score.embed.1.embedding.weight"],
)  # fmt: skip
def test_unknown_released_name_is_refused(name):
    with pytest.raises(ValueError, match="expected parameters of a TITO network"):
        to_ours(name)


@pytest.mark.parametrize(
    "name", ["", "condition.layers.0.other.weight", "velocity.layers.x.update.u.weight"]
)
def test_unknown_name_of_ours_is_refused(name):
    with pytest.raises(ValueError, match="name: expected a parameter of TitoNetwork"):
        to_released(name, config=TitoConfig())


def test_two_names_of_one_parameter_are_refused():
    weight = torch.zeros(2)
    names = ("score.5.layers.4.V.linear.weight", "score.5.layers.6.V.linear.weight")
    with pytest.raises(ValueError, match=r"expected one velocity.readout.v.weight, got a second"):
        state_dict_to_ours(dict.fromkeys(names, weight))


@pytest.mark.parametrize("change", VARIANTS)
def test_shapes_tell_the_architecture(released, change):
    config = {**released.CONFIG, **change}
    assert shape_of_released(released.released_module(config).state_dict()) == ReleasedShape(
        n_features=config["n_features"],
        n_embedding_layers=config["embedding_layers"],
        n_model_layers=config["model_layers"],
        n_reduced_features=config["n_reduced_features"] or None,
        has_temperature=config["temperature"],
    )


def test_incomplete_state_dict_is_refused(released):
    state = released.released_module(released.CONFIG).state_dict()
    with pytest.raises(ValueError, match=r"expected a matrix score.4.mlp.mlp.0.weight, got none"):
        shape_of_released({})
    with pytest.raises(ValueError, match=r"expected a matrix embed.1.embedding.weight, got \(3,\)"):
        shape_of_released({**state, "embed.1.embedding.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="3 or 4 times n_features = 8 columns, got 5"):
        shape_of_released({**state, "score.4.mlp.mlp.0.weight": torch.zeros(8, 5)})
    no_readout = {name: t for name, t in state.items() if not name.endswith("V.linear.weight")}
    with pytest.raises(ValueError, match=r"expected one readout embed\.4\.layers\.<even number>"):
        shape_of_released(no_readout)


def test_config_translates_every_argument():
    assert released_config_to_tito(
        {
            "n_features": 32,
            "cutoff": 2,
            "virtual_node": True,
            "embedding_layers": 3,
            "model_layers": 4,
            "max_lag": 500,
            "length_scale": 7.5,
            "n_reduced_features": 16,
            "temperature": True,
        }
    ) == TitoConfig(
        n_features=32,
        scaled_cutoff=2.0,
        n_embedding_layers=3,
        n_model_layers=4,
        max_lag_ps=500.0,
        distance_encoding_length=7.5,
        n_reduced_features=16,
        has_temperature=True,
        temperature_scale_k=1.0,
        vector_start="randn",
    )


def test_absent_and_empty_arguments(released):
    older = {
        k: v for k, v in released.CONFIG.items() if k not in ("temperature", "n_reduced_features")
    }
    config = released_config_to_tito(older)
    assert config == released_config_to_tito(released.CONFIG)
    assert config.n_reduced_features is None
    assert config.scaled_cutoff is None
    assert released_config_to_tito({**older, "cutoff": math.inf}).scaled_cutoff is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_features": 8.0}, "n_features: expected a whole number, got 8.0"),
        ({"embedding_layers": True}, "embedding_layers: expected a whole number, got True"),
        ({"max_lag": "1ns"}, "max_lag: expected a number, got '1ns'"),
        ({"max_lag": 10**400}, "max_lag: expected a number"),
        ({"max_lag": math.nan}, "max_lag: expected a number, got nan"),
        ({"max_lag": -5}, "max_lag_ps: expected a value above zero"),
        ({"cutoff": [1.0]}, "cutoff: expected a number, got a list"),
        ({"temperature": 300}, "temperature: expected true or false, got 300"),
        ({"n_layers": 3}, "got one with n_layers"),
    ],
)
def test_wrong_argument_is_refused(released, change, message):
    with pytest.raises(ValueError, match=message):
        released_config_to_tito({**released.CONFIG, **change})


def test_missing_argument_is_named(released):
    config = {k: v for k, v in released.CONFIG.items() if k != "max_lag"}
    with pytest.raises(ValueError, match="got one without max_lag"):
        released_config_to_tito(config)
