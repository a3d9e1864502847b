import copy
import math
from dataclasses import replace

import pytest
import torch

from tito_fast.models.bopito.model import BopitoModel
from tito_fast.models.bopito.prior import equilibrium_prior
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.testing.tolerance import check_against_reference

INFO = ModelInfo(
    length_unit_nm=0.2, coupling="none", min_lag_ps=1.0, elements=(1, 6, 7, 8), bond_types=(0, 1, 2)
)
FLOW = TitoConfig(
    n_features=16,
    n_embedding_layers=2,
    n_model_layers=2,
    max_lag_ps=100.0,
    vector_start="zeros",
)
FLOW_PRIOR = replace(FLOW, is_conditional=False, n_embedding_layers=0)
DIFFUSION = TitoConfig.bopito_dynamic(
    n_features=16, n_model_layers=2, max_lag_ps=100.0, n_diffusion_steps=50
)
DIFFUSION_PRIOR = TitoConfig.bopito_equilibrium(
    n_features=16, n_model_layers=2, n_diffusion_steps=50
)
KINDS = {"velocity": (FLOW_PRIOR, FLOW), "noise": (DIFFUSION_PRIOR, DIFFUSION)}


def make_model(objective="velocity", *, dtype=torch.float32, **changes):
    equilibrium, dynamic = KINDS[objective]
    prior = TitoModel.create(equilibrium, INFO, seed=1)
    settings = {"relaxation_time_ps": 60.0, "frame_interval_ps": 1.0, "seed": 2, **changes}
    return BopitoModel.from_equilibrium(prior, dynamic, INFO, **settings).to(dtype=dtype)


class Case:
    """A batch with states and times; evaluates a model, and its terms by themselves."""

    def __init__(self, batch, model, *, backend="eager", lags=None):
        generator = torch.Generator().manual_seed(3)
        self.batch, self.model, self.backend = batch, model, backend
        shape = (2, batch.n_atoms, 3)
        self.current, self.x = torch.randn(shape, generator=generator, dtype=model.dtype).unbind()
        n = batch.n_molecules
        self.time = torch.linspace(0.2, 0.9, n, dtype=model.dtype)
        if model.config.objective == "noise":
            self.time = torch.round(self.time * 50)
        lags = [10.0 * (1 + k) for k in range(n)] if lags is None else lags
        self.lags = torch.tensor(lags, dtype=model.dtype)

    def field(self, model=None, *, lags=None, x=None, current=None):
        model = self.model if model is None else model
        prepared = model.prepare(self.batch, backend=self.backend)
        lags = self.lags if lags is None else lags
        x = self.x if x is None else x
        conditioning = model.condition(prepared, self.current if current is None else current, lags)
        function = model.velocity if model.config.objective == "velocity" else model.noise
        start = None
        if model.config.vector_start == "zeros":
            start = torch.zeros(self.batch.n_atoms, 3, 16, dtype=x.dtype)
        return function(prepared, conditioning, x, self.time, lags, vectors=start)

    def terms(self):
        """Return both terms, each from a model of its own."""
        network = self.model.network
        config = self.model.config
        dynamic = TitoModel(config, INFO, network.dynamic)
        equilibrium = TitoModel(network.equilibrium.config, INFO, network.equilibrium)
        told = self.lags.clamp(max=config.max_lag_ps)
        return self.field(equilibrium), self.field(dynamic, lags=told)


@pytest.mark.parametrize("objective", KINDS)
@pytest.mark.parametrize("backend", ["reference", "eager", "native"])
@torch.no_grad()
def test_the_field_is_the_equilibrium_and_what_is_left_of_the_dynamics(
    make_batch, objective, backend
):
    model = make_model(objective, dtype=torch.float64)
    case = Case(make_batch(5, 9, 2), model, backend=backend)
    equilibrium, dynamic = case.terms()
    share = torch.exp(-case.lags / 60.0)[case.batch.batch_idx].unsqueeze(-1)
    found = case.field()
    expected = equilibrium + share * dynamic
    # The decay is kept in float32 first: seven digits of the relaxation time.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (found - equilibrium).abs().max() > 0.01


@pytest.mark.parametrize("objective", KINDS)
@pytest.mark.parametrize("backend", ["eager", "native"])
@torch.no_grad()
def test_one_pass_is_two_passes_bitwise(make_batch, objective, backend):
    model = make_model(objective)
    case = Case(make_batch(5, 9, 2), model, backend=backend)
    equilibrium, dynamic = case.terms()
    weight = model.network.weight(case.lags)[case.batch.batch_idx].float().unsqueeze(-1)
    assert torch.equal(case.field(), equilibrium + weight * dynamic)


@pytest.mark.parametrize("objective", KINDS)
@torch.no_grad()
def test_a_lag_without_end_is_the_equilibrium_model_bitwise(make_batch, objective):
    case = Case(make_batch(5, 9), make_model(objective), lags=[1e6, math.inf])
    equilibrium, dynamic = case.terms()
    assert dynamic.abs().max() > 0
    assert torch.equal(case.field(), equilibrium)


