"""Transitions of models that predict noise: what a sample depends on, settings, refusals."""

import json
from dataclasses import replace

import pytest
import torch

from tito_fast.flows import NoiseSchedule
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.noise import CounterNoise
from tito_fast.ops import center
from tito_fast.rollout.chunk import Chunk, Row, flow_settings
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.diffusion import DiffusionSettings
from tito_fast.rollout.engine import transition
from tito_fast.rollout.sample import sample
from tito_fast.solvers import DIFFUSION_SOLVERS, ddpm_sample, dpm_solver_sample

SHAPE = {"n_features": 8, "n_model_layers": 1, "n_diffusion_steps": 12}
CONFIGS = {
    "ito": TitoConfig.ito(n_embedding_layers=1, **SHAPE),
    "dynamic": TitoConfig.bopito_dynamic(n_embedding_layers=1, max_lag_ps=1000.0, **SHAPE),
    "equilibrium": TitoConfig.bopito_equilibrium(**SHAPE),
    "centered": replace(TitoConfig.ito(n_embedding_layers=1, **SHAPE), is_centered=True),
}
ROLLOUT = RolloutConfig(lag_times_ps=(50.0, 10.0), n_rollout_steps=3, n_ode_steps=4)


def make_model(name="ito"):
    return TitoModel.create(CONFIGS[name], ModelInfo(length_unit_nm=0.2), seed=0)


def start_of(rows):
    return torch.cat([torch.as_tensor(row.molecule.positions).float() for row in rows]) / 0.2


def run_rows(model, rows, config):
    steps = Chunk(model, rows, config).run(start_of(rows), first_step=0, last_step=3)
    return torch.stack(list(steps))


