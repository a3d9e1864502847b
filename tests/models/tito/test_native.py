"""What is particular to the compiled network: whole rollout steps, threads, packing, instruction sets."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tito_fast._extension import build_info
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.models.tito.native_network import packed_network
from tito_fast.noise import CounterNoise, RecordedNoise
from tito_fast.rollout.engine import FlowSettings, transition
from tito_fast.solvers import SOLVERS, solver_by_name

SMALL = TitoConfig(n_features=16, n_embedding_layers=2, n_model_layers=2, max_lag_ps=100.0)
GRID = (0.0, 0.2, 0.5, 1.0)


@pytest.fixture
def restore_threads():
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


def make_model(config=SMALL, dtype=torch.float32):
    model = TitoModel.create(config, ModelInfo(length_unit_nm=0.2), seed=0).to(dtype=dtype)
    # A weak field: an untrained one on crowded atoms is chaotic, and shows nothing but rounding.
    with torch.no_grad():
        model.network.velocity.readout.v.weight *= 1e-2
    return model


class Recorder:
    """The same noise as tensors, so that the step is driven from Python."""

    def __init__(self, noise, n_evaluations):
        self.noise = RecordedNoise(
            torch.stack([noise.base(step) for step in range(2)]),
            torch.stack(
                [
                    torch.stack([noise.vector_start(step, k) for k in range(n_evaluations)])
                    for step in range(2)
                ]
            ),
        )


def run(model, batch, *, recorded=False, backend="native", rollout_step=1, **settings):
    n = batch.n_molecules
    dtype = model.dtype
    noise = CounterNoise(
        5,
        range(100, 100 + n),
        range(n),
        sizes=batch.sizes,
        n_features=model.config.n_features,
        dtype=dtype,
    )
    settings = FlowSettings(**({"time_grid": GRID} | settings))
    n_evaluations = solver_by_name(settings.solver).n_evaluations * (len(settings.time_grid) - 1)
    generator = torch.Generator().manual_seed(1)
    return transition(
        model,
        model.prepare(batch, backend=backend),
        torch.randn(batch.n_atoms, 3, dtype=dtype, generator=generator),
        lag_time_ps=torch.linspace(5.0, 95.0, n, dtype=dtype),
        noise=Recorder(noise, n_evaluations).noise if recorded else noise,
        rollout_step=rollout_step,
        settings=settings,
        temperature_k=torch.linspace(280.0, 320.0, n, dtype=dtype)
        if model.config.has_temperature
        else None,
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("vector_start", ["randn", "randn_fixed", "zeros"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_in_one_call_is_bitwise_the_steps_of_the_solver(
    make_batch, solver, vector_start, dtype
):
    model, batch = make_model(dtype=dtype), make_batch(5, 1, 9)
    settings = {"solver": solver, "vector_start": vector_start, "base_std": 0.75}
    assert torch.equal(run(model, batch, **settings), run(model, batch, recorded=True, **settings))


@pytest.mark.parametrize(
    "change",
    [
        {"n_reduced_features": 8},
        {"scaled_cutoff": 1.5},
        {"has_temperature": True, "temperature_scale_k": 500.0},
        {"n_features": 24, "n_reduced_features": 10, "scaled_cutoff": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("center", [True, False])
def test_a_step_in_one_call_holds_for_every_kind_of_network(make_batch, change, center):
    model, batch = make_model(replace(SMALL, **change)), make_batch(5, 1, 9, 2)
    found = run(model, batch, center=center, solver="heun")
    assert torch.equal(found, run(model, batch, center=center, solver="heun", recorded=True))
    expected = run(model, batch, center=center, solver="heun", backend="reference")
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


# The condition's vectors, and no condition at all.
FAMILY = {
    "vectors": {"vector_start": "condition"},
    "vectors, one layer, reduced": {
        "vector_start": "condition",
        "n_embedding_layers": 1,
        "n_features": 24,
        "n_reduced_features": 10,
    },
    "vectors, cutoff, rank 0": {
        "vector_start": "condition",
        "scaled_cutoff": 1.5,
        "first_rank": 0,
    },
    "no condition": {"is_conditional": False, "n_embedding_layers": 0, "vector_start": "zeros"},
    "no condition, cutoff": {
        "is_conditional": False,
        "n_embedding_layers": 0,
        "vector_start": "zeros",
        "scaled_cutoff": 1.5,
    },
    "not centered, rank 0": {"is_centered": False, "first_rank": 0},
    "lag in the condition": {"lag_in": "condition", "vector_start": "condition"},
}


@pytest.mark.parametrize("change", FAMILY.values(), ids=FAMILY.keys())
@pytest.mark.parametrize("solver", ["euler", "rk4", "ab2"])
def test_a_step_in_one_call_holds_for_the_family(make_batch, change, solver):
    config = replace(SMALL, **change)
    model, batch = make_model(config), make_batch(5, 1, 9, 2)
    settings = {"solver": solver, "vector_start": config.vector_start, "base_std": 0.75}
    found = run(model, batch, **settings)
    assert torch.equal(found, run(model, batch, recorded=True, **settings))
    expected = run(model, batch, backend="reference", **settings)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_threads_and_batches_do_not_change_a_bit_of_handed_over_vectors(
    make_batch, restore_threads
):
    model = make_model(replace(SMALL, vector_start="condition"))
    results = []
    for sizes in ((9,) * 8, (17,)):
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            results.append(run(model, make_batch(*sizes), vector_start="condition"))
    for start in (0, 3):
        assert torch.equal(results[start], results[start + 1])
        assert torch.equal(results[start], results[start + 2])


def test_a_step_with_another_start_of_vectors_is_refused(make_batch):
    handing = make_model(replace(SMALL, vector_start="condition"))
    for model, start in ((handing, "zeros"), (make_model(), "condition")):
        with pytest.raises(ValueError, match="vector_start: expected .* for this model, got"):
            run(model, make_batch(3), vector_start=start)


def test_the_noise_follows_the_rollout_step(make_batch):
    model, batch = make_model(), make_batch(6)
    assert not torch.equal(run(model, batch, rollout_step=0), run(model, batch, rollout_step=1))


@pytest.mark.parametrize("sizes", [(9,) * 8, (12, 3), (17,)], ids=str)
@pytest.mark.parametrize("change", [{}, {"scaled_cutoff": 1.5}, {"n_reduced_features": 8}], ids=str)
def test_threads_do_not_change_a_bit(make_batch, restore_threads, sizes, change):
    # With many molecules each thread has some; with few all threads share them.
    model, batch = make_model(replace(SMALL, **change)), make_batch(*sizes)
    results = []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        results.append(run(model, batch))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_cutting_a_large_batch_into_groups_does_not_change_a_bit(make_batch):
    model = make_model()
    whole = make_batch(*(30,) * 6)  # 5,220 edges: three groups
    together = run(model, whole, vector_start="zeros")
    one = make_batch(30)
    noise_of_first = run(model, one, vector_start="zeros")
    # The first molecule has the same key in both; its lag differs, so compare through the velocity.
    assert together[:30].shape == noise_of_first.shape
    prepared, prepared_one = (model.prepare(b, backend="native") for b in (whole, one))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(180, 3, generator=generator)
    lag, t, v = torch.full((6,), 50.0), torch.full((6,), 0.5), torch.zeros(180, 3, 16)
    with torch.no_grad():
        every = model.velocity(prepared, model.condition(prepared, x), x, t, lag, vectors=v)
        alone = model.velocity(
            prepared_one,
            model.condition(prepared_one, x[:30]),
            x[:30],
            t[:1],
            lag[:1],
            vectors=v[:30],
        )
    assert torch.equal(every[:30], alone)


@pytest.mark.parametrize("lost", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("change", [{}, {"scaled_cutoff": 1.5}], ids=str)
def test_lost_positions_lose_their_own_molecule_only(make_batch, lost, change):
    model, batch = make_model(replace(SMALL, **change)), make_batch(5, 4)
    prepared = model.prepare(batch, backend="native")
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(2))
    times, vectors = torch.full((2,), 0.5), torch.zeros(9, 3, 16)

    def velocity(positions):
        with torch.no_grad():
            conditioning = model.condition(prepared, positions)
            return model.velocity(prepared, conditioning, positions, times, times, vectors=vectors)

    broken = x.clone()
    broken[2, 1] = lost
    found = velocity(broken)
    assert not torch.equal(found[:5], velocity(x)[:5])
    assert torch.equal(found[5:], velocity(x)[5:])
    if lost != 1e30:
        assert not found[:5].isfinite().all()


def test_weights_that_change_in_place_are_packed_again(make_batch):
    model, batch = make_model(), make_batch(5)
    before = run(model, batch)
    first = packed_network(model.network)
    assert packed_network(model.network) is first
    with torch.no_grad():
        next(model.network.parameters()).add_(0.1)
    assert packed_network(model.network) is not first
    assert not torch.equal(run(model, batch), before)


def test_what_the_kernels_would_read_unchecked_is_refused(make_batch):
    model, batch = make_model(), make_batch(5)
    with pytest.raises(ValueError, match="atomic_numbers: expected 0 to 166, got 200 to 200"):
        model.prepare(replace(batch, atomic_numbers=torch.full((5,), 200)), backend="native")
    with pytest.raises(ValueError, match="bond_type: expected 0 to 12, got"):
        model.prepare(
            replace(batch, bond_type=torch.full_like(batch.bond_type, 13)), backend="native"
        )
    prepared = model.prepare(batch, backend="native")
    with pytest.raises(TypeError, match="scaled_positions: expected dtype float32, got float64"):
        model.condition(prepared, torch.zeros(5, 3, dtype=torch.float64))


def test_a_forgotten_gradient_is_not_possible(make_batch):
    model, batch = make_model(), make_batch(5)
    prepared = model.prepare(batch, backend="native")
    x = torch.randn(5, 3, requires_grad=True)
    conditioning = model.condition(prepared, x.detach())
    velocity = model.velocity(
        prepared, conditioning, x, torch.ones(1), torch.ones(1), vectors=torch.zeros(5, 3, 16)
    )
    (gradient,) = torch.autograd.grad(velocity.sum(dim=0).square().sum() + velocity[0, 0], x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_a_condition_without_gradients_serves_a_velocity_with_them(make_batch):
    model, batch = make_model(dtype=torch.float64), make_batch(5, 3)
    prepared = model.prepare(batch, backend="native")
    x = torch.randn(8, 3, dtype=torch.float64)
    with torch.no_grad():
        conditioning = model.condition(prepared, x)
    t, v = torch.ones(2, dtype=torch.float64), torch.zeros(8, 3, 16, dtype=torch.float64)
    with_gradient = model.velocity(prepared, conditioning, x, t, t, vectors=v)
    with torch.no_grad():
        without = model.velocity(prepared, conditioning, x, t, t, vectors=v)
    assert with_gradient.requires_grad
    torch.testing.assert_close(with_gradient.detach(), without, rtol=0, atol=1e-12)


SCRIPT = """
import sys, torch
from tito_fast._extension import build_info
from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
assert build_info()["isa"] == sys.argv[1]
batch = MoleculeBatch(
    atomic_numbers=torch.arange(1, 15), batch_ptr=torch.tensor([0, 9, 14]), sizes=(9, 5),
    bond_index=torch.tensor([[0, 1], [1, 0]]), bond_type=torch.tensor([1, 1]))