@torch.no_grad()
def test_the_dynamic_network_is_told_no_more_than_its_longest_lag(make_batch):
    model = make_model(dtype=torch.float64)
    case = Case(make_batch(6, 6), model, lags=[100.0, 250.0])
    equilibrium, _ = case.terms()
    excess = case.field() - equilibrium
    case.lags = torch.tensor([100.0, 100.0], dtype=torch.float64)
    at_longest = case.field() - equilibrium
    torch.testing.assert_close(excess[:6], at_longest[:6])
    torch.testing.assert_close(
        excess[6:], math.exp(-150 / 60) * at_longest[6:], rtol=1e-5, atol=1e-12
    )


@torch.no_grad()
def test_an_interpolation_has_its_time_in_the_power_and_the_lag_in_the_network(make_batch):
    model = make_model(dtype=torch.float64)
    case = Case(make_batch(6), model, lags=[100.0])
    interpolated = model.interpolated(300.0)
    torch.testing.assert_close(
        case.field(interpolated), case.field(lags=torch.tensor([300.0], dtype=torch.float64))
    )
    equilibrium, _ = case.terms()
    assert torch.equal(case.field(model.interpolated(math.inf)), equilibrium)
    assert interpolated.interpolated(None).power_ps is None


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_gradients_are_the_dynamic_networks_alone(make_batch, backend):
    model = make_model(is_decay_learned=True)
    before = copy.deepcopy(model.network.equilibrium.state_dict())
    case = Case(make_batch(5, 7), model, backend=backend)
    case.field().square().sum().backward()
    with_gradient = {n for n, p in model.network.named_parameters() if p.grad is not None}
    assert "decay_logit" in with_gradient
    assert model.network.decay_logit.grad.abs() > 0
    assert not any(name.startswith("equilibrium.") for name in with_gradient)
    assert any(name.startswith("dynamic.velocity.") for name in with_gradient)
    assert any(name.startswith("dynamic.condition.") for name in with_gradient)
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=0.1, weight_decay=0.1)
    optimizer.step()
    for name, value in model.network.equilibrium.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_decay_that_is_given_has_no_gradient(make_batch):
    model = make_model()
    Case(make_batch(4), model).field().sum().backward()
    assert model.network.decay_logit.grad is None


@pytest.mark.parametrize("objective", KINDS)
@torch.no_grad()
def test_the_field_turns_with_the_interpolant_and_not_with_the_state(make_batch, objective):
    model = make_model(objective, dtype=torch.float64)
    case = Case(make_batch(5, 8), model)
    axes = torch.linalg.qr(torch.eye(3, dtype=torch.float64).roll(1, 0) + 0.3)[0]
    turn = axes * torch.linalg.det(axes).sign()
    # The diffusion's condition hands its vectors over, so there the state turns too.
    current = case.current @ turn.T if objective == "noise" else case.current
    torch.testing.assert_close(
        case.field(x=case.x @ turn.T, current=current),
        case.field() @ turn.T,
        rtol=0,
        atol=1e-10,
    )


@torch.no_grad()
def test_backends_agree_in_float32(make_batch):
    batch = make_batch(4, 9)
    exact = Case(batch, make_model(dtype=torch.float64), backend="reference").field()
    plain = Case(batch, make_model(), backend="reference").field()
    for backend in ("eager", "native"):
        check_against_reference(Case(batch, make_model(), backend=backend).field(), plain, exact)


@torch.no_grad()
def test_networks_of_different_width_are_two_passes(make_batch):
    prior = TitoModel.create(replace(FLOW_PRIOR, n_features=8), INFO, seed=1)
    model = BopitoModel.from_equilibrium(
        prior, FLOW, INFO, relaxation_time_ps=60.0, frame_interval_ps=1.0, seed=2
    )
    case = Case(make_batch(5), model, lags=[math.inf])
    prepared = prior.prepare(case.batch, backend="eager")
    expected = prior.velocity(
        prepared,
        prior.condition(prepared, None),
        case.x,
        case.time,
        None,
        vectors=torch.zeros(5, 3, 8),
    )
    assert torch.equal(case.field(), expected)


def test_the_decay_keeps_its_digits_in_float32():
    model = make_model(relaxation_time_ps=2500.0)
    assert model.relaxation_time_ps == pytest.approx(2500.0, rel=1e-5)
    assert model.decay_per_step == pytest.approx(math.exp(-1 / 2500), abs=1e-9)
    weight = model.network.weight(torch.tensor([5000.0]))
    assert weight.dtype == torch.float64
    assert weight.item() == pytest.approx(math.exp(-2), rel=1e-4)


def test_any_lag_may_be_asked_for():
    model = make_model()
    model.check_lag(1e9)
    with pytest.raises(ValueError, match="lag: expected a value above zero, got -1 ps"):
        model.check_lag(-1.0)


