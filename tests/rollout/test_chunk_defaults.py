"""What a rollout does where its configuration leaves solver and steps open."""

import pytest

from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.rollout.chunk import n_ode_steps_of, solver_of
from tito_fast.rollout.config import RolloutConfig

SMALL = {"n_features": 8, "n_model_layers": 1}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TitoConfig(**SMALL, vector_start="zeros"), ("ab2", 10)),
        (TitoConfig(**SMALL, vector_start="condition"), ("ab2", 10)),
        (TitoConfig(**SMALL, vector_start="randn"), ("euler", 20)),
        (TitoConfig(**SMALL, vector_start="randn_fixed"), ("euler", 20)),
        (TitoConfig.ito(n_features=8, n_model_layers=1), ("dpm-solver++", 50)),
    ],
)
def test_a_field_without_noise_takes_fewer_steps(config, expected):
    model = TitoModel.create(config, ModelInfo(length_unit_nm=0.2), seed=0)
    open_config = RolloutConfig(lag_times_ps=(10.0,), n_rollout_steps=1)
    assert (solver_of(model, open_config), n_ode_steps_of(model, open_config)) == expected


def test_what_is_named_is_taken():
    model = TitoModel.create(
        TitoConfig(**SMALL, vector_start="zeros"), ModelInfo(length_unit_nm=0.2), seed=0
    )
    euler = RolloutConfig(lag_times_ps=(10.0,), n_rollout_steps=1, solver="euler")
    assert (solver_of(model, euler), n_ode_steps_of(model, euler)) == ("euler", 20)
    seven = RolloutConfig(lag_times_ps=(10.0,), n_rollout_steps=1, n_ode_steps=7)
    assert (solver_of(model, seven), n_ode_steps_of(model, seven)) == ("ab2", 7)
