"""The network's backends: against each other, and against what the mathematics promises."""

from dataclasses import dataclass, replace

import pytest
import torch
from e3nn import o3
from e3nn.util.test import assert_equivariant

from tito_fast._extension import build_info
from tito_fast.errors import BackendUnavailableError
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.noise import CounterNoise
from tito_fast.ops import center

SMALL = TitoConfig(n_features=16, n_embedding_layers=2, n_model_layers=2, max_lag_ps=100.0)
VARIANTS = {
    "default": SMALL,
    "reduced": replace(SMALL, n_reduced_features=8),
    "temperature": replace(SMALL, has_temperature=True, temperature_scale_k=500.0),
    "cutoff": replace(SMALL, scaled_cutoff=1.5),
    "one embedding layer": replace(SMALL, n_embedding_layers=1),
    "one layer each": replace(SMALL, n_embedding_layers=1, n_model_layers=1),
    "three and four layers": replace(SMALL, n_embedding_layers=3, n_model_layers=4),
    "other length": replace(SMALL, distance_encoding_length=4.0, n_features=24),
}
FAST = ("eager", "native")
BACKENDS = ("reference", *FAST)


@dataclass
class Case:
    """A model with one evaluation's inputs."""

    model: TitoModel
    batch: object
    current: torch.Tensor
    x_t: torch.Tensor
    flow_time: torch.Tensor
    lag: torch.Tensor
    vectors: torch.Tensor

    def velocity(self, backend, **changed):
        case = replace(self, **changed)
        model = case.model
        prepared = model.prepare(case.batch, backend=backend)
        return model.velocity(
            prepared,
            model.condition(prepared, case.current),
            case.x_t,
            case.flow_time,
            case.lag,
            vectors=case.vectors,
            temperature_k=torch.full_like(case.lag, 300.0)
            if model.config.has_temperature
            else None,
        )


