"""ITO's and BoPITO's networks: the variants of the one network, against its definition and its symmetries."""

import json
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import pytest
import torch
from e3nn import o3
from e3nn.util.test import assert_equivariant
from safetensors import safe_open

from tito_fast.errors import BackendUnavailableError
from tito_fast.models.checkpoint import model_hash
from tito_fast.models.load import load_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.models.tito.network import TitoNetwork, count_parameters
from tito_fast.ops import center

SMALL = TitoConfig(n_features=16, n_embedding_layers=2, n_model_layers=2, max_lag_ps=100.0)
PUBLISHED = {
    "ito": TitoConfig.ito(n_features=16, max_lag_ps=100.0, n_model_layers=2),
    "bopito dynamic": TitoConfig.bopito_dynamic(
        n_features=16, max_lag_ps=100.0, n_model_layers=2, n_diffusion_steps=50
    ),
    "bopito equilibrium": TitoConfig.bopito_equilibrium(n_features=16, n_model_layers=2),
}
VARIANTS = PUBLISHED | {
    "condition's vectors": replace(SMALL, vector_start="condition"),
    "condition's vectors, reduced, cutoff": replace(
        SMALL, vector_start="condition", n_reduced_features=8, scaled_cutoff=1.5
    ),
    "condition's vectors, one layer each, odd width": replace(
        SMALL, vector_start="condition", n_embedding_layers=1, n_model_layers=1, n_features=24
    ),
    "lag in the condition": replace(SMALL, lag_in="condition", has_temperature=True),
    "equilibrium velocity": replace(SMALL, is_conditional=False, n_embedding_layers=0),
    "equilibrium velocity with cutoff": replace(
        SMALL, is_conditional=False, n_embedding_layers=0, scaled_cutoff=1.5, vector_start="zeros"
    ),
    "not centered": replace(SMALL, is_centered=False),
    "rank 0": replace(SMALL, first_rank=0, n_reduced_features=8),
}
# Networks that the ops compute.
ON_OPS = {name: config for name, config in VARIANTS.items() if name != "ito"}


@dataclass
class Case:
    """A model with one evaluation's inputs."""

    model: TitoModel
    batch: Any
    current: torch.Tensor
    x: torch.Tensor
    time: torch.Tensor
    lag: torch.Tensor
    vectors: torch.Tensor | None

    def output(self, backend, **changed):
        case = replace(self, **changed)
        model, config = case.model, case.model.config
        prepared = model.prepare(case.batch, backend=backend)
        evaluate = model.velocity if config.objective == "velocity" else model.noise
        temperature_k = torch.full_like(case.lag, 300.0) if config.has_temperature else None
        return evaluate(
            prepared,
            model.condition(prepared, case.current, case.lag),
            case.x,
            case.time,
            case.lag,
            vectors=case.vectors,
            temperature_k=temperature_k,
        )


@pytest.fixture
def make_case(make_batch):
    def make(config, *sizes, dtype=torch.float64, seed=0):
        batch = make_batch(*sizes, seed=seed)
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(*shape, dtype=dtype, generator=generator)

        info = ModelInfo(length_unit_nm=0.2)
        vectors = normal(batch.n_atoms, 3, config.n_features)
        if config.vector_start == "zeros":
            vectors = torch.zeros_like(vectors)
        return Case(
            model=TitoModel.create(config, info, seed=seed).to(dtype=dtype),
            batch=batch,
            current=normal(batch.n_atoms, 3),
            x=normal(batch.n_atoms, 3),
            time=torch.linspace(0.1, 0.9, batch.n_molecules, dtype=dtype) * config.time_length,
            lag=torch.linspace(5.0, 95.0, batch.n_molecules, dtype=dtype),
            vectors=None if config.vector_start == "condition" else vectors,
        )

    return make


