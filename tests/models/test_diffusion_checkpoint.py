"""Checkpoints of ITO's and BoPITO's code: read by name and order of gates, compared with the formulas as published."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.load import load_model, save_model
from tito_fast.models.tito.config import TitoConfig

F, T, MAX_LAG = 8, 50, 40
UNIT_NM = 0.1661689

HOMES = {
    "ito.model.cpainn": "PaiNNTLScore",
    "bopito.models.cpainn": "PaiNNTLScore PaiNNScore PaiNNBoPITOScore PaiNNBase Message Update Readout "
    "EquivariantLinear",
    "bopito.models.embedding": "AddSpatialEdgeFeatures NominalEmbedding AddEquivariantFeatures "
    "PositionalEmbedding PositionalEncoder CombineInvariantFeatures MLP",
}
CLASSES = {
    (home, name): type(name, (nn.Module,), {"__module__": home})
    for home, names in HOMES.items()
    for name in names.split()
}


def make(name, /, *, tracked=False, home="bopito.models.embedding", **attributes):
    module = CLASSES[home, name]()
    for key, value in attributes.items():
        setattr(module, key, value)
    if tracked:
        module.register_buffer("device_tracker", torch.tensor(1))
    return module


def mlp_module(n_in, n_hidden, n_out, *, has_norms):
    blocks = []
    for size in (n_in, n_hidden):
        blocks.append(nn.Linear(size, n_hidden))
        blocks += [nn.LayerNorm(n_hidden)] if has_norms else []
        blocks.append(nn.SiLU())
    return make("MLP", mlp=nn.Sequential(*blocks, nn.Linear(n_hidden, n_out)))


def painn(n_layers, n_out, *, kind):
    home, norms = "bopito.models.cpainn", {"has_norms": kind != "ito"}
    n_in, n_blocks = (F, 4) if kind == "ito" else (2 * F, 5)
    names = ("W", "U", "V") if kind == "ito" else ("w", "u", "v")

    def linear(n):
        return make("EquivariantLinear", home=home, linear=nn.Linear(F, n, bias=False))

    layers = []
    for _ in range(n_layers):
        phi, weight = (mlp_module(n, F, n_blocks * F, **norms) for n in (n_in, F))
        encoder = make("PositionalEncoder", tracked=kind != "ito", dim=F, length=10)
        message = make("Message", home=home, positional_encoder=encoder, phi=phi)
        setattr(message, names[0], weight)
        update = make("Update", home=home)
        setattr(update, names[1], linear(F))
        setattr(update, names[2], linear(F))
        update.mlp = mlp_module(2 * F, F, 3 * F, **norms)
        layers += [message, update]
    readout = make("Readout", home=home, mlp=mlp_module(F, F, 2 * n_out, **norms), V=linear(n_out))
    return make("PaiNNBase", home=home, layers=nn.Sequential(*layers, readout))


def encoding(length):
    encoder = make("PositionalEncoder", tracked=True, dim=F, length=length)
    return make("PositionalEmbedding", embedding=encoder)


def nominal(n_types):
    return make("NominalEmbedding", embedding=nn.Embedding(n_types, F))


def combine(n, *, has_norms=True):
    mlp = mlp_module(n * F, F, F, has_norms=has_norms)
    return make("CombineInvariantFeatures", mlp=mlp)


def dynamic_module():
    spatial = make("AddSpatialEdgeFeatures")
    vectors = make("AddEquivariantFeatures", tracked=True)
    embed = nn.Sequential(spatial, nominal(4), nominal(167), vectors, painn(2, F, kind="bopito"))
    net = nn.Sequential(
        make("AddSpatialEdgeFeatures"),
        encoding(T),
        encoding(MAX_LAG),
        combine(3),
        painn(2, 1, kind="bopito"),
    )
    home = "bopito.models.cpainn"
    return make("PaiNNTLScore", home=home, max_lag=MAX_LAG, embed=embed, net=net)


def equilibrium_module():
    net = nn.Sequential(
        make("AddSpatialEdgeFeatures"),
        nominal(4),
        nominal(167),
        encoding(T),
        make("AddEquivariantFeatures", tracked=True),
        combine(2),
        painn(2, 1, kind="bopito"),
    )
    return make("PaiNNScore", home="bopito.models.cpainn", net=net)


def ito_module():
    embed = nn.Sequential(
        nn.Identity(),
        make("AddEquivariantFeatures", tracked=True),
        nominal(167),
        nn.Identity(),
        combine(2, has_norms=False),
        painn(2, F, kind="ito"),
    )
    net = nn.Sequential(
        nn.Identity(), nn.Identity(), combine(2, has_norms=False), painn(2, 1, kind="ito")
    )
    return make("PaiNNTLScore", home="ito.model.cpainn", embed=embed, net=net)


MODULES = {"ito": ito_module, "dynamic": dynamic_module, "equilibrium": equilibrium_module}


def content_of(module, *, kind):
    """Return what Lightning saves; the average is 1 larger than the last weights."""
    state = {"betas": torch.ones(T), "alpha_bars": torch.ones(T)}
    state |= module.state_dict(prefix="score_model.")
    for k, parameter in enumerate(module.parameters()):
        state[f"ema.shadow_params.{k}"] = parameter.detach() + 1
    hyper = {"diffusion_steps": T, "lr": 1e-3}
    if kind == "ito":
        arguments = {"n_features": F, "max_lag": MAX_LAG, "diff_steps": T}
        hyper |= {"score_model_class": type(module), "score_model_kwargs": arguments}
    else:
        hyper |= {"score_model": module, "noise_schedule": "polynomial", "wandb_logger": None}
    return {"epoch": 3, "state_dict": state, "hyper_parameters": hyper, "callbacks": {}}


@pytest.fixture
def write(tmp_path, monkeypatch):
    def write(content):
        names = {home.rsplit(".", depth)[0] for home in HOMES for depth in range(3)}
        with monkeypatch.context() as patch:
            for name in names:
                patch.setitem(sys.modules, name, ModuleType(name))
            for (home, name), cls in CLASSES.items():
                setattr(sys.modules[home], name, cls)
            torch.save(content, tmp_path / "a.ckpt")
        return tmp_path / "a.ckpt"

    return write


def read(write, kind, *, seed=0, **options):
    torch.manual_seed(seed)
    module = MODULES[kind]()
    model = load_model(write(content_of(module, kind=kind)), units=UNIT_NM, **options)
    return module, model


class Published:
    """The published networks on one molecule, written out densely: [i, j] is the edge from j to i."""

    def __init__(self, state):
        self.state = {name: tensor.double() for name, tensor in state.items()}

    def mlp(self, name, x):
        numbers = sorted(
            {int(n[len(name) + 1 :].split(".")[0]) for n in self.state if n.startswith(name + ".")}
        )
        for number in numbers:
            weight, bias = (self.state[f"{name}.{number}.{part}"] for part in ("weight", "bias"))
            is_norm = weight.ndim == 1
            norm = nn.functional.layer_norm
            x = norm(x, weight.shape, weight, bias) if is_norm else x @ weight.T + bias
            # SiLU stands behind a norm, or behind a linear that no norm follows.
            followed = f"{name}.{number + 1}.weight" in self.state
            if number != numbers[-1] and not followed:
                x = nn.functional.silu(x)
        return x

    @staticmethod
    def encode(value, length):
        value = torch.as_tensor(value, dtype=torch.float64)
        parts = []
        for rank in range(F // 2):
            angle = value / length * rank * torch.pi
            parts += [angle.cos(), angle.sin()]
        return torch.stack(parts, dim=-1)

    def painn(self, name, x, s, v, e):
        n = x.shape[0]
        r = x[None, :] - x[:, None]
        d = r.norm(dim=-1)
        u = r / (1 + d)[..., None]
        different = 1 - torch.eye(n, dtype=torch.float64)
        k = 0
        while f"{name}.{k}.phi.mlp.0.weight" in self.state:
            here = s[None].expand(n, n, F)
            inputs = here if e is None else torch.cat([here, e], dim=-1)
            w = "w" if e is not None else "W"
            product = self.mlp(f"{name}.{k}.phi.mlp", inputs) * self.mlp(
                f"{name}.{k}.{w}.mlp", self.encode(d, 10)
            )
            a, c, b, *scalar = product.split(F, dim=-1)
            ds = scalar[0] * here if e is None else scalar[0]
            turned = torch.linalg.cross(
                u[:, :, None].expand(n, n, F, 3), v[:, None].expand(n, n, F, 3)
            )
            dv = b[..., None] * u[:, :, None] + a[..., None] * v[None] + c[..., None] * turned
            s = s + (ds * different[..., None]).sum(1)
            v = v + (dv * different[..., None, None]).sum(1)
            e = None if e is None else e + scalar[1]
            names = "UV" if e is None else "uv"
            uv, vv = (
                torch.einsum("of,nfx->nox", self.state[f"{name}.{k + 1}.{letter}.linear.weight"], v)
                for letter in names
            )
            norm = vv.norm(dim=-1)
            g, q, t = self.mlp(f"{name}.{k + 1}.mlp.mlp", torch.cat([norm, s], -1)).split(F, dim=-1)
            s, v = s + norm**2 * q + t, v + g[..., None] * uv
            k += 2
        s, g = self.mlp(f"{name}.{k}.mlp.mlp", s).chunk(2, dim=-1)
        v = g[..., None] * torch.einsum("of,nfx->nox", self.state[f"{name}.{k}.V.linear.weight"], v)
        return s, v, e

    def noise(self, kind, numbers, orders, current, x, step, lag):
        n = x.shape[0]
        atoms = self.state[
            "net.2.embedding.weight" if kind == "equilibrium" else "embed.2.embedding.weight"
        ]
        s, v = atoms[numbers], torch.zeros(n, F, 3, dtype=torch.float64)
        t, tau = (self.encode(a, b).expand(n, F) for a, b in ((step, T), (lag, MAX_LAG)))
        if kind == "ito":
            s = self.mlp("embed.4.mlp.mlp", torch.cat([s, tau], -1))
            s, v, e = self.painn("embed.5.layers", current, s, v, None)
            s = self.mlp("net.2.mlp.mlp", torch.cat([s, t], -1))
            name = "net.3.layers"
        elif kind == "dynamic":
            e = self.state["embed.1.embedding.weight"][orders]
            s, v, e = self.painn("embed.4.layers", current, s, v, e)
            s = self.mlp("net.3.mlp.mlp", torch.cat([s, t, tau], -1))
            name = "net.4.layers"
        else:
            e = self.state["net.1.embedding.weight"][orders]
            s = self.mlp("net.5.mlp.mlp", torch.cat([s, t], -1))
            name = "net.6.layers"
        _, v, _ = self.painn(name, x, s, v, e)
        return x + v[:, 0]


@pytest.mark.parametrize("kind", MODULES)
def test_the_network_is_that_of_the_formulas(write, kind):
    module, model = read(write, kind, weights="last")
    model.to(dtype=torch.float64)
    n, generator = 5, torch.Generator().manual_seed(1)
    current, x = torch.randn(2, n, 3, dtype=torch.float64, generator=generator)
    numbers = torch.tensor([6, 1, 8, 6, 7])
    bonds = {(0, 1): 1, (0, 2): 2, (2, 3): 12, (3, 4): 3}
    orders = torch.zeros(n, n, dtype=torch.int64)
    for (i, j), code in bonds.items():
        # The released code cuts an aromatic bond's order, 1.5, to 1.
        orders[i, j] = orders[j, i] = 1 if code == 12 else code
    pairs = [*bonds, *((j, i) for i, j in bonds)]
    batch = MoleculeBatch(
        atomic_numbers=numbers,
        batch_ptr=torch.tensor([0, n]),
        bond_index=torch.tensor(pairs).T.contiguous(),
        bond_type=torch.tensor([*bonds.values()] * 2),
        sizes=(n,),
    )
    expected = Published(module.state_dict()).noise(kind, numbers, orders, current, x, 17.0, 23.0)
    step, lag = (torch.tensor([value], dtype=torch.float64) for value in (17.0, 23.0))
    vectors = torch.zeros(n, 3, F, dtype=torch.float64) if kind == "equilibrium" else None
    for backend in ("reference", "eager") if kind == "ito" else ("reference", "eager", "native"):
        prepared = model.prepare(batch, backend=backend)
        conditioning = model.condition(prepared, current, lag)
        found = model.noise(prepared, conditioning, x, step, lag, vectors=vectors)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", MODULES)
def test_what_the_file_says_is_kept_and_written_again(write, tmp_path, kind):
    _, model = read(write, kind)
    sizes = {"n_features": F, "n_model_layers": 2, "n_diffusion_steps": T}
    expected = {
        "ito": TitoConfig.ito(max_lag_ps=MAX_LAG, **sizes),
        "dynamic": TitoConfig.bopito_dynamic(max_lag_ps=MAX_LAG, **sizes),
        "equilibrium": TitoConfig.bopito_equilibrium(**sizes),
    }
    assert model.config == expected[kind]
    assert (model.info.length_unit_nm, model.info.coupling) == (UNIT_NM, "none")
    save_model(model, tmp_path / "a.safetensors")
    again = load_model(tmp_path / "a.safetensors")
    assert again.config == model.config
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name


@pytest.mark.parametrize("kind", MODULES)
def test_the_average_is_read_by_the_order_of_the_parameters(write, kind):
    _, average = read(write, kind)
    _, last = read(write, kind, weights="last")
    last_state = last.network.state_dict()
    for name, tensor in average.network.state_dict().items():
        rows = [0, 1, 2, 3, 12] if "bond_embedding" in name else slice(None)
        torch.testing.assert_close(tensor[rows], last_state[name][rows] + 1)


def test_both_networks_of_one_file_are_read(write):
    torch.manual_seed(0)
    parts = {"dynamic": dynamic_module(), "equilibrium": equilibrium_module()}
    home = "bopito.models.cpainn"
    module = make("PaiNNBoPITOScore", home=home, lambda_hat=torch.tensor(0.9996).double())
    module.eq_score_model, module.tl_score_model = parts["equilibrium"], parts["dynamic"]
    path = write(content_of(module, kind="bopito"))
    for part, of_part in parts.items():
        found = load_model(path, units=UNIT_NM, part=part, weights="last")
        alone = write(content_of(of_part, kind=part)).rename(path.with_name(f"{part}.ckpt"))
        path = write(content_of(module, kind="bopito"))
        expected = load_model(alone, units=UNIT_NM, weights="last")
        assert found.config == expected.config
        for name, tensor in expected.network.state_dict().items():
            assert torch.equal(found.network.state_dict()[name], tensor), (part, name)
    with pytest.raises(ValueError, match="part: expected dynamic or equilibrium for a BoPITO"):
        load_model(path, units=UNIT_NM)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("dynamic", {"diffusion_steps": 20}, "expected the length of their encoding, 50, got 20"),
        ("ito", {"diffusion_steps": 20}, "expected the length of their encoding, 50, got 20"),
        (
            "ito",
            {"score_model_kwargs": {"max_lag": 2.5, "diff_steps": T}},
            "max_lag: expected a whole",
        ),
        ("dynamic", {"noise_schedule": "polynomial_3"}, "noise_schedule: expected one of"),
        ("dynamic", {"score_model": None}, "expected the network under 'score_model', got none"),
        (
            "ito",
            {"score_model_kwargs": {"dist_encoding": "soft_one_hot", "diff_steps": T}},
            "dist_encoding: expected positional_encoding",
        ),
    ],
)
def test_a_network_that_would_not_be_the_same_is_refused(write, kind, change, message):
    content = content_of(MODULES[kind](), kind=kind)
    content["hyper_parameters"] |= change
    path = write(content)
    with pytest.raises(ValueError, match=message) as error:
        load_model(path, units=UNIT_NM)
    assert str(error.value).startswith(str(path))


def test_other_state_is_refused(write):
    def refused(content, message, **options):
        path = write(content)
        with pytest.raises(ValueError, match=message):
            load_model(path, **({"units": UNIT_NM} | options))

    good = content_of(ito_module(), kind="ito")
    state = good["state_dict"]

    def without(*starts):
        return good | {"state_dict": {n: t for n, t in state.items() if not n.startswith(starts)}}

    def also(name):
        return good | {"state_dict": {**state, name: torch.zeros(2)}}

    refused(good, "units: expected the nm in one model unit", units=None)
    refused(good, "part: expected None for a checkpoint of one network", part="dynamic")
    refused(good, "weights: expected one of average, last", weights="best")
    refused(without("ema."), "weights: expected an average of .* use weights='last'")
    refused(without("score_model.net.2"), "expected the network of ITO or BoPITO", weights="last")
    refused(without("score_model.net.3"), "expected layers net.3.layers", weights="last")
    refused(
        also("score_model.net.9.weight"), "expected parameters of ITO or BoPITO", weights="last"
    )
    end = "score_model.net.3.layers.4"
    refused(without(end), "expected a readout after net.3.layers", weights="last")
    refused(good | {"hyper_parameters": None}, "hyper_parameters: expected those of a DDPM")


def test_a_part_is_refused_for_other_models(ckpt):
    with pytest.raises(ValueError, match="part: expected None for a model that is not BoPITO's"):
        load_model(ckpt, units="mdqm9", part="dynamic")