@pytest.fixture
def make_case(make_batch):
    def make(config, *sizes, dtype=torch.float64, seed=0):
        batch = make_batch(*sizes, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        n_molecules = batch.n_molecules

        def normal(*shape):
            return torch.randn(*shape, dtype=dtype, generator=generator)

        return Case(
            model=TitoModel.create(config, ModelInfo(length_unit_nm=0.2), seed=seed).to(
                dtype=dtype
            ),
            batch=batch,
            current=normal(batch.n_atoms, 3),
            x_t=normal(batch.n_atoms, 3),
            flow_time=torch.linspace(0.1, 0.9, n_molecules, dtype=dtype),
            lag=torch.linspace(5.0, 95.0, n_molecules, dtype=dtype),
            vectors=normal(batch.n_atoms, 3, config.n_features),
        )

    return make


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_backends_match_the_reference_with_gradients(make_case, config):
    case = make_case(config, 5, 9, 5, 1, 2)
    weights = torch.randn_like(case.x_t)
    results = {}
    for backend in BACKENDS:
        case.model.network.zero_grad(set_to_none=True)
        velocity = case.velocity(backend)
        (velocity * weights).sum().backward()
        results[backend] = (
            velocity.detach(),
            {name: p.grad for name, p in case.model.network.named_parameters()},
        )
    for backend in FAST:
        torch.testing.assert_close(results[backend][0], results["reference"][0], rtol=0, atol=1e-11)
        for name, grad in results["reference"][1].items():
            expected, found = (
                torch.zeros(1) if each is None else each
                for each in (grad, results[backend][1][name])
            )
            assert (expected - found).norm() <= 1e-9 * max(1.0, expected.norm()), (backend, name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_in_positions_is_the_numerical_one(make_case, backend):
    config = replace(SMALL, n_features=4, n_embedding_layers=1, n_model_layers=1)
    case = make_case(config, 3, 2)
    x_t = case.x_t.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: case.velocity(backend, x_t=x), (x_t,), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["default", "reduced", "cutoff"])
def test_velocity_rotates_with_positions_and_vectors(make_case, backend, name):
    case = make_case(VARIANTS[name], 6, 4)
    n_atoms, n_features = case.batch.n_atoms, case.model.config.n_features
    irreps_in = (
        o3.Irreps("1o") * n_atoms,
        o3.Irreps("1o") * n_atoms,
        o3.Irreps(f"{n_features}x1o") * n_atoms,
    )

    def field(current, x_t, vectors):
        vectors = vectors.view(n_atoms, n_features, 3).swapaxes(1, 2)
        velocity = case.velocity(
            backend, current=current.view(-1, 3), x_t=x_t.view(-1, 3), vectors=vectors
        )
        return velocity.view(1, -1)

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        # Without parity: the cross product tells mirror images apart on purpose.
        assert_equivariant(
            field,
            args_in=[
                case.current.view(1, -1),
                case.x_t.view(1, -1),
                case.vectors.swapaxes(1, 2).reshape(1, -1),
            ],
            irreps_in=[irreps.simplify() for irreps in irreps_in],
            irreps_out=(o3.Irreps("1o") * n_atoms).simplify(),
            do_parity=False,
            do_translation=False,
            tolerance=1e-9,
        )
    finally:
        torch.set_default_dtype(default)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reflection_changes_the_velocity(make_case, backend):
    case = make_case(SMALL, 6)
    mirrored = case.velocity(backend, current=-case.current, x_t=-case.x_t, vectors=-case.vectors)
    difference = (mirrored + case.velocity(backend)).norm() / mirrored.norm()
    assert difference > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_condition_tells_mirror_images_apart_only_from_two_embedding_layers_on(
    make_case, backend
):
    for n_layers, differs in ((1, False), (2, True)):
        case = make_case(replace(SMALL, n_embedding_layers=n_layers), 6)
        change = (
            (case.velocity(backend, current=-case.current) - case.velocity(backend)).abs().max()
        )
        assert (change > 1e-6) == differs, n_layers


@pytest.mark.parametrize("backend", BACKENDS)
def test_translations_do_not_matter(make_case, backend):
    case = make_case(SMALL, 6, 3)
    shift = torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)
    moved = case.velocity(backend, current=case.current + 5 * shift, x_t=case.x_t + shift)
    torch.testing.assert_close(moved, case.velocity(backend), rtol=0, atol=1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_velocity_is_centered_per_molecule(make_case, backend):
    case = make_case(SMALL, 6, 3)
    velocity = case.velocity(backend)
    torch.testing.assert_close(center(velocity, batch_ptr=case.batch.batch_ptr), velocity)


@pytest.mark.parametrize("backend", BACKENDS)
def test_permuting_atoms_permutes_the_velocity(make_case, backend):
    case = make_case(SMALL, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    place = torch.argsort(order)
    batch = replace(
        case.batch,
        atomic_numbers=case.batch.atomic_numbers[order],
        bond_index=place[case.batch.bond_index],
    )
    permuted = case.velocity(
        backend,
        batch=batch,
        current=case.current[order],
        x_t=case.x_t[order],
        vectors=case.vectors[order],
    )
    torch.testing.assert_close(permuted, case.velocity(backend)[order], rtol=0, atol=1e-11)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["default", "reduced", "cutoff"])
def test_a_batch_equals_its_molecules_one_by_one_bitwise(make_case, backend, dtype, name):
    config = replace(VARIANTS[name], n_features=64 if name == "default" else 32)
    case = make_case(config, 9, 18, 5, 18, 1, 12, 18, 9, 2, dtype=dtype)
    with torch.no_grad():
        together = case.velocity(backend)
        for molecule, (start, end) in enumerate(
            zip(case.batch.batch_ptr[:-1].tolist(), case.batch.batch_ptr[1:].tolist(), strict=True)
        ):
            alone = case.velocity(
                backend,
                batch=_one_molecule(case.batch, molecule, start, end),
                current=case.current[start:end],
                x_t=case.x_t[start:end],
                flow_time=case.flow_time[molecule : molecule + 1],
                lag=case.lag[molecule : molecule + 1],
                vectors=case.vectors[start:end],
            )
            assert torch.equal(alone, together[start:end]), molecule


def _one_molecule(batch, molecule, start, end):
    inside = (batch.bond_index[0] >= start) & (batch.bond_index[0] < end)
    return replace(
        batch,
        atomic_numbers=batch.atomic_numbers[start:end],
        batch_ptr=torch.tensor([0, end - start]),
        bond_index=batch.bond_index[:, inside] - start,
        bond_type=batch.bond_type[inside],
        sizes=(batch.sizes[molecule],),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_repeats_are_bitwise_equal(make_case, backend):
    case = make_case(SMALL, 6, 9, dtype=torch.float32)
    assert torch.equal(case.velocity(backend), case.velocity(backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batches_and_single_atoms(make_case, backend):
    empty = make_case(SMALL)
    assert empty.velocity(backend).shape == (0, 3)
    full = make_case(SMALL, 4, 1, 3)
    with_gap = replace(full.batch, batch_ptr=torch.tensor([0, 4, 4, 5, 8]), sizes=(4, 0, 1, 3))
    times = torch.tensor([0, 0, 1, 2])
    velocity = full.velocity(
        backend, batch=with_gap, flow_time=full.flow_time[times], lag=full.lag[times]
    )
    torch.testing.assert_close(velocity, full.velocity(backend), rtol=0, atol=1e-12)
    assert velocity[4].abs().max() == 0  # one atom, centered


def test_a_lone_last_atom_under_a_cutoff_keeps_its_row(make_case):
    case = make_case(replace(SMALL, scaled_cutoff=0.5), 4, 1)
    for backend in BACKENDS:
        assert case.velocity(backend).shape == (5, 3)


@pytest.mark.parametrize("backend", FAST)
def test_an_evaluation_leaves_its_inputs_and_conditioning_untouched(make_case, backend):
    case = make_case(SMALL, 6, 9, dtype=torch.float32)
    kept = {name: getattr(case, name).clone() for name in ("current", "x_t", "vectors", "lag")}
    model = case.model
    with torch.no_grad():
        prepared = model.prepare(case.batch, backend=backend)
        conditioning = model.condition(prepared, case.current)
        first, second = (
            model.velocity(
                prepared, conditioning, case.x_t, case.flow_time, case.lag, vectors=case.vectors
            )
            for _ in range(2)
        )
    assert torch.equal(first, second)
    for name, value in kept.items():
        assert torch.equal(getattr(case, name), value), name


def test_float32_is_close_to_float64(make_case):
    wide = make_case(replace(SMALL, n_features=64), 18, 12)
    narrow = make_case(replace(SMALL, n_features=64), 18, 12, dtype=torch.float32)
    narrow.model.network.load_state_dict(wide.model.network.state_dict())
    fields = {
        name: getattr(wide, name).float()
        for name in ("current", "x_t", "flow_time", "lag", "vectors")
    }
    expected = wide.velocity("reference").detach()
    for backend in BACKENDS:
        error = (narrow.velocity(backend, **fields).detach() - expected).abs().max()
        assert error <= 2e-5 * expected.abs().max(), backend


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["default", "reduced"])
def test_bfloat16_products_are_close(make_case, backend, name):
    if backend == "native" and build_info()["isa"] != "avx512bf16":
        pytest.skip("this machine has no bfloat16 products")
    case = make_case(VARIANTS[name], 9, 6, dtype=torch.float32)
    with torch.no_grad():
        exact = case.velocity(backend)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = case.velocity(backend)
    assert rounded.dtype == torch.float32
    # 2e-2 rms for random weights (kernels §4); the largest element may be several times that.
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.1


def test_unknown_and_unavailable_backends_are_refused(make_case, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    case = make_case(SMALL, 3)
    with pytest.raises(ValueError, match=r"backend: expected one of auto, .*, got 'cuda'"):
        case.velocity("cuda")
    with pytest.raises(BackendUnavailableError, match=r"triton.* on CUDA tensors"):
        case.velocity("triton")


def test_wrong_shapes_are_refused(make_case):
    case = make_case(SMALL, 3)
    with pytest.raises(ValueError, match=r"x_t: expected shape \(3, 3\), got \(2, 3\)"):
        case.velocity("eager", x_t=case.x_t[:2])
    with pytest.raises(ValueError, match="vectors: expected shape"):
        case.velocity("eager", vectors=case.vectors[:, :2])
    with pytest.raises(ValueError, match="scaled_positions: expected shape"):
        case.velocity("eager", current=case.current[:1])


def test_a_temperature_goes_to_models_that_take_one(make_case):
    case = make_case(VARIANTS["temperature"], 3)
    prepared = case.model.prepare(case.batch)
    conditioning = case.model.condition(prepared, case.current)
    arguments = (prepared, conditioning, case.x_t, case.flow_time, case.lag)
    with pytest.raises(ValueError, match="temperature_k: expected a temperature"):
        case.model.velocity(*arguments, vectors=case.vectors)
    velocities = [
        case.model.velocity(
            *arguments, vectors=case.vectors, temperature_k=torch.full_like(case.lag, kelvin)
        )
        for kelvin in (300.0, 400.0)
    ]
    assert not torch.allclose(*velocities)
    plain = make_case(SMALL, 3)
    with pytest.raises(ValueError, match="this model has no temperature"):
        plain.model.velocity(
            *arguments[:-1], plain.lag, vectors=plain.vectors, temperature_k=plain.lag
        )


def test_vectors_come_from_one_noise_source_in_every_backend(make_case):
    case = make_case(SMALL, 5, 4)
    noise = CounterNoise(7, [11, 12], [0, 0], sizes=[5, 4], n_features=16, dtype=torch.float64)
    vectors = noise.vector_start(3, 1)
    first, *others = (case.velocity(backend, vectors=vectors) for backend in BACKENDS)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-11)


def test_auto_is_native_on_a_cpu_but_not_for_bfloat16_gradients(make_case):
    case = make_case(SMALL, 5, 3, dtype=torch.float32)
    assert case.model.prepare(case.batch).backend == "native"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert case.model.prepare(case.batch).backend == "eager"
        if build_info()["isa"] != "avx512bf16":
            return
        with pytest.raises(BackendUnavailableError, match="gradients are computed in float32"):
            case.velocity("native")