def backends_of(config):
    is_on_ops = config.layer_norm and config.message == "edge"
    return ("reference", "eager", "native") if is_on_ops else ("reference", "eager")


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_backends_match_the_reference_with_gradients(make_case, config):
    case = make_case(config, 5, 7, 5, 1, 2)
    weights = torch.randn_like(case.x)
    results = {}
    for backend in backends_of(config):
        case.model.network.zero_grad(set_to_none=True)
        current = case.current.clone().requires_grad_()
        output = case.output(backend, current=current)
        (output * weights).sum().backward()
        gradients = {name: p.grad for name, p in case.model.network.named_parameters()}
        results[backend] = (output.detach(), gradients | {"current": current.grad})
        with torch.no_grad():
            alone = case.output(backend)
        torch.testing.assert_close(alone, output.detach(), rtol=0, atol=1e-11)
    expected_output, expected = results.pop("reference")
    for backend, (output, gradients) in results.items():
        torch.testing.assert_close(output, expected_output, rtol=0, atol=1e-11)
        for name, grad in expected.items():
            there, found = (torch.zeros(1) if g is None else g for g in (grad, gradients[name]))
            assert (there - found).norm() <= 1e-9 * max(1.0, there.norm()), (backend, name)


def test_gradients_reach_the_vectors_of_the_condition(make_case):
    case = make_case(VARIANTS["condition's vectors"], 5)
    network = case.model.network
    for backend in ("reference", "eager", "native"):
        network.zero_grad(set_to_none=True)
        case.output(backend).square().sum().backward()
        assert network.condition.readout.v.weight.grad.abs().max() > 1e-6, backend
        assert network.condition.layers[-1].update.u.weight.grad.abs().max() > 1e-9, backend


@pytest.mark.parametrize("name", [*PUBLISHED, "condition's vectors"])
def test_output_rotates_with_the_positions_and_tells_mirror_images_apart(make_case, name):
    case = make_case(VARIANTS[name], 5, 3)
    n_atoms = case.batch.n_atoms
    irreps = (o3.Irreps("1o") * n_atoms).simplify()
    for backend in backends_of(case.model.config):

        def field(current, x, backend=backend):
            return case.output(backend, current=current.view(-1, 3), x=x.view(-1, 3)).view(1, -1)

        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            # Without parity: the cross product tells mirror images apart on purpose.
            assert_equivariant(
                field,
                args_in=[case.current.view(1, -1), case.x.view(1, -1)],
                irreps_in=[irreps, irreps],
                irreps_out=irreps,
                do_parity=False,
                do_translation=False,
                tolerance=1e-9,
            )
        finally:
            torch.set_default_dtype(default)
        mirrored = case.output(backend, current=-case.current, x=-case.x)
        readout = mirrored + case.x
        assert (mirrored + case.output(backend)).norm() > 1e-3 * readout.norm(), backend


def test_the_condition_turns_the_output_only_where_it_hands_over_vectors(make_case):
    turn = o3.matrix_z(torch.tensor(0.7)).double()
    for name, turns in (("ito", True), ("bopito dynamic", True), ("not centered", False)):
        case = make_case(VARIANTS[name], 6)
        turned = case.output("eager", current=case.current @ turn.T)
        assert ((turned - case.output("eager")).abs().max() > 1e-6) == turns, name


def test_an_equilibrium_network_reads_neither_state_nor_lag(make_case):
    case = make_case(PUBLISHED["bopito equilibrium"], 5, 3)
    expected = case.output("reference")
    for backend in ("reference", "eager", "native"):
        assert torch.equal(
            case.output(backend, current=None, lag=None), case.output(backend, lag=2 * case.lag)
        )
        torch.testing.assert_close(case.output(backend), expected, rtol=0, atol=1e-11)
    other = case.output("eager", time=case.time + 1)
    assert (other - expected).abs().max() > 1e-6


def test_noise_is_not_centered(make_case):
    for config in PUBLISHED.values():
        case = make_case(config, 5, 3)
        noise = case.output("eager")
        moved = noise - center(noise, batch_ptr=case.batch.batch_ptr)
        assert moved.abs().max() > 1e-3
        # The skip: the rest of the output does not move with the molecule.
        shift = torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)
        torch.testing.assert_close(case.output("eager", x=case.x + shift), noise + shift)


def test_published_sizes():
    # The released BoPITO embeds 4 bond types, this package 13.
    more_bonds = (13 - 4) * 64
    for config, n_parameters in (
        (TitoConfig.ito(), 654_146),
        (TitoConfig.bopito_dynamic(), 734_978 + more_bonds),
        (TitoConfig.bopito_equilibrium(), 517_506 + more_bonds),
    ):
        assert count_parameters(TitoNetwork(config)) == n_parameters