for n_features, reduced in ((16, None), (24, 10)):
    config = TitoConfig(n_features=n_features, n_reduced_features=reduced, n_model_layers=2)
    model = TitoModel.create(config, ModelInfo(length_unit_nm=0.2), seed=0)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(14, 3, generator=draw)
    v = torch.randn(14, 3, n_features, generator=draw)
    for dtype, limit in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
        model.to(dtype=dtype)
        t = torch.full((2,), 0.3, dtype=dtype)
        results, gradients = [], []
        for backend in ("native", "reference"):
            prepared = model.prepare(batch, backend=backend)
            def velocity():
                conditioning = model.condition(prepared, x.to(dtype))
                return model.velocity(prepared, conditioning, x.to(dtype), t, 100 * t, vectors=v.to(dtype))
            with torch.no_grad():
                results.append(velocity())
            loss = velocity().square().sum()
            parameter = model.network.velocity.layers[0].message.phi[0].weight
            gradients += torch.autograd.grad(loss, parameter)
        for found, expected in (results, gradients):
            assert (found - expected).abs().max() <= limit * expected.abs().max(), dtype
print("agrees")
"""


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512bf16"])
def test_every_instruction_set_agrees_with_the_reference(isa):
    names = ["baseline", "avx2", "avx512", "avx512bf16"]
    best = build_info()["best_isa"]
    if names.index(isa) > names.index(best):
        pytest.skip(f"this machine runs at most {best}")
    result = subprocess.run(  # noqa: S603, own interpreter
        [sys.executable, "-P", "-c", SCRIPT, isa],
        env=os.environ | {"TITO_FAST_ISA": isa, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "agrees", result.stderr
