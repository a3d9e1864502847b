"""TBG's network: published sizes, symmetries, the formula, ragged batches."""

from dataclasses import replace

import pytest
import torch

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers import from_sequence
from tito_fast.models.tbg.config import TbgConfig
from tito_fast.models.tbg.model import TbgModel
from tito_fast.models.tbg.network import EgnnLayer, Neighbors, TbgNetwork
from tito_fast.models.tito.config import ModelInfo

INFO = ModelInfo(length_unit_nm=1.0 / 30.0, coupling="none", flow_sigma=0.01)
SMALL = TbgConfig(encoding="full", n_features=8, n_layers=3)


@pytest.fixture(scope="module")
def dipeptides() -> list[Molecule]:
    return [from_sequence("AG"), from_sequence("GG"), from_sequence("GA")]


@pytest.fixture(scope="module")
def model() -> TbgModel:
    model = TbgModel.create(SMALL, INFO, seed=1).to(dtype=torch.float64)
    # Steps of a size that matters, as of a trained network.
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if "step_out" in name:
                parameter.mul_(500.0)
    return model


def _positions(n_atoms: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_atoms, 3, generator=generator, dtype=torch.float64)


def _rotation(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return q


@pytest.mark.parametrize(
    ("encoding", "n_inputs", "n_parameters"),
    [("element", 5, 1_044_239), ("backbone", 13, 1_046_295), ("full", 76, 1_062_486)],
)
def test_the_network_for_dipeptides_has_the_published_size(encoding, n_inputs, n_parameters):
    config = TbgConfig(encoding=encoding)
    assert config.n_inputs == n_inputs
    with torch.device("meta"):
        network = TbgNetwork(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == n_parameters


def test_a_layer_is_the_published_formula():
    layer = EgnnLayer(6, 5.0).double()
    torch.nn.init.normal_(layer.step_out.weight)
    h, x = torch.randn(4, 6, dtype=torch.float64), _positions(4)
    d_0 = torch.rand(4, 4, dtype=torch.float64)
    silu, n = torch.nn.functional.silu, 4
    moved, received = x.clone(), torch.zeros(4, 6, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            r = x[i] - x[j]
            pair = torch.cat([h[i], h[j], r.square().sum()[None], d_0[i, j][None]])
            m = silu(layer.edge_out(silu(layer.edge_in(pair))))
            m = m * torch.sigmoid(layer.attention(m))
            step = torch.tanh(layer.step_out(silu(layer.step_in(m))))
            moved[i] += 5.0 * step * r / ((r.square().sum() + 1e-8).sqrt() + 1.0)
            received[i] += m
    new = h + layer.node_out(silu(layer.node_in(torch.cat([h, received], dim=1))))
    neighbors = Neighbors.of_all(n, torch.device("cpu"))
    first = d_0.flatten()[neighbors.idx + n * torch.arange(n).repeat_interleave(n - 1)]
    features, positions = layer(h[None], x[None], first.view(1, n, n - 1, 1), neighbors)
    torch.testing.assert_close(features[0], new, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(positions[0], moved, rtol=1e-12, atol=1e-12)


def test_the_velocity_turns_with_the_molecule_and_its_mirror_image(model, dipeptides):
    prepared = model.prepare_molecules(dipeptides[:1])
    x_t, time = _positions(dipeptides[0].n_atoms), torch.tensor([0.3], dtype=torch.float64)
    velocity = model.velocity(prepared, x_t, time)
    assert velocity.abs().max() > 0.1
    torch.testing.assert_close(velocity.mean(dim=0), torch.zeros_like(velocity[0]))
    for seed in (0, 1):
        q = _rotation(seed)
        for turn in (q, -q):  # one of them a reflection
            turned = model.velocity(prepared, x_t @ turn.T + 0.7, time)
            torch.testing.assert_close(turned, velocity @ turn.T, rtol=1e-9, atol=1e-9)


def test_the_velocity_follows_a_permutation_of_equal_atoms(model, dipeptides):
    network, n_atoms = model.network, 7
    features = torch.randn(1, n_atoms, SMALL.n_inputs, dtype=torch.float64)
    x_t, time = _positions(n_atoms)[None], torch.tensor([0.6], dtype=torch.float64)
    order = torch.randperm(n_atoms)
    expected = network(features, x_t, time)[:, order]
    found = network(features[:, order], x_t[:, order], time)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_ragged_batch_equals_its_molecules_alone(model, dipeptides):
    sizes = [molecule.n_atoms for molecule in dipeptides]
    assert sizes[0] == sizes[2] != sizes[1]
    x_t = _positions(sum(sizes))
    time = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    together = model.velocity(model.prepare_molecules(dipeptides), x_t, time)
    alone = torch.cat(
        [
            model.velocity(model.prepare_molecules([molecule]), part, time[index : index + 1])
            for index, (molecule, part) in enumerate(zip(dipeptides, x_t.split(sizes), strict=True))
        ]
    )
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    assert (together[: sizes[0]] - together[-sizes[2] :]).abs().max() > 1e-3


def test_one_atom_stays_and_no_molecules_have_no_velocity(model):
    time = torch.tensor([0.5], dtype=torch.float64)
    features = torch.zeros(1, 1, SMALL.n_inputs, dtype=torch.float64)
    velocity = model.network(features, _positions(1)[None], time)
    assert torch.equal(velocity, torch.zeros(1, 1, 3, dtype=torch.float64))
    assert model.velocity(model.prepare_molecules([]), _positions(0), time[:0]).shape == (0, 3)


# torch's own, when it loads its forward-mode formulas.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_derivatives_of_both_modes_agree(model):
    features = torch.randn(1, 5, SMALL.n_inputs, dtype=torch.float64)
    x_t, time = _positions(5)[None], torch.tensor([0.4], dtype=torch.float64)

    def field(x):
        return model.network(features, x, time)

    forward = torch.func.jacfwd(field)(x_t)
    torch.testing.assert_close(forward, torch.func.jacrev(field)(x_t), rtol=1e-8, atol=1e-8)
    assert torch.autograd.gradcheck(field, x_t.clone().requires_grad_())


def test_single_precision_is_near_double_precision(model, dipeptides):
    single = TbgModel(SMALL, INFO, TbgNetwork(SMALL))
    single.network.load_state_dict(model.network.state_dict())
    x_t, time = _positions(dipeptides[0].n_atoms), torch.tensor([0.3], dtype=torch.float64)
    exact = model.velocity(model.prepare_molecules(dipeptides[:1]), x_t, time)
    found = single.velocity(single.prepare_molecules(dipeptides[:1]), x_t.float(), time.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_refused(model, dipeptides):
    prepared = model.prepare_molecules(dipeptides[:1])
    with pytest.raises(ValueError, match="x_t: expected shape"):
        model.velocity(prepared, _positions(3), torch.zeros(1))
    with pytest.raises(ValueError, match="flow_time: expected shape"):
        model.velocity(prepared, _positions(dipeptides[0].n_atoms), torch.zeros(2))
    seen = TbgModel(SMALL, replace(INFO, elements=(1, 6, 8)), model.network)
    with pytest.raises(ValueError, match="molecule 'AG': element 7 was never seen by this model"):
        seen.prepare_molecules(dipeptides[:1])
    with pytest.raises(ValueError, match="encoding: expected one of element, backbone, full"):
        replace(SMALL, encoding="none")
    with pytest.raises(ValueError, match="n_layers: expected at least 1"):
        replace(SMALL, n_layers=0)
    with pytest.raises(ValueError, match="elements: expected different atomic numbers"):
        replace(SMALL, elements=(1, 1))
    with pytest.raises(ValueError, match=r"expected fields .*, got depth"):
        TbgConfig.from_dict({"depth": 3})
