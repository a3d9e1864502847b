"""Backend triton: the network against its definition, and rollout steps at fixed addresses.

Without a GPU the kernels are interpreted on CPU tensors; with one the same tests run them compiled.
"""

from dataclasses import replace

import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.models.tito import static_graph, triton_step
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel, resolve_model_backend
from tito_fast.noise import CounterNoise, RecordedNoise
from tito_fast.precision import forward_precision, matmul_precision
from tito_fast.rollout.engine import FlowSettings, transition
from tito_fast.solvers import solver_by_name
from tito_fast.testing.tolerance import check_against_reference

SMALL = TitoConfig(n_features=32, n_embedding_layers=2, n_model_layers=2, max_lag_ps=100.0)
VARIANTS = {
    "default": SMALL,
    "reduced": replace(SMALL, n_features=64, n_reduced_features=32, n_model_layers=1),
    "temperature": replace(SMALL, has_temperature=True, temperature_scale_k=500.0),
    "cutoff": replace(SMALL, scaled_cutoff=1.5),
}
GRID = (0.0, 0.4, 1.0)


@pytest.fixture
def exact_dtype(triton_device):
    """float64 where kernels are interpreted; float32 on a GPU, whose kernels have no more."""
    return torch.float64 if triton_device.type == "cpu" else torch.float32


def make_model(device, config=SMALL, dtype=torch.float32):
    model = TitoModel.create(config, ModelInfo(length_unit_nm=0.2), seed=0)
    # A weak field: an untrained one on crowded atoms is chaotic, and shows nothing but rounding.
    with torch.no_grad():
        model.network.velocity.readout.v.weight *= 1e-2
    return model.to(device=device, dtype=dtype)


def inputs(model, batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = batch.n_molecules
    shapes = [(batch.n_atoms, 3), (batch.n_atoms, 3), (batch.n_atoms, 3, model.config.n_features)]
    current, x_t, vectors = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(model.device, model.dtype)
        for shape in shapes
    )
    times, lags, kelvin = (
        torch.linspace(*ends, n, dtype=torch.float64).to(model.device, model.dtype)
        for ends in ((0.1, 0.9), (5.0, 95.0), (280.0, 320.0))
    )
    return current, x_t, vectors, times, lags, kelvin if model.config.has_temperature else None


def velocity(model, batch, backend, *, seed=0):
    current, x_t, vectors, times, lags, kelvin = inputs(model, batch, seed)
    prepared = model.prepare(batch.to(model.device), backend=backend)
    conditioning = model.condition(prepared, current)
    return model.velocity(
        prepared, conditioning, x_t, times, lags, vectors=vectors, temperature_k=kelvin
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_velocity_and_gradients_match_the_reference(make_batch, triton_device, exact_dtype, name):
    batch = make_batch(5, 1, 3)
    found = {}
    for backend in ("reference", "triton"):
        model = make_model(triton_device, VARIANTS[name], exact_dtype)
        result = velocity(model, batch, backend)
        result.square().sum().backward()
        found[backend] = result.detach(), dict(model.network.named_parameters())
    tolerance = 1e-11 if exact_dtype == torch.float64 else 2e-5
    torch.testing.assert_close(found["triton"][0], found["reference"][0], rtol=0, atol=tolerance)
    for key, expected in found["reference"][1].items():
        gradient = found["triton"][1][key].grad
        if expected.grad is None:
            assert gradient is None or not gradient.any(), key
            continue
        error = (torch.zeros_like(expected) if gradient is None else gradient) - expected.grad
        assert error.norm() <= 1e2 * tolerance * max(1.0, float(expected.grad.norm())), key


def test_float32_is_as_accurate_as_plain_pytorch(make_batch, triton_device):
    batch = make_batch(5, 1, 4)
    with torch.no_grad():
        exact = velocity(make_model("cpu", dtype=torch.float64), batch, "reference")
        model = make_model(triton_device)
        # Of the float64 values of the same weights and inputs.
        check_against_reference(
            velocity(model, batch, "triton"), velocity(model, batch, "reference"), exact
        )


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("tf32", 1e-2), ("bf16", 6e-2)])
def test_precisions_have_the_errors_that_their_roundings_have(
    make_batch, triton_device, precision, bound
):
    batch, model = make_batch(6, 5), make_model(triton_device)
    with torch.no_grad(), matmul_precision(precision):
        with forward_precision(precision, model.device):
            found = velocity(model, batch, "triton")
        exact = velocity(make_model("cpu", dtype=torch.float64), batch, "reference")
    assert found.dtype == torch.float32
    # What the network adds to the positions themselves is small here: its own error is looked at.
    x_t = inputs(model, batch)[1].double().cpu()
    error = (found.double().cpu() - exact).square().mean().sqrt()
    own = (exact - x_t).square().mean().sqrt()
    assert 1e-8 < error / own < bound


