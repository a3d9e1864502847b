"""Recordings of the released code, cut small: what the README of the fixtures lists is reproduced."""

from pathlib import Path

import pytest
import torch

from tito_fast.testing.golden import TOLERANCES, Quantity, replay

FOLDER = Path(__file__).parents[1] / "fixtures" / "golden"
FILES = sorted(FOLDER.glob("*.pt"))


def by_name(found):
    return {(line.dtype, line.name): line for line in found.lines}


def test_fixtures_are_there():
    assert [path.stem for path in FILES] == [
        "parts_cut",
        "train_small_cut",
        "velocity_temperature_cut",
    ]


@pytest.mark.parametrize("backend", ["reference", "eager", "native"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_backend_reproduces_the_released_code_in_both_dtypes(path, backend):
    found = replay(path, backend=backend)
    assert [str(line) for line in found.lines if line.is_failed] == []
    assert found.is_ok
    compared = {line.dtype for line in found.lines if line.is_compared}
    assert {"float32", "float64"} <= compared


def test_triton_reproduces_the_released_velocity(triton_device):
    """In float32: the interpreter takes long enough for one dtype, and a GPU has no other."""
    path = FOLDER / "velocity_temperature_cut.pt"
    found = replay(path, backend="triton", dtype="float32", device=triton_device.type)
    assert found.is_ok
    assert [line.name for line in found.lines if line.is_compared and line.dtype] == ["velocity"]


@pytest.mark.gpu
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_triton_reproduces_the_released_code_on_a_gpu(path):
    found = replay(path, backend="triton", device="cuda")
    assert [str(line) for line in found.lines if line.is_failed] == []
    assert "float32" in {line.dtype for line in found.lines if line.is_compared}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reference_compares_every_recorded_quantity(path):
    found = replay(path)
    assert [line.name for line in found.lines if not line.is_compared] == []
    recorded = torch.load(path, weights_only=True)
    names = by_name(found)
    for dtype in {"float32", "float64"} & recorded.keys():
        assert {(dtype, name) for name in recorded[dtype] if name != "layers"} <= names.keys()
        layers = recorded[dtype].get("layers", {})
        assert {(dtype, f"layers.{name}") for name in layers} <= names.keys()


def test_eager_compares_velocity_and_lists_the_rest():
    found = replay(FOLDER / "velocity_temperature_cut.pt", backend="eager")
    compared = {(line.dtype, line.name) for line in found.lines if line.is_compared}
    assert compared == {("float32", "velocity"), ("float64", "velocity")}
    listed = {line.name for line in found.lines if not line.is_compared}
    assert {
        "edge_index",
        "cond_edge_dist",
        "layers.score.layers.10.invariant_node_features",
    } <= listed


@pytest.mark.parametrize("backend", ["reference", "eager", "native"])
def test_training_quantities_are_held_to_the_stated_tolerances(backend):
    found = by_name(replay(FOLDER / "train_small_cut.pt", backend=backend))
    stated = {
        "loss": (1e-10, 2e-5),
        "grad_norm": (1e-8, 1e-4),
        "total_grad_norm": (1e-8, 1e-4),
        "adam_loss_curve": (1e-7, 1e-3),
    }
    for name, tolerances in stated.items():
        assert (found["float64", name].tolerance, found["float32", name].tolerance) == tolerances
        assert found["float64", name].error <= tolerances[0]
    assert found["float64", "params_after_5_adam_steps"].tolerance == 1e-6
    assert TOLERANCES[Quantity.TRAJECTORY] == {"float64": 1e-10, "float32": 5e-5}
    assert TOLERANCES[Quantity.VELOCITY] == {"float64": 1e-10, "float32": 2e-5}


def test_one_dtype_is_replayed_alone():
    found = replay(FOLDER / "velocity_temperature_cut.pt", dtype="float64")
    assert {line.dtype for line in found.lines} == {"float64"}
    assert found.is_ok


@pytest.mark.parametrize("backend", ["reference", "eager", "native"])
@pytest.mark.parametrize("name", ["velocity_temperature_cut.pt", "train_small_cut.pt"])
def test_changed_weight_is_found(tmp_path, name, backend):
    content = torch.load(FOLDER / name, weights_only=True)
    content["state_dict"]["score.5.layers.1.u.linear.weight"][3, 4] += 1e-3
    torch.save(content, tmp_path / name)
    found = replay(tmp_path / name, backend=backend)
    failed = {(line.dtype, line.name) for line in found.lines if line.is_failed}
    wanted = "velocity" if name.startswith("velocity") else "loss"
    assert ("float64", wanted) in failed
    assert not found.is_ok


PARTS = [
    (("positional_encoder", "dim32_len1", "float64"), (2, 3), "positional_encoder.dim32_len1"),
    (("ot_coupling", "n18_1", "r_float64"), (4, 1), "ot_coupling.n18_1.r"),
    (("ot_coupling", "n18_0", "p"), (0, 0), "ot_coupling.n18_0.p"),
    (("lagged_index", "per_traj", "data0_idx"), (31,), "lagged_index.per_traj.data0_idx"),
    (("lagged_index", "draws_uniform", "lags"), (299,), "lagged_index.draws_uniform.lags"),
    (("centring", "center_coordinates_all"), (50, 2), "centring.center_coordinates_all"),
]


@pytest.mark.parametrize(("keys", "place", "name"), PARTS, ids=[part[2] for part in PARTS])
def test_changed_part_fails_alone(tmp_path, keys, place, name):
    content = torch.load(FOLDER / "parts_cut.pt", weights_only=True)
    recorded = content
    for key in keys:
        recorded = recorded[key]
    recorded[place] += 1 if recorded.dtype == torch.int64 else 1e-2
    torch.save(content, tmp_path / "parts.pt")
    found = replay(tmp_path / "parts.pt")
    assert {line.name for line in found.lines if line.is_failed} == {name}


def test_reflected_coupling_is_found_by_its_determinant(tmp_path):
    content = torch.load(FOLDER / "parts_cut.pt", weights_only=True)
    case = content["ot_coupling"]["n18_1"]
    assert case["det_sign"] == -1
    case["det_sign"] = torch.tensor(1.0)
    torch.save(content, tmp_path / "parts.pt")
    failed = {line.name for line in replay(tmp_path / "parts.pt").lines if line.is_failed}
    assert failed == {"ot_coupling.n18_1.det_sign"}


def test_permutation_is_real_where_the_recording_says_so(tmp_path):
    base = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [0.0, 0.0, 2.0]])
    case = {"base": base, "target": base[[1, 0, 2]], "permutation_is_identity": False}
    case |= {"p": base[[1, 0, 2]], "p_float64": base[[1, 0, 2]].double()}
    content = {"format": "tito-golden-parts-1", "ot_coupling": {"swapped": case}}
    torch.save(content, tmp_path / "parts.pt")
    assert replay(tmp_path / "parts.pt").is_ok
    case["permutation_is_identity"] = True
    torch.save(content, tmp_path / "parts.pt")
    assert replay(tmp_path / "parts.pt").n_failed == 2