def test_molecules_must_be_known_to_both_models():
    prior = TitoModel.create(FLOW_PRIOR, replace(INFO, elements=(1, 6)), seed=0)
    model = BopitoModel.from_equilibrium(
        prior, FLOW, INFO, relaxation_time_ps=1.0, frame_interval_ps=1.0, seed=0
    )
    assert model.info.elements == (1, 6)


@pytest.mark.parametrize(
    ("config", "info", "message"),
    [
        (
            {},
            {"coupling": "r"},
            "equilibrium: expected a flow trained with coupling 'none', got 'r'",
        ),
        ({"vector_start": "randn"}, {}, "expected vectors that start at zero, got .*'randn'"),
        (
            {"is_conditional": True, "n_embedding_layers": 2},
            {},
            "equilibrium: expected a model without a condition",
        ),
    ],
)
def test_models_that_have_no_score_are_refused(config, info, message):
    prior = TitoModel.create(replace(FLOW_PRIOR, **config), replace(INFO, **info), seed=0)
    with pytest.raises(ValueError, match=message):
        equilibrium_prior(prior)


def test_two_models_are_joined_as_they_are():
    prior = TitoModel.create(FLOW_PRIOR, INFO, seed=1)
    dynamic = TitoModel.create(FLOW, INFO, seed=2)
    joined = BopitoModel.from_terms(
        prior, dynamic, relaxation_time_ps=60.0, frame_interval_ps=1.0
    ).network.state_dict()
    expected = make_model().network.state_dict()
    assert list(joined) == list(expected)
    assert all(torch.equal(joined[name], expected[name]) for name in joined)
    assert all(parameter.requires_grad for parameter in prior.network.parameters())


def test_a_diffusion_has_a_score_whatever_its_coupling_says():
    prior = TitoModel.create(DIFFUSION_PRIOR, replace(INFO, coupling="r"), seed=0)
    assert equilibrium_prior(prior) is prior


@pytest.mark.parametrize(
    ("config", "info", "message"),
    [
        (FLOW_PRIOR, {}, "dynamic: expected a model with a condition"),
        (replace(FLOW, vector_start="randn"), {}, "dynamic: expected vectors .* got .*'randn'"),
        (FLOW, {"coupling": "r"}, "dynamic: expected coupling 'none', got 'r'"),
        (DIFFUSION, {}, "dynamic: expected is_centered True .*, got False"),
        (FLOW, {"length_unit_nm": 0.3}, "dynamic: expected length_unit_nm 0.2 .*, got 0.3"),
        (FLOW, {"base_std": 2.0}, "dynamic: expected base_std 1 .*, got 2"),
        (replace(FLOW, is_centered=False), {}, "dynamic: expected is_centered True .*, got False"),
    ],
)
def test_terms_that_may_not_be_added_are_refused(config, info, message):
    prior = TitoModel.create(FLOW_PRIOR, INFO, seed=0)
    with pytest.raises(ValueError, match=message):
        BopitoModel.from_equilibrium(
            prior,
            config,
            replace(INFO, **info),
            relaxation_time_ps=1.0,
            frame_interval_ps=1.0,
            seed=0,
        )


def test_a_diffusion_is_no_prior_of_a_flow():
    prior = TitoModel.create(replace(DIFFUSION_PRIOR, is_centered=True), INFO, seed=0)
    with pytest.raises(ValueError, match=r"dynamic: expected objective 'noise' .* got 'velocity'"):
        BopitoModel.from_equilibrium(
            prior, FLOW, INFO, relaxation_time_ps=1.0, frame_interval_ps=1.0, seed=0
        )


def test_a_prior_with_temperature_needs_a_dynamic_term_with_one():
    prior = TitoModel.create(replace(FLOW_PRIOR, has_temperature=True), INFO, seed=0)
    with pytest.raises(ValueError, match="dynamic: expected has_temperature true"):
        BopitoModel.from_equilibrium(
            prior, FLOW, INFO, relaxation_time_ps=1.0, frame_interval_ps=1.0, seed=0
        )


def test_values_are_checked(make_batch):
    with pytest.raises(ValueError, match="relaxation_time_ps: expected a value above zero, got 0"):
        make_model(relaxation_time_ps=0.0)
    with pytest.raises(ValueError, match="frame_interval_ps: expected a value above zero, got -1"):
        make_model(frame_interval_ps=-1.0)
    model = make_model()
    with pytest.raises(ValueError, match="power_ps: expected zero or more, got -1"):
        model.interpolated(-1.0)
    with pytest.raises(TypeError, match="network: expected a BopitoNetwork, got TitoNetwork"):
        BopitoModel(model.config, model.info, TitoModel.create(FLOW, INFO, seed=0).network)
    case = Case(make_batch(4), model)
    prepared = model.prepare(case.batch)
    with pytest.raises(ValueError, match="lag_time_ps: expected a lag for this model, got None"):
        model.velocity(
            prepared,
            model.condition(prepared, case.current),
            case.x,
            case.time,
            None,
            vectors=torch.zeros(4, 3, 16),
        )
