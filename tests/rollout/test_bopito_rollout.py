from dataclasses import replace

import pytest
import torch

from tito_fast.cli.sample import _schedule
from tito_fast.models.bopito.model import BopitoModel
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.rollout.chunk import Chunk, Row
from tito_fast.rollout.config import RolloutConfig
from tito_fast.rollout.sample import sample

INFO = ModelInfo(length_unit_nm=0.2, coupling="none")
FLOW = TitoConfig(n_features=16, n_model_layers=1, vector_start="zeros", max_lag_ps=100.0)
DIFFUSION = TitoConfig.bopito_dynamic(n_features=16, n_model_layers=1, n_diffusion_steps=50)
PRIORS = {
    "velocity": replace(FLOW, is_conditional=False, n_embedding_layers=0),
    "noise": TitoConfig.bopito_equilibrium(n_features=16, n_model_layers=1, n_diffusion_steps=50),
}
ROLLOUT = RolloutConfig(
    lag_times_ps=(50.0,), n_rollout_steps=2, n_ode_steps=3, backend="eager", align=False
)


def make_models(objective):
    prior = TitoModel.create(PRIORS[objective], INFO, seed=0)
    model = BopitoModel.from_equilibrium(
        prior,
        FLOW if objective == "velocity" else DIFFUSION,
        INFO,
        relaxation_time_ps=60.0,
        frame_interval_ps=1.0,
        seed=1,
    )
    return prior, model


def frames(model, molecule, config):
    start = torch.as_tensor(molecule.positions).float() / 0.2
    chunk = Chunk(model, [Row(0, molecule, 0)], config)
    return torch.stack(list(chunk.run(start, first_step=0, last_step=config.n_rollout_steps)))


@pytest.mark.parametrize("objective", PRIORS)
def test_lags_far_beyond_the_relaxation_sample_the_equilibrium_model_bitwise(
    make_molecule, objective
):
    prior, model = make_models(objective)
    molecule = make_molecule(6)
    far = replace(ROLLOUT, lag_times_ps=(1e6,))
    assert torch.equal(frames(model, molecule, far), frames(prior, molecule, far))
    near = frames(model, molecule, ROLLOUT)
    assert (near - frames(prior, molecule, ROLLOUT)).abs().max() > 1e-3


def test_a_schedule_mixes_interpolated_and_plain_steps(make_molecule):
    _, model = make_models("velocity")
    molecule = make_molecule(6)
    mixed = replace(ROLLOUT, lag_times_ps=(100.0, 10.0), interpolation_times_ps=(240.0, None))
    # From the longest lag on, the network is told the same and the power alone differs.
    by_lag = replace(ROLLOUT, lag_times_ps=(240.0, 10.0))
    assert torch.equal(frames(model, molecule, mixed), frames(model, molecule, by_lag))
    plain = replace(ROLLOUT, lag_times_ps=(100.0, 10.0))
    assert not torch.equal(frames(model, molecule, mixed), frames(model, molecule, plain))


def test_a_run_on_disk_remembers_its_interpolation(make_molecule, tmp_path):
    _, model = make_models("velocity")
    config = replace(ROLLOUT, n_rollout_steps=1, interpolation_times_ps=(80.0,))
    (result,) = sample(make_molecule(5), config, out=tmp_path / "run", model=model)
    assert result.n_frames == (2,)
    with pytest.raises(ValueError, match="interpolation_times_ps"):
        sample(
            make_molecule(5),
            replace(config, interpolation_times_ps=(90.0,)),
            out=tmp_path / "run",
            model=model,
        )


def test_models_without_an_equilibrium_term_refuse_an_interpolation(make_molecule, tmp_path):
    model = TitoModel.create(FLOW, INFO, seed=0)
    config = replace(ROLLOUT, interpolation_times_ps=(80.0,))
    with pytest.raises(ValueError, match="interpolation: expected none for a model without"):
        sample(make_molecule(5), config, out=tmp_path / "run", model=model)
    assert not (tmp_path / "run").exists()


def test_the_command_line_reads_a_schedule():
    assert _schedule("1ns,10ps") == {"lag_times_ps": (1000.0, 10.0)}
    assert _schedule("1ns@2.5ns,10ps") == {
        "lag_times_ps": (1000.0, 10.0),
        "interpolation_times_ps": (2500.0, None),
    }


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ((1.0, 2.0), "interpolation: expected one for each of 1 lags, or none at all, got 2"),
        ((-1.0,), "interpolation: expected a value above zero, got -1 ps"),
    ],
)
def test_interpolations_are_checked(times, message):
    with pytest.raises(ValueError, match=message):
        replace(ROLLOUT, interpolation_times_ps=times)
