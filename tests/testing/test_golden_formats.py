"""Files of the golden formats that nobody has given us: other sizes, options, dtypes and orders."""

import importlib.util
from pathlib import Path

import pytest
import torch

from tito_fast.testing.golden import replay

TESTS = Path(__file__).parents[1]
VARIANTS = {
    "default": {},
    "reduced": {"n_reduced_features": 4},
    "cutoff": {"cutoff": 2.0, "virtual_node": True},
    "temperature": {"temperature": True, "embedding_layers": 2},
    "all": {
        "n_features": 6,
        "cutoff": 1.5,
        "n_reduced_features": 4,
        "length_scale": 7.0,
        "max_lag": 250,
        "embedding_layers": 2,
        "model_layers": 1,
        "temperature": True,
    },
}
BACKENDS = ["reference", "eager", "native"]


def load_module(name, *parts):
    spec = importlib.util.spec_from_file_location(name, TESTS.joinpath("fixtures", *parts))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = load_module("tiny_recordings", "golden", "tiny.py")
MAKERS = {
    "velocity": tiny.velocity_recording,
    "train": tiny.train_recording,
    "sample": tiny.sample_recording,
}


@pytest.fixture
def save(tmp_path):
    def write(content, name="recording.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


def failed(found):
    return {(line.dtype, line.name) for line in found.lines if line.is_failed}


def compared(found):
    return {(line.dtype, line.name) for line in found.lines if line.is_compared}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_both_backends_agree_with_the_restatement(save, kind, variant):
    path = save(MAKERS[kind](VARIANTS[variant], seed=3))
    for backend in BACKENDS:
        found = replay(path, backend=backend)
        assert failed(found) == set(), backend
        assert found.is_ok
        wanted = {"velocity": "velocity", "train": "grad_norm", "sample": "trajectory"}[kind]
        assert {("float32", wanted), ("float64", wanted)} <= compared(found)
        if backend == "reference":
            assert all(line.is_compared for line in found.lines)


def test_a_cutoff_leaves_some_edges_out():
    recording = tiny.velocity_recording(VARIANTS["cutoff"], seed=3)
    n_edges = recording["float64"]["edge_index"].shape[1]
    assert 2 * (4 + 2) < n_edges < 5 * 4 + 3 * 2


@pytest.mark.parametrize("sizes", [(7,), (4, 1, 2), (2, 2, 2, 2)])
@pytest.mark.parametrize("kind", MAKERS)
def test_any_number_of_molecules(save, kind, sizes):
    path = save(MAKERS[kind](sizes=sizes))
    for backend in BACKENDS:
        assert failed(replay(path, backend=backend)) == set()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_with_one_dtype_is_replayed_in_it(save, kind, dtype):
    recording = MAKERS[kind]()
    del recording["float64" if dtype == "float32" else "float32"]
    found = replay(save(recording))
    assert found.is_ok
    assert {line.dtype for line in found.lines} - {"-"} == {dtype}


def test_optional_keys_may_be_absent(save):
    recording = tiny.velocity_recording()
    for key in ("ptr", "x_corr"):
        del recording["inputs"][key]
    for key in ("state_dict", "config", "float32", "name"):
        del recording[key]
    for key in ("edge_index", "layers", "readout_invariant"):
        del recording["float64"][key]
    recording["description"] = None
    found = replay(save(recording))
    assert found.is_ok
    assert ("float64", "edge_type") in compared(found)
    assert ("float64", "cond_edge_dist") in compared(found)


def test_lag_may_be_flat_and_batch_absent(save):
    recording = tiny.velocity_recording()
    recording["inputs"]["lag"] = recording["inputs"]["lag"][:, 0]
    del recording["inputs"]["batch"]
    assert replay(save(recording)).is_ok


def test_temperature_of_a_model_without_one_is_ignored(save):
    recording = tiny.velocity_recording()
    recording["inputs"]["temperature"] = torch.ones(2, 1)
    assert replay(save(recording)).is_ok


@pytest.mark.parametrize("name", ["velocity", "train"])
def test_unknown_quantities_are_listed_and_not_counted(save, name):
    recording = MAKERS[name]()
    recording["float64"]["divergence"] = torch.zeros(3)
    found = replay(save(recording))
    assert found.is_ok
    assert [line.name for line in found.lines if not line.is_compared] == ["divergence"]
    assert "not computed" in str(next(line for line in found.lines if not line.is_compared))


EDGE_QUANTITIES = [f"{a}_edge_{b}" for a in ("cond", "corr") for b in ("dist", "dir")]
EDGE_QUANTITIES.append("cond_invariant_edge_features")


def test_edges_may_stand_in_any_order_and_only_some_rows(save):
    recording = tiny.velocity_recording()
    n_edges = recording["float32"]["edge_type"].shape[0]
    order = torch.randperm(n_edges, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(0, n_edges, 3)
    recording["edge_rows"] = rows
    for dtype in ("float32", "float64"):
        section = recording[dtype]
        section["edge_index"] = section["edge_index"][:, order]
        section["edge_type"] = section["edge_type"][order]
        for name in EDGE_QUANTITIES:
            section[name] = section[name][order][rows]
    del recording["float64"]["edge_index"], recording["float64"]["edge_type"]
    found = replay(save(recording))
    assert failed(found) == set()
    recording["edge_rows"] = rows.flip(0)
    assert failed(replay(save(recording), dtype=None)) >= {
        (dtype, name) for dtype in ("float32", "float64") for name in EDGE_QUANTITIES
    }


@pytest.mark.parametrize("change", ["missing", "repeated", "other"])
def test_other_edges_fail_with_everything_on_them(save, change):
    recording = tiny.velocity_recording()
    for dtype in ("float32", "float64"):
        index = recording[dtype]["edge_index"]
        if change == "missing":
            recording[dtype]["edge_index"] = index[:, 1:]
        elif change == "repeated":
            index[:, 1] = index[:, 0]
        else:
            index[:, 0] = torch.tensor([0, 7])  # atoms of two molecules
    names = {name for dtype, name in failed(replay(save(recording))) if dtype == "float64"}
    assert {"edge_index", "edge_type", *EDGE_QUANTITIES} <= names
    assert "velocity" not in names


def test_other_bond_type_of_an_edge_is_found(save):
    recording = tiny.velocity_recording()
    recording["float64"]["edge_type"][4] += 1
    assert failed(replay(save(recording))) == {("float64", "edge_type")}


def test_every_recorded_number_is_looked_at(save):
    recording = tiny.velocity_recording(VARIANTS["cutoff"])
    section = recording["float64"]
    for values in (section, section["layers"]):
        for name, recorded in values.items():
            if isinstance(recorded, torch.Tensor) and recorded.is_floating_point():
                # A copy: some are views of others.
                values[name] = recorded.clone(memory_format=torch.contiguous_format)
                values[name].view(-1)[-1] += 1e-6 * recorded.abs().max()
    found = replay(save(recording), dtype="float64")
    exact = {"edge_index", "edge_type", "checkpoint: state_dict", "checkpoint: config"}
    assert {name for _, name in failed(found)} == {line.name for line in found.lines} - exact


def test_nan_in_a_recording_fails(save):
    recording = tiny.velocity_recording()
    recording["float64"]["velocity"][0, 0] = float("nan")
    assert failed(replay(save(recording))) == {("float64", "velocity")}


@pytest.mark.parametrize("kind", ["train", "sample"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_changed_weight_is_found(save, kind, backend):
    recording = MAKERS[kind]()
    recording["state_dict"]["score.5.layers.3.v.linear.weight"][0, 0] += 1e-3
    wanted = {"train": "loss", "sample": "trajectory"}[kind]
    assert ("float64", wanted) in failed(replay(save(recording), backend=backend))


def test_inner_checkpoint_with_other_weights_is_found(save):
    recording = tiny.velocity_recording()
    name = "score.embed.1.embedding.weight"
    recording["checkpoint"]["state_dict"][name] = recording["checkpoint"]["state_dict"][name] + 1
    recording["checkpoint"]["score_config"] = recording["config"] | {"max_lag": 999}
    assert failed(replay(save(recording))) == {
        ("-", "checkpoint: state_dict"),
        ("-", "checkpoint: config"),
    }


def test_sampling_states_of_the_first_transition_are_looked_at(save):
    recording = tiny.sample_recording()
    for name in ("first_transition_states", "first_transition_velocities", "final_corr_x"):
        recording["float64"][name][-1, 0] += 1e-3
    assert {name for _, name in failed(replay(save(recording)))} == {
        "first_transition_states",
        "first_transition_velocities",
        "final_corr_x",
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_none_and_of_zero_are_the_same(save, backend):
    recording = tiny.train_recording()
    norms = recording["float64"]["grad_norm"]
    without = [name for name, norm in norms.items() if norm < 0 and "tracker" not in name]
    assert without  # one embedding layer: its last u and the readout's V
    norms[without[0]] = 0.0
    recording["float64"]["zero_grad_params"] = [without[0]]
    recording["float64"]["grads"][without[0]] = torch.zeros_like(
        recording["state_dict"][without[0]]
    )
    assert failed(replay(save(recording), backend=backend)) == set()


def test_gradient_where_none_was_recorded_is_found(save):
    recording = tiny.train_recording()
    name = "score.5.layers.0.phi.mlp.6.bias"
    recording["float64"]["grad_norm"][name] = -1.0
    recording["float64"]["no_grad_params"].append(name)
    found = replay(save(recording))
    assert failed(found) == {("float64", "grad_norm"), ("float64", "no_grad_params")}
    assert any(name in line.note for line in found.lines if line.name == "grad_norm")


def test_missing_gradient_is_found(save):
    recording = tiny.train_recording()
    name = next(n for n, norm in recording["float64"]["grad_norm"].items() if norm < 0)
    recording["float64"]["grad_norm"][name] = 1e-3
    assert failed(replay(save(recording))) == {("float64", "grad_norm")}


def test_small_norm_is_held_to_its_own_size(save):
    recording = tiny.train_recording()
    norms = recording["float64"]["grad_norm"]
    smallest = min((name for name, norm in norms.items() if norm > 0), key=norms.get)
    norms[smallest] *= 1 + 1e-6
    found = replay(save(recording))
    assert failed(found) == {("float64", "grad_norm")}
    assert any(smallest in line.note for line in found.lines if line.is_failed)


@pytest.fixture
def pair(save, tmp_path):
    """A checkpoint as Lightning writes it, with its module pickled, and the recording beside it."""
    released = load_module("released_checkpoints", "checkpoints", "released.py")
    recording = tiny.velocity_recording(released.CONFIG)
    module = released.released_module(recording["config"])
    known = module.state_dict().keys()
    weights = {name: w for name, w in recording["state_dict"].items() if name in known}
    module.load_state_dict(weights, strict=False)
    recording["state_dict"] = {name: w.clone() for name, w in module.state_dict().items()}
    del recording["checkpoint"]
    recording["checkpoint_file"] = "lightning.ckpt"

    def write():
        content = released.lightning_content(module)
        # The fixture takes an optimizer step to have its state; the recording is of what was before.
        content["state_dict"] = {f"score.{n}": w for n, w in recording["state_dict"].items()}
        released.write_released(tmp_path / "lightning.ckpt", content)
        return save(recording, "lightning_expected.pt"), tmp_path / "lightning.ckpt"

    return recording, write


@pytest.mark.parametrize("backend", BACKENDS)
def test_checkpoint_and_its_recording_replay_from_either_file(pair, backend):
    _, write = pair
    expected, checkpoint = write()
    for path in (expected, checkpoint):
        found = replay(path, backend=backend)
        assert found.path == expected
        assert failed(found) == set()
        assert {("-", "lightning.ckpt: state_dict"), ("float64", "velocity")} <= compared(found)


def test_recording_without_weights_takes_those_of_its_checkpoint(pair):
    recording, write = pair
    expected, checkpoint = write()
    del recording["state_dict"]
    torch.save(recording, expected)
    found = replay(checkpoint)
    assert found.is_ok
    assert ("-", "lightning.ckpt: state_dict") not in compared(found)


def test_checkpoint_with_other_weights_fails(pair):
    recording, write = pair
    expected, _ = write()
    recording["state_dict"]["score.4.mlp.mlp.0.bias"] += 1e-3
    torch.save(recording, expected)
    assert failed(replay(expected)) == {("-", "lightning.ckpt: state_dict")}


def test_checkpoint_that_is_gone_is_named(pair):
    _, write = pair
    expected, checkpoint = write()
    checkpoint.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"expected an existing file, got .*lightning\.ckpt"
    ):
        replay(expected)


def test_checkpoint_without_a_recording_is_refused(pair):
    _, write = pair
    expected, checkpoint = write()
    expected.unlink()
    with pytest.raises(ValueError, match="recording of plain tensors"):
        replay(checkpoint)
