"""Transitions and chunks: what a sample depends on."""

from dataclasses import replace

import pytest
import torch

from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.noise import CounterNoise
from tito_fast.rollout.chunk import Chunk, Row, flow_settings, rows_per_chunk
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.engine import (
    FlowSettings,
    check_lag_schedule,
    resolve_vector_start,
    transition,
)
from tito_fast.solvers import SOLVERS

CONFIG = TitoConfig(n_features=16, n_embedding_layers=2, n_model_layers=2, max_lag_ps=100.0)
ROLLOUT = RolloutConfig(lag_times_ps=(50.0, 10.0), n_rollout_steps=3, n_ode_steps=3)


@pytest.fixture
def model():
    return TitoModel.create(CONFIG, ModelInfo(length_unit_nm=0.2, min_lag_ps=1.0), seed=0)


def run_rows(model, rows, config):
    positions = torch.cat([torch.as_tensor(row.molecule.positions) for row in rows]) / 0.2
    chunk = Chunk(model, rows, config)
    positions = positions.to(model.dtype)
    return torch.stack(list(chunk.run(positions, first_step=0, last_step=config.n_rollout_steps)))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_trajectory_does_not_depend_on_its_chunk_bitwise(model, make_molecule, solver):
    config = replace(ROLLOUT, solver=solver, n_rollout_steps=2)
    first, second = make_molecule(7), make_molecule(12)
    rows = [Row(0, first, replica) for replica in range(5)] + [Row(1, second, 0), Row(1, second, 3)]
    together = run_rows(model, rows, config)
    start = 0
    for row in rows:
        end = start + row.molecule.n_atoms
        assert torch.equal(together[:, start:end], run_rows(model, [row], config)), row
        start = end


def test_going_on_from_a_state_is_the_uninterrupted_run(model, make_molecule):
    rows = [Row(0, make_molecule(7), 0)]
    whole = run_rows(model, rows, ROLLOUT)
    rest = list(Chunk(model, rows, ROLLOUT).run(whole[0], first_step=1, last_step=3))
    assert torch.equal(torch.stack(rest), whole[1:])


def test_lags_may_differ_between_molecules_and_matter(model, make_molecule):
    molecule = make_molecule(6)
    prepared = model.prepare(Chunk(model, [Row(0, molecule, 0)] * 2, ROLLOUT)._prepared.batch)
    noise = CounterNoise(0, [1, 1], [0, 0], sizes=[6, 6], n_features=16)
    positions = torch.as_tensor(molecule.positions).float().repeat(2, 1) / 0.2
    settings = FlowSettings(time_grid=(0.0, 0.5, 1.0))
    moved = transition(
        model,
        prepared,
        positions,
        lag_time_ps=torch.tensor([10.0, 90.0]),
        noise=noise,
        rollout_step=0,
        settings=settings,
    )
    assert (moved[:6] - moved[6:]).abs().max() > 1e-4


def test_samples_are_centered_and_backends_agree(model, make_molecule):
    rows = [Row(0, make_molecule(9), 0)]
    model.to(dtype=torch.float64)
    eager, reference = (
        run_rows(model, rows, replace(ROLLOUT, backend=backend, precision="fp64"))
        for backend in ("eager", "reference")
    )
    assert eager.mean(dim=1).abs().max() < 1e-12
    torch.testing.assert_close(eager, reference, rtol=0, atol=1e-9)


def test_random_vectors_are_fixed_for_solvers_other_than_euler(model):
    assert resolve_vector_start(model, solver="euler") == "randn"
    assert resolve_vector_start(model, solver="rk4") == "randn_fixed"
    assert resolve_vector_start(model, solver="rk4", requested="randn") == "randn"
    zeros = TitoModel.create(replace(CONFIG, vector_start="zeros"), model.info, seed=0)
    assert resolve_vector_start(zeros, solver="heun") == "zeros"
    with pytest.raises(
        ValueError, match="vector_start: this model was trained with zeros, got randn"
    ):
        resolve_vector_start(zeros, solver="euler", requested="randn")
    with pytest.raises(
        ValueError, match="vector_start: this model was trained with randn, got zeros"
    ):
        resolve_vector_start(model, solver="euler", requested="zeros")


def test_fixed_vectors_differ_from_new_ones(model, make_molecule):
    rows = [Row(0, make_molecule(6), 0)]
    results = [
        run_rows(model, rows, replace(ROLLOUT, vector_start=start))
        for start in ("randn", "randn_fixed")
    ]
    assert not torch.allclose(*results)


def test_base_std_comes_from_the_model_unless_it_is_given(model):
    model.info = replace(model.info, base_std=1.3)
    assert flow_settings(model, ROLLOUT).base_std == 1.3
    assert flow_settings(model, replace(ROLLOUT, base_std=0.7)).base_std == 0.7


def test_chunks_fit_the_memory_or_the_number_given(model):
    assert rows_per_chunk(model, replace(ROLLOUT, batch_size=3), 100) == 3
    few, many = (rows_per_chunk(model, ROLLOUT, n_atoms) for n_atoms in (500, 20))
    assert 1 <= few < many


def test_lags_above_the_maximum_name_the_nested_schedule(model):
    with pytest.raises(ValueError, match=r"got 250 ps; nest it: 3 steps of 83.3333 ps each"):
        check_lag_schedule(model, (10.0, 250.0))
    assert check_lag_schedule(model, (0.5, 10.0)) == [
        "lag 0.5 ps is below the shortest the model was trained on, 1 ps"
    ]


def test_lags_are_cycled_over_the_steps():
    config = RolloutConfig(lag_times_ps=(1000.0, 1000.0, 10.0), n_rollout_steps=7)
    assert [config.lag_time_ps(step) for step in range(7)] == [1000, 1000, 10, 1000, 1000, 10, 1000]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lag_times_ps": ()}, "lag: expected at least one lag"),
        ({"lag_times_ps": (0.0,)}, "lag: expected a value above zero, got 0 ps"),
        ({"n_rollout_steps": 0}, "n_steps: expected at least 1, got 0"),
        ({"n_replicas": 0}, "replicas: expected at least 1, got 0"),
        ({"n_ode_steps": -1}, "ode_steps: expected at least 1, got -1"),
        ({"solver": "dopri5"}, "solver: expected one of"),
        ({"seed": -1}, "seed: expected 0 to"),
        ({"base_std": 0.0}, "base_std: expected a value above zero"),
        ({"batch_size": 0}, "batch_size: expected at least 1"),
        ({"precision": "fp8"}, "precision: expected one of"),
        ({"format": "pdb"}, "format: expected one of xtc, dcd, h5, got 'pdb'"),
        ({"vector_start": "ones"}, "vector_start: expected one of"),
    ],
)
def test_bad_settings_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        replace(ROLLOUT, **changed)