def test_a_batch_is_its_molecules(make_batch, make_molecule, triton_device):
    model = make_model(triton_device)
    run_all = run(model, make_batch(5, 1, 6))
    run_one = run(model, make_batch(6, seed=2), first=2, lags=(95.0,))
    assert torch.equal(run_all[6:], run_one)


def run(
    model,
    batch,
    *,
    recorded=False,
    backend="triton",
    rollout_step=1,
    first=0,
    lags=None,
    **settings,
):
    """Take one rollout step; ``recorded`` drives the solver from Python."""
    n = batch.n_molecules
    drawn = CounterNoise(
        5,
        range(100 + first, 100 + first + n),
        range(first, first + n),
        sizes=batch.sizes,
        n_features=model.config.n_features,
        device=model.device,
        dtype=model.dtype,
    )
    settings = FlowSettings(**({"time_grid": GRID} | settings))
    n_evaluations = solver_by_name(settings.solver).n_evaluations * (len(settings.time_grid) - 1)
    if recorded:
        base = torch.stack([drawn.base(step) for step in range(2)])
        starts = [
            torch.stack([drawn.vector_start(step, k) for k in range(n_evaluations)])
            for step in range(2)
        ]
        drawn = RecordedNoise(base, torch.stack(starts))
    # Each atom's own numbers, so that a molecule is the same in any batch.
    atoms = torch.cat([torch.arange(size) + 50 * (first + m) for m, size in enumerate(batch.sizes)])
    positions = torch.stack([torch.sin(atoms * k) for k in (1.0, 2.0, 3.0)], dim=1)
    lags = torch.linspace(5.0, 95.0, n) if lags is None else torch.tensor(lags)
    return transition(
        model,
        model.prepare(batch.to(model.device), backend=backend),
        positions.to(model.device, model.dtype),
        lag_time_ps=lags.to(model.device, model.dtype),
        noise=drawn,
        rollout_step=rollout_step,
        settings=settings,
        temperature_k=None,
    )


@pytest.mark.parametrize(
    ("solver", "vector_start"), [("euler", "randn"), ("heun", "randn_fixed"), ("ab2", "zeros")]
)
def test_a_planned_step_is_bitwise_the_steps_of_the_solver(
    make_batch, triton_device, solver, vector_start
):
    model, batch = make_model(triton_device), make_batch(4, 1, 3)
    settings = {"solver": solver, "vector_start": vector_start, "base_std": 0.75}
    planned = run(model, batch, **settings)
    assert torch.equal(planned, run(model, batch, recorded=True, **settings))
    assert torch.equal(planned, run(model, batch, **settings))
    assert not torch.equal(planned, run(model, batch, rollout_step=0, **settings))


@pytest.mark.parametrize(
    "change",
    [
        {"vector_start": "condition", "first_rank": 0},
        {"is_conditional": False, "n_embedding_layers": 0, "vector_start": "zeros"},
        {"is_centered": False, "lag_in": "condition"},
    ],
    ids=str,
)
def test_the_family_matches_the_reference(make_batch, triton_device, exact_dtype, change):
    config = replace(SMALL, **change)
    batch = make_batch(4, 1, 3)
    found = {}
    for backend in ("reference", "triton"):
        model = make_model(triton_device, config, exact_dtype)
        current, x_t, vectors, times, lags, _ = inputs(model, batch)
        prepared = model.prepare(batch.to(model.device), backend=backend)
        start = None if config.vector_start == "condition" else vectors
        output = model.velocity(
            prepared, model.condition(prepared, current, lags), x_t, times, lags, vectors=start
        )
        output.square().sum().backward()
        gradients = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in model.network.parameters()
        ]
        found[backend] = [output.detach(), *gradients]
    atol = 1e-9 if exact_dtype == torch.float64 else 1e-3
    for here, there in zip(found["triton"], found["reference"], strict=True):
        assert (here - there).norm() <= atol * max(1.0, float(there.norm()))


@pytest.mark.parametrize("vector_start", ["condition", "zeros"])
def test_a_planned_step_holds_for_the_family(make_batch, triton_device, vector_start):
    has_condition = vector_start == "condition"
    n_layers = SMALL.n_embedding_layers if has_condition else 0
    config = replace(
        SMALL,
        vector_start=vector_start,
        is_conditional=has_condition,
        n_embedding_layers=n_layers,
    )
    model, batch = make_model(triton_device, config), make_batch(4, 1, 3)
    settings = {"solver": "heun", "vector_start": vector_start}
    found = run(model, batch, **settings)
    assert torch.equal(found, run(model, batch, recorded=True, **settings))