@pytest.mark.parametrize("solver", DIFFUSION_SOLVERS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_trajectory_does_not_depend_on_its_chunk_bitwise(name, solver, make_molecule):
    model, config = make_model(name), replace(ROLLOUT, solver=solver)
    first, second = make_molecule(7), make_molecule(5)
    rows = [Row(0, first, 0), Row(0, first, 4), Row(1, second, 0)]
    together = run_rows(model, rows, config)
    assert torch.isfinite(together).all()
    assert not torch.equal(together[:, :7], together[:, 7:14])
    start = 0
    for row in rows:
        end = start + row.molecule.n_atoms
        assert torch.equal(together[:, start:end], run_rows(model, [row], config)), row
        start = end


def test_going_on_from_a_state_is_the_uninterrupted_run(make_molecule):
    model, rows = make_model(), [Row(0, make_molecule(7), 0)]
    config = replace(ROLLOUT, solver="ddpm")
    whole = run_rows(model, rows, config)
    rest = list(Chunk(model, rows, config).run(whole[0], first_step=1, last_step=3))
    assert torch.equal(torch.stack(rest), whole[1:])


@pytest.mark.parametrize("is_centered", [False, True])
@pytest.mark.parametrize("solver", DIFFUSION_SOLVERS)
def test_a_transition_is_the_sampler_on_the_predicted_noise(solver, is_centered, make_molecule):
    model = make_model("centered" if is_centered else "ito")
    rows = [Row(0, make_molecule(6), 0), Row(0, make_molecule(6), 1)]
    x, lag = start_of(rows), torch.tensor([50.0, 20.0])
    prepared = model.prepare(Chunk(model, rows, ROLLOUT)._prepared.batch)
    batch_ptr = prepared.batch.batch_ptr
    noise = CounterNoise(3, [1, 1], [0, 1], sizes=[6, 6], n_features=8)
    schedule = NoiseSchedule("sigmoid", 12)
    conditioning = model.condition(prepared, x, lag)

    def field(x_d, step, _):
        with torch.no_grad():
            return model.noise(prepared, conditioning, x_d, torch.full((2,), step), lag)

    def trained(values):
        return center(values, batch_ptr=batch_ptr) if is_centered else values

    if solver == "ddpm":
        normals = lambda index: trained(noise.diffusion(1, index))  # noqa: E731
        wanted = ddpm_sample(
            field, trained(noise.base(1)), schedule=schedule, normals=normals, n_steps=5
        )
    else:
        wanted = dpm_solver_sample(field, trained(noise.base(1)), schedule=schedule, n_steps=5)
    arguments = {"lag_time_ps": lag, "noise": noise, "rollout_step": 1}
    settings = DiffusionSettings(schedule=schedule, solver=solver, n_steps=5, center=False)
    found = transition(model, prepared, x, settings=settings, **arguments)
    assert torch.equal(found, wanted)
    settings = replace(settings, center=True)
    centered = transition(model, prepared, x, settings=settings, **arguments)
    assert torch.equal(centered, center(wanted, batch_ptr=batch_ptr))


def test_every_diffusion_step_can_be_taken(make_molecule):
    model, rows = make_model(), [Row(0, make_molecule(4), 0)]
    prepared = model.prepare(Chunk(model, rows, ROLLOUT)._prepared.batch)
    drawn = []

    class Counting(CounterNoise):
        def diffusion(self, rollout_step, evaluation):
            drawn.append(evaluation)
            return super().diffusion(rollout_step, evaluation)

    transition(
        model,
        prepared,
        start_of(rows),
        lag_time_ps=torch.tensor([10.0]),
        noise=Counting(0, [1], [0], sizes=[4], n_features=8),
        rollout_step=0,
        settings=DiffusionSettings(
            schedule=NoiseSchedule("sigmoid", 12), solver="ddpm", n_steps=None
        ),
    )
    assert drawn == list(range(11))


def test_what_is_left_open_is_as_published_and_recorded(make_molecule, tmp_path):
    model = make_model()
    open_config = RolloutConfig(lag_times_ps=(10.0,), n_rollout_steps=1)
    settings = flow_settings(model, open_config)
    assert (settings.solver, settings.n_steps) == ("dpm-solver++", 50)
    assert settings.schedule == NoiseSchedule("sigmoid", 12)
    flow = TitoModel.create(TitoConfig(n_features=8), ModelInfo(length_unit_nm=0.2), seed=0)
    settings = flow_settings(flow, open_config)
    assert (settings.solver, len(settings.time_grid)) == ("euler", 21)
    sample(make_molecule(4), open_config, out=tmp_path / "run", model=model)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    settings = record["settings"]
    assert (settings["solver"], settings["n_ode_steps"]) == ("dpm-solver++", 50)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"solver": "heun"}, r"solver: expected one of ddpm, dpm-solver\+\+ for a model that"),
        ({"base_std": 0.5}, r"base_std: expected none for a model that predicts noise, .* got 0.5"),
        ({"vector_start": "zeros"}, "vector_start: this model was trained with condition"),
    ],
)
def test_what_a_noise_model_has_no_use_for_is_refused(changed, message, make_molecule, tmp_path):
    with pytest.raises(ValueError, match=message):
        sample(make_molecule(4), replace(ROLLOUT, **changed), out=tmp_path, model=make_model())


@pytest.mark.parametrize("solver", DIFFUSION_SOLVERS)
def test_samplers_of_noise_are_refused_for_a_velocity(solver, make_molecule, tmp_path):
    flow = TitoModel.create(TitoConfig(n_features=8), ModelInfo(length_unit_nm=0.2), seed=0)
    config = replace(ROLLOUT, solver=solver)
    with pytest.raises(ValueError, match=r"solver: expected one of euler.* predicts a velocity"):
        sample(make_molecule(4), config, out=tmp_path, model=flow)


def test_invalid_settings():
    schedule = NoiseSchedule("sigmoid", 12)
    with pytest.raises(ValueError, match=r"solver: expected one of ddpm, dpm-solver\+\+, got"):
        DiffusionSettings(schedule=schedule, solver="euler")
    with pytest.raises(ValueError, match="ode_steps: expected at least 1, got 0"):
        DiffusionSettings(schedule=schedule, n_steps=0)
    with pytest.raises(ValueError, match=r"solver: expected one of euler, .*ddpm.* got 'rk9'"):
        replace(ROLLOUT, solver="rk9")
    with pytest.raises(ValueError, match="ode_steps: expected at most 12 for ddpm, got 13"):
        DiffusionSettings(schedule=schedule, solver="ddpm", n_steps=13)
