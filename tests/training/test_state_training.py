import numpy as np
import pytest
import torch

from tito_fast.models.state.config import StateConfig
from tito_fast.models.state.model import StateModel
from tito_fast.training.state_decay import fitted_decay
from tito_fast.training.state_training import StateTrainingConfig, train_state_model

SMALL = {
    "n_features": 16,
    "n_state_features": 8,
    "n_lag_features": 4,
    "n_diffusion_features": 8,
    "n_diffusion_steps": 50,
    "noise_schedule": "polynomial",
}
PRIOR = StateConfig(kind="equilibrium", **SMALL)
FAST = StateTrainingConfig(n_steps=3, n_diffusion_draws=4, n_lag_draws=4)


def walks(n_trajectories=40, n_frames=60, *, decay=0.9, n_models=1, seed=0):
    """Return Ornstein-Uhlenbeck trajectories of standard deviation 0.5, (n_models, …, 1)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n_frames, n_models, n_trajectories))
    frames = [noise[0]]
    for step in noise[1:]:
        frames.append(decay * frames[-1] + np.sqrt(1 - decay**2) * step)
    return torch.from_numpy(0.5 * np.stack(frames, axis=-1)).float().unsqueeze(-1)


def ito(seeds=(1,)):
    return StateModel(StateConfig(kind="ito", max_lag_steps=20, **SMALL), seeds=seeds)


def bopito(seeds=(1,), **settings):
    config = StateConfig(kind="bopito", max_lag_steps=20, prior=PRIOR, **SMALL, **settings)
    return StateModel(config, seeds=seeds, prior=StateModel(PRIOR, seeds=seeds), decay=0.9)


def test_an_equilibrium_model_learns_the_spread_of_its_data():
    model = StateModel(PRIOR, seeds=[1])
    data = 0.3 + 0.4 * torch.randn(1, 2000, 1, 1, generator=torch.Generator().manual_seed(0))
    config = StateTrainingConfig(
        n_steps=250, n_diffusion_draws=16, n_lag_draws=16, learning_rate=1e-2
    )
    train_state_model(model, data, config, seeds=[2])
    noise = torch.randn(1, 2000, 1, generator=torch.Generator().manual_seed(1))
    sampled = model.sample(noise, n_steps=30)
    assert sampled.mean().item() == pytest.approx(0.3, abs=0.1)
    assert sampled.std().item() == pytest.approx(0.4, abs=0.1)


def test_an_ito_model_learns_that_memory_fades_with_the_lag():
    model = ito()
    config = StateTrainingConfig(
        n_steps=250, n_diffusion_draws=16, n_lag_draws=16, learning_rate=1e-2, lag_law="log"
    )
    train_state_model(model, walks(400), config, seeds=[2])
    generator = torch.Generator().manual_seed(1)
    noise, current = torch.randn(2, 1, 1000, 1, generator=generator).unbind()
    found = []
    for lag in (1, 20):
        sampled = model.sample(noise, current=0.5 * current, lag_steps=lag, n_steps=20)
        found.append(torch.corrcoef(torch.stack((current.flatten(), sampled.flatten())))[0, 1])
    assert found[0] > 0.75
    assert found[1] < 0.45


def test_a_model_does_not_depend_on_those_beside_it():
    data = walks(n_models=2)
    both = train_state_model(bopito((1, 2)), data, FAST, seeds=[3, 4])
    alone = train_state_model(bopito((2,)), data[1:], FAST, seeds=[4])
    torch.testing.assert_close(both.losses[1:], alone.losses)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(both.model.state_dict()[name][1:], value)


def test_training_twice_gives_the_same_bits():
    first, second = (train_state_model(ito(), walks(), FAST, seeds=[3]).model for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_only_the_dynamic_part_and_a_learned_decay_are_trained():
    for is_learned in (False, True):
        model, before = bopito(is_decay_learned=is_learned), bopito(is_decay_learned=is_learned)
        train_state_model(model, walks(), FAST, seeds=[3])
        changed = {
            name.partition(".")[0]
            for name, value in model.state_dict().items()
            if not torch.equal(value, before.state_dict()[name])
        }
        assert changed == ({"network", "log_timescale"} if is_learned else {"network"})


def test_the_result_is_the_average_of_the_weights():
    weights = []
    model = ito()
    settings = {"n_steps": 2, "n_diffusion_draws": 2, "n_lag_draws": 2, "is_rate_falling": False}

    def keep(_):
        weights.append(model.network.noised.weight.detach().clone())

    start = model.network.noised.weight.detach().clone()
    config = StateTrainingConfig(ema_decay=0.99, **settings)
    train_state_model(model, walks(), config, seeds=[3], on_step=keep)
    expected = start
    for step, weight in enumerate(weights):
        kept = (1 + step) / (10 + step)
        expected = kept * expected + (1 - kept) * weight
    torch.testing.assert_close(model.network.noised.weight.detach(), expected)


def test_pairs_are_frames_of_one_trajectory_a_lag_apart():
    # Frame numbers as states: x_t + lag is the next state if and only if the pair is right.
    from tito_fast.training.state_training import _Batches  # noqa: PLC0415  what a batch is

    frames = torch.arange(30.0).view(1, 1, 30, 1) + 100 * torch.arange(5.0).view(1, 5, 1, 1)
    batches = _Batches(ito(), frames, FAST, [0])
    for law in ("uniform", "log"):
        batches.config = StateTrainingConfig(lag_law=law)
        lags = batches._lags(64)
        current, following, _ = batches._pairs(lags, (8, 64))
        assert torch.equal(following - current, lags.view(1, 1, 64, 1).expand_as(current).float())
        assert set(lags.tolist()) <= set(range(1, 21))
        assert lags.max() > 15
        assert torch.equal(current // 100, following // 100)


def test_the_decay_of_a_known_process_is_found():
    trajectories = walks(400, 200, decay=0.95)[0].numpy()
    assert fitted_decay(trajectories, lag_steps=5) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StateTrainingConfig(n_steps=0), "n_steps: expected at least 1, got 0"),
        (lambda: StateTrainingConfig(ema_decay=1.0), r"ema_decay: expected a value in \[0, 1\)"),
        (lambda: StateTrainingConfig(lag_law="fixed"), "lag_law: expected one of uniform, log"),
        (
            lambda: train_state_model(ito(), walks()[0], FAST, seeds=[0]),
            "data: expected shape .*, got",
        ),
        (
            lambda: train_state_model(ito(), walks(n_models=2), FAST, seeds=[0]),
            "data: expected those of 1 models, got 2",
        ),
        (
            lambda: train_state_model(ito(), walks(), FAST, seeds=[0, 1]),
            "seeds: expected 1, one per model, got 2",
        ),
        (
            lambda: train_state_model(ito(), walks(n_frames=1), FAST, seeds=[0]),
            "n_frames: expected at least 2, got 1",
        ),
        (
            lambda: train_state_model(ito(), walks() * torch.nan, FAST, seeds=[0]),
            "data: expected finite values, got others",
        ),
        (
            lambda: fitted_decay(walks(5, 5)[0].numpy(), lag_steps=5),
            "trajectories: expected shape",
        ),
    ],
)
def test_values_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