def test_molecules_of_one_shape_share_a_plan_and_leave_no_trace_in_it(make_batch, triton_device):
    shapes = [make_batch(5, 3), make_batch(6, 2, seed=7), make_batch(5, 3)]
    fresh = []
    for batch in shapes:
        model = make_model(triton_device)
        fresh.append(run(model, batch))
    model = make_model(triton_device)
    kept = [run(model, batch) for batch in shapes]
    plans = triton_step._CACHE._plans[model.network]
    assert len(plans) == 1
    for alone, shared in zip(fresh, kept, strict=True):
        assert torch.equal(alone, shared)
    assert torch.equal(kept[0], kept[2])


def test_plans_that_were_not_used_for_longest_go(make_batch, triton_device, monkeypatch):
    monkeypatch.setattr(triton_step, "MAX_PLANS", 2)
    model, batch = make_model(triton_device), make_batch(3)
    for n_steps in (1, 2, 1, 3):
        run(model, batch, time_grid=tuple(k / n_steps for k in range(n_steps + 1)))
    plans = triton_step._CACHE._plans[model.network]
    assert [len(key[2].time_grid) - 1 for key in plans] == [1, 3]


def test_a_plan_does_not_outlive_weights_that_moved(make_batch, triton_device):
    model, batch = make_model(triton_device), make_batch(4)
    before = run(model, batch)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.data = parameter.data * 1.5
    after = run(model, batch)
    assert not torch.equal(before, after)
    assert torch.equal(after, run(model, batch, recorded=True))


@pytest.mark.parametrize(
    ("size", "rounded"), [(0, 0), (1, 8), (9, 16), (129, 144), (20480, 20480), (20481, 22528)]
)
def test_shapes_are_rounded_up_by_an_eighth_at_most(size, rounded):
    assert static_graph.rounded_up(size) == rounded
    assert rounded - size <= max(8, size / 8)


def test_what_the_kernels_do_not_take_is_told(triton_device, make_batch):
    narrow = make_model(triton_device, replace(SMALL, n_features=16))
    with pytest.raises(BackendUnavailableError, match="expected 32, 64, 128 features, got 16"):
        resolve_model_backend("triton", narrow.network)
    half = make_model(triton_device).to(dtype=torch.bfloat16)
    with pytest.raises(BackendUnavailableError, match=r"expected float32 weights, got torch\.bf"):
        resolve_model_backend("triton", half.network)
    double = make_model("cpu", dtype=torch.float64)
    with (
        matmul_precision("bf16"),
        pytest.raises(BackendUnavailableError, match=r"expected float32 weights|CUDA tensors"),
    ):
        resolve_model_backend("triton", double.network)


def test_without_the_interpreter_cpu_tensors_are_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendUnavailableError, match="on CPU tensors with TRITON_INTERPRET=1"):
        resolve_model_backend("triton", make_model("cpu").network)


@pytest.mark.gpu
def test_auto_is_triton_on_a_gpu():
    assert resolve_model_backend("auto", make_model("cuda").network) == "triton"
    assert resolve_model_backend("auto", make_model("cuda", dtype=torch.float64).network) == "eager"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_replayed_step_never_synchronises(make_batch, precision):
    model, batch = make_model("cuda"), make_batch(18, 5)
    prepared_on = batch.to("cuda")
    with matmul_precision(precision), torch.no_grad():
        prepared = model.prepare(prepared_on, backend="triton")
        drawn = CounterNoise(5, (1, 2), (0, 1), sizes=batch.sizes, n_features=32, device="cuda")
        x = torch.randn(batch.n_atoms, 3, device="cuda")
        lags = torch.full((2,), 50.0, device="cuda")

        def step(x, index):
            return transition(
                model,
                prepared,
                x,
                lag_time_ps=lags,
                noise=drawn,
                rollout_step=index,
                settings=FlowSettings(time_grid=GRID),
            )

        x = step(x, 0)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for index in range(1, 4):
                x = step(x, index)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert x.isfinite().all()


@pytest.mark.gpu
def test_a_graph_replays_what_was_run(make_batch):
    model, batch = make_model("cuda"), make_batch(18, 5)
    for index in range(3):
        planned = run(model, batch, rollout_step=index)
        assert torch.equal(planned, run(model, batch, rollout_step=index, recorded=True))