def test_kernels_refuse_what_they_do_not_compute(make_case, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    case = make_case(PUBLISHED["ito"], 3)
    assert case.model.prepare(case.batch).backend == "eager"
    for config, reason in (
        (PUBLISHED["ito"], "LayerNorm"),
        (replace(PUBLISHED["ito"], layer_norm=True), "messages with edge features"),
    ):
        case = make_case(config, 3)
        with pytest.raises(BackendUnavailableError, match=f"native.*{reason}"):
            case.output("native")


def test_what_a_model_does_not_take_is_refused(make_case):
    plain, handing = make_case(SMALL, 3), make_case(VARIANTS["condition's vectors"], 3)
    with pytest.raises(ValueError, match=r"vectors: expected a start \(randn\).*, got None"):
        plain.output("eager", vectors=None)
    with pytest.raises(ValueError, match="vectors: expected None for a model whose condition"):
        handing.output("eager", vectors=plain.vectors)
    with pytest.raises(ValueError, match="scaled_positions: expected the state at t"):
        plain.output("eager", current=None)
    ito = make_case(PUBLISHED["ito"], 3)
    prepared = ito.model.prepare(ito.batch)
    with pytest.raises(ValueError, match="lag_time_ps: expected a lag for this model, got None"):
        ito.model.condition(prepared, ito.current)
    conditioning = ito.model.condition(prepared, ito.current, ito.lag)
    with pytest.raises(ValueError, match=r"predicts a velocity, got one that predicts a noise"):
        ito.model.velocity(prepared, conditioning, ito.x, ito.time, ito.lag)
    prepared = plain.model.prepare(plain.batch)
    conditioning = plain.model.condition(prepared, plain.current)
    with pytest.raises(ValueError, match=r"predicts a noise, got .* use TitoModel.velocity"):
        plain.model.noise(prepared, conditioning, plain.x, plain.time, plain.lag)
    with pytest.raises(ValueError, match=r"lag_time_ps: expected a lag"):
        plain.model.velocity(
            prepared, conditioning, plain.x, plain.time, None, vectors=plain.vectors
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "score"}, "objective: expected one of"),
        ({"objective": "noise"}, "n_diffusion_steps: expected"),
        ({"objective": "noise", "n_diffusion_steps": 9}, "noise_schedule: expected one of"),
        ({"n_diffusion_steps": 9}, "objective: expected 'noise' with n_diffusion_steps"),
        ({"noise_schedule": "cosine"}, "objective: expected 'noise' with n_diffusion_steps"),
        ({"is_conditional": False}, "n_embedding_layers: expected 0 without a condition"),
        ({"n_embedding_layers": 0}, "n_embedding_layers: expected"),
        (
            {"is_conditional": False, "n_embedding_layers": 0, "vector_start": "condition"},
            "vector_start: expected zeros or noise without a condition",
        ),
        (
            {"is_conditional": False, "n_embedding_layers": 0, "lag_in": "condition"},
            "lag_in: expected 'velocity' without a condition",
        ),
        ({"first_rank": 2}, "first_rank: expected 0 or 1, got 2"),
        ({"message": "node"}, "message: expected one of edge, source"),
        ({"lag_in": "both"}, "lag_in: expected one of"),
        (
            {"message": "source", "n_reduced_features": 8},
            "n_reduced_features: expected none with messages of the source alone",
        ),
    ],
    ids=str,
)
def test_impossible_networks_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_files_of_earlier_versions_keep_their_fields():
    later = {"objective", "is_conditional", "layer_norm", "message", "first_rank", "lag_in"}
    later |= {"is_centered", "n_diffusion_steps", "noise_schedule"}
    assert not later & set(SMALL.to_dict())
    for config in (SMALL, *VARIANTS.values()):
        assert TitoConfig.from_dict(config.to_dict()) == config


def test_the_shipped_model_keeps_its_hash():
    path = resources.files("tito_fast") / "pretrained" / "smallmol.safetensors"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["tito_fast"])
    model = load_model("smallmol")
    assert model_hash(model) == header["hash"]
    assert model.config.to_dict() == header["config"]
