import pytest

from tito_fast.models.state.config import StateConfig

PRIOR = StateConfig(kind="equilibrium")


def test_a_config_comes_back_from_its_values():
    config = StateConfig(kind="bopito", max_lag_steps=7, prior=PRIOR, is_decay_learned=True)
    assert StateConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "flow"}, "kind: expected one of equilibrium, ito, bopito, got 'flow'"),
        ({"kind": "ito", "max_lag_steps": 0}, "max_lag_steps: expected at least 1, got 0"),
        ({"kind": "equilibrium", "max_lag_steps": 5}, "max_lag_steps: expected 0 .*, got 5"),
        ({"kind": "equilibrium", "n_layers": 1}, "n_layers: expected at least 2, got 1"),
        (
            {"kind": "equilibrium", "n_state_features": 5},
            "n_state_features: expected an even number of at least 2, got 5",
        ),
        ({"kind": "equilibrium", "state_length": 0.0}, "state_length: expected a value above zero"),
        ({"kind": "equilibrium", "noise_schedule": "line"}, "noise_schedule: expected one of"),
        ({"kind": "ito", "max_lag_steps": 5, "prior": PRIOR}, "prior: expected none for kind ito"),
        ({"kind": "bopito", "max_lag_steps": 5}, "prior: expected an equilibrium model, got none"),
        (
            {"kind": "bopito", "max_lag_steps": 5, "n_dims": 2, "prior": PRIOR},
            "prior: expected n_dims 2 as of the model, got 1",
        ),
    ],
)
def test_values_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        StateConfig(**settings)


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match="config: expected fields of StateConfig, got depth"):
        StateConfig.from_dict({"kind": "equilibrium", "depth": 3})
