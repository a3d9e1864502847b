import pytest
import torch

from tito_fast.models.state.checkpoint import read_state_model, write_state_model
from tito_fast.models.state.config import StateConfig
from tito_fast.models.state.model import StateModel

SMALL = {
    "n_features": 8,
    "n_state_features": 6,
    "n_lag_features": 4,
    "n_diffusion_features": 4,
    "n_diffusion_steps": 20,
    "noise_schedule": "polynomial",
}
PRIOR = StateConfig(kind="equilibrium", **SMALL)
SEEDS = (1, 2)


def model_of(kind, *, seeds=SEEDS, decay=0.9, **settings):
    if kind == "equilibrium":
        return StateModel(PRIOR, seeds=seeds)
    if kind == "ito":
        return StateModel(StateConfig(kind="ito", max_lag_steps=10, **SMALL), seeds=seeds)
    config = StateConfig(kind="bopito", max_lag_steps=10, prior=PRIOR, **SMALL, **settings)
    return StateModel(config, seeds=seeds, prior=model_of("equilibrium", seeds=seeds), decay=decay)


def draw(n=5, seed=0):
    return torch.randn(2, 2, n, 1, generator=torch.Generator().manual_seed(seed)).unbind()


def test_bopito_is_the_prior_plus_the_decayed_dynamics():
    model, prior = model_of("bopito"), model_of("equilibrium")
    noised, current = draw()
    step, lag = torch.full((1, 1), 7.0), torch.tensor([[3]])
    condition = model.condition(current, lag)
    noise = model.noise(noised, step, condition=condition, weight=model.weight(lag))
    dynamic = model.network(noised, step, condition)
    torch.testing.assert_close(noise, prior.noise(noised, step) + 0.9**3 * dynamic)


def test_a_long_lag_samples_the_prior():
    noise, current = draw()
    sampled = model_of("bopito").sample(noise, current=current, lag_steps=400, n_steps=4)
    torch.testing.assert_close(sampled, model_of("equilibrium").sample(noise, n_steps=4))


def test_the_network_is_told_the_capped_lag_and_the_weight_the_true_one():
    model = model_of("bopito")
    _, current = draw()
    told = [model.condition(current, torch.tensor([[lag]])) for lag in (10, 25)]
    assert torch.equal(*told)
    assert model.weight(torch.tensor([[25]])).flatten().tolist() == pytest.approx([0.9**25] * 2)


def test_interpolation_takes_the_place_of_the_lag_in_the_power_alone():
    model = model_of("bopito")
    noise, current = draw()
    plain = model.sample(noise, current=current, lag_steps=25, n_steps=4)
    other = model.sample(noise, current=current, lag_steps=10, interpolation=25.0, n_steps=4)
    torch.testing.assert_close(other, plain)
    own = torch.tensor([25.0, 400.0])
    mixed = model.sample(noise, current=current, lag_steps=10, interpolation=own, n_steps=4)
    torch.testing.assert_close(mixed[0], plain[0])
    torch.testing.assert_close(mixed[1], model_of("equilibrium").sample(noise, n_steps=4)[1])


def test_ito_takes_what_is_left_over_first_and_then_its_longest_lag():
    model = model_of("ito")
    noise, current = draw()
    nested = model.sample(noise, current=current, lag_steps=25, n_steps=4, seed=3)
    generator = torch.Generator().manual_seed(3)
    state = model.sample(noise, current=current, lag_steps=5, n_steps=4)
    for _ in range(2):
        fresh = torch.randn(2, 5, 1, generator=generator)
        state = model.sample(fresh, current=state, lag_steps=10, n_steps=4)
    assert torch.equal(nested, state)


def test_ancestral_sampling_follows_its_seed():
    model = model_of("equilibrium")
    noise, _ = draw()
    first, again, other = (model.sample(noise, n_steps=0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gradients_reach_a_learned_decay_but_not_the_prior():
    model = model_of("bopito", is_decay_learned=True)
    noised, current = draw()
    lag = torch.tensor([[3]])
    condition, weight = model.condition(current, lag), model.weight(lag)
    model.noise(noised, torch.ones(1, 1), condition=condition, weight=weight).sum().backward()
    assert model.log_timescale.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in model.prior.parameters())
    assert model.decay.tolist() == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize("kind", ["equilibrium", "ito", "bopito"])
def test_a_file_gives_the_model_back(kind, tmp_path):
    model = model_of(kind)
    write_state_model(model, tmp_path / "model.safetensors")
    again = read_state_model(tmp_path / "model.safetensors")
    assert again.config == model.config
    state, expected = again.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_files_that_are_no_models_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        read_state_model(path)
    model = model_of("ito")
    model.network.noised.weight = torch.nn.Parameter(torch.zeros(2, 3, 3))
    write_state_model(model, path)
    with pytest.raises(ValueError, match="weights: expected those of the configuration"):
        read_state_model(path)


def test_selected_models_sample_as_before():
    model = model_of("bopito", decay=torch.tensor([0.9, 0.8]))
    noise, current = draw()
    sampled = model.sample(noise, current=current, lag_steps=3, n_steps=4)
    chosen = model.select([1, 1])
    again = chosen.sample(noise[[1, 1]], current=current[[1, 1]], lag_steps=3, n_steps=4)
    torch.testing.assert_close(again, sampled[[1, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StateModel(PRIOR, seeds=[]), "seeds: expected at least 1, got 0"),
        (lambda: StateModel(PRIOR, seeds=[0], decay=0.5), "prior: expected none, nor a decay"),
        (lambda: model_of("bopito", decay=None), "decay: expected a value above 0 .*, got none"),
        (lambda: model_of("bopito", decay=1.5), "decay: expected .*, got 1.5"),
        (
            lambda: StateModel(
                model_of("bopito").config, seeds=[1], prior=model_of("equilibrium"), decay=0.5
            ),
            "prior: expected 1 models of config.prior",
        ),
        (lambda: model_of("ito").decay, "decay: expected a model of kind bopito, got ito"),
        (lambda: model_of("ito").sample(draw()[0]), "current: expected states for kind ito"),
        (
            lambda: model_of("equilibrium").sample(draw()[0], lag_steps=3),
            "current: expected none, nor a lag",
        ),
        (
            lambda: model_of("ito").sample(draw()[0], current=draw()[1]),
            "lag_steps: expected at least 1, got 0",
        ),
        (
            lambda: model_of("ito").sample(*draw()[:1], current=draw()[1], interpolation=3.0),
            "interpolation: expected none for kind ito",
        ),
        (
            lambda: model_of("ito").sample(draw()[0], current=draw(3)[1], lag_steps=1),
            r"current: expected shape \(n_models, 5, 1\), got \(2, 3, 1\)",
        ),
    ],
)
def test_values_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
