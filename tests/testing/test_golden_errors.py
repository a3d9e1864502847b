"""The command of the golden replay: exit status, lines, and one sentence for everything bad."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.testing.golden import replay
from tito_fast.testing.golden.__main__ import main

FOLDER = Path(__file__).parents[1] / "fixtures" / "golden"
_SPEC = importlib.util.spec_from_file_location("tiny_recordings_of_errors", FOLDER / "tiny.py")
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)


@pytest.fixture
def good(tmp_path):
    torch.save(tiny.velocity_recording(), tmp_path / "good.pt")
    return tmp_path / "good.pt"


@pytest.fixture
def bad(tmp_path):
    recording = tiny.velocity_recording()
    recording["state_dict"]["score.4.mlp.mlp.0.bias"][0] += 1e-3
    torch.save(recording, tmp_path / "bad.pt")
    return tmp_path / "bad.pt"


def test_agreement_exits_zero_with_a_line_per_quantity(good, capsys):
    assert main([str(good)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "tito-golden-velocity-1  reference on cpu" in out[0]
    velocity = next(line.split() for line in out if "float64  velocity" in line)
    assert velocity[0:2] == ["float64", "velocity"]
    assert float(velocity[2]) <= float(velocity[3]) == 1e-10
    assert velocity[4] == "ok"
    assert out[-1].startswith("1 of 1 files replayed: 60 quantities compared, 0 failed")


@pytest.mark.parametrize("backend", ["reference", "eager", "native"])
def test_disagreement_exits_nonzero_and_says_where(bad, capsys, backend):
    assert main([str(bad), "--backend", backend]) == 1
    out = capsys.readouterr().out
    assert any("float64  velocity" in line and "FAIL" in line for line in out.splitlines())


def test_one_bad_file_does_not_hide_the_others(good, bad, tmp_path, capsys):
    missing = tmp_path / "missing.pt"
    assert main([str(missing), str(good)]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"error: {missing}: expected a recording, got no such file\n"
    assert "1 of 2 files replayed" in captured.out
    assert main([str(bad), str(good)]) == 1


def test_nothing_to_compare_is_no_success(tmp_path, capsys):
    recording = tiny.velocity_recording()
    del recording["checkpoint"]
    for dtype in ("float32", "float64"):
        del recording[dtype]["velocity"]
    torch.save(recording, tmp_path / "inner.pt")
    assert main([str(tmp_path / "inner.pt")]) == 0
    capsys.readouterr()
    assert main([str(tmp_path / "inner.pt"), "--backend", "eager"]) == 1
    assert "FAIL: eager computes nothing that is recorded here" in capsys.readouterr().out


def test_one_dtype_alone(good, capsys):
    assert main([str(good), "--dtype", "float32", "--device", "cpu"]) == 0
    assert "float64" not in capsys.readouterr().out


def test_module_runs_as_a_command(bad):
    command = [
        sys.executable,
        "-P",
        "-m",
        "tito_fast.testing.golden",
        str(bad),
        "--dtype",
        "float64",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert done.stderr == ""


def test_wrong_options_exit_nonzero(good, capsys):
    for options in (["--backend", "fast"], ["--dtype", "float16"], []):
        with pytest.raises(SystemExit) as exit_:
            main([str(good), *options] if options else [])
        assert exit_.value.code != 0
    assert "invalid choice: 'fast'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"backend": "fast"}, "backend: expected one of auto, reference"),
        ({"dtype": "float16"}, "dtype: expected one of float64, float32, got 'float16'"),
        ({"device": "tpu9"}, "device: expected cpu, cuda or cuda:i, got 'tpu9'"),
        ({"device": "meta"}, "device: expected cpu, cuda or cuda:i, got 'meta'"),
        ({"device": "cuda:99"}, "device: expected one of .* CUDA devices, got 'cuda:99'"),
    ],
)
def test_options_are_checked(good, options, match):
    with pytest.raises(ValueError, match=match):
        replay(good, **options)


def test_a_backend_that_cannot_run_says_so(good, capsys, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendUnavailableError, match=r"triton.* on CUDA tensors"):
        replay(good, backend="triton")
    assert main([str(good), "--backend", "triton"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("size", [0, 1, 100, 5000, 60000])
def test_truncated_file_is_refused(good, size):
    cut = good.with_name("cut.pt")
    cut.write_bytes(good.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"cut\.pt: expected a recording of plain tensors"):
        replay(cut)


def test_damage_anywhere_ends_in_a_verdict_or_a_sentence(good):
    content = good.read_bytes()
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(0, len(content), (60,), generator=generator).tolist()
    damaged = good.with_name("damaged.pt")
    for place in places:
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            replay(damaged, dtype="float64", backend="eager")
        except ValueError as error:
            assert str(damaged) in str(error)  # noqa: PT017  most places end in a verdict instead


def test_text_and_folders_are_refused(tmp_path):
    (tmp_path / "notes.pt").write_text("# notes\n")
    with pytest.raises(ValueError, match=r"notes\.pt: expected a recording of plain tensors"):
        replay(tmp_path / "notes.pt")
    with pytest.raises(FileNotFoundError, match="expected a recording, got a folder"):
        replay(tmp_path)


class Unexpected:
    """Something that only an unpickler that executes code could load."""


def test_pickled_objects_are_not_loaded(tmp_path):
    torch.save({"format": "tito-golden-velocity-1", "state_dict": Unexpected}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="recording of plain tensors"):
        replay(tmp_path / "a.pt")


def _remove(*keys):
    def change(recording):
        for key in keys[:-1]:
            recording = recording[key]
        del recording[keys[-1]]

    return change


def _set(value, *keys):
    def change(recording):
        for key in keys[:-1]:
            recording = recording[key]
        recording[keys[-1]] = value

    return change


def _cross_bond(recording):
    recording["inputs"]["bond_index"][:, 0] = torch.tensor([0, 7])


def _self_bond(recording):
    recording["inputs"]["bond_index"][:, 0] = torch.tensor([2, 2])


VELOCITY_CHANGES = [
    (_remove("inputs"), "inputs: expected in the recording, got none; the file is incomplete"),
    (_remove("inputs", "x_cond"), r"inputs\.x_cond: expected in the recording, got none"),
    (_remove("inputs", "t"), r"inputs\.t: expected in the recording, got none"),
    (_remove("equivariant_noise"), "equivariant_noise: expected in the recording, got none"),
    (_set(torch.zeros(2, 3), "inputs", "x_cond"), r"inputs\.x_cond: expected shape \(8, 3\)"),
    (_set([1.0], "inputs", "t"), r"inputs\.t: expected a tensor, got list"),
    (_set(torch.zeros(3), "inputs", "t"), r"inputs\.t: expected shape \(2,\), got \(3,\)"),
    (
        _set(torch.zeros(8), "inputs", "node_type"),
        r"node_type: expected whole numbers, got torch.fl",
    ),
    (
        _set(torch.full((8,), 200), "inputs", "node_type"),
        r"inputs\.node_type: expected values from 0 to 166, got 200 to 200",
    ),
    (_set(torch.tensor([0, 9]), "inputs", "ptr"), "batch_ptr: expected non-decreasing starts"),
    (_cross_bond, r"inputs\.bond_index: expected bonds between two atoms of one molecule"),
    (_self_bond, r"inputs\.bond_index: expected bonds between two atoms of one molecule"),
    (_set(3, "inputs"), "inputs: expected a dictionary, got int"),
    (_set("tito-golden-velocity-2", "format"), "format: expected one of tito-golden-velocity-1"),
    (_set("other", "format"), "expected a recording with a format tito-golden-"),
    (_remove("state_dict", "score.4.mlp.mlp.0.bias"), r"velocity\.combine\.0\.bias"),
    (_remove("config", "max_lag"), "config: expected .* without max_lag"),
    (_set("bare", "float64"), "float64: expected a dictionary, got str"),
]


@pytest.mark.parametrize(("change", "match"), VELOCITY_CHANGES)
def test_incomplete_or_wrong_recording_is_refused(tmp_path, change, match):
    recording = tiny.velocity_recording()
    del recording["checkpoint"]
    change(recording)
    torch.save(recording, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=match) as raised:
        replay(tmp_path / "a.pt")
    assert str(tmp_path / "a.pt") in str(raised.value)


def test_dtype_that_is_not_recorded_is_refused(tmp_path):
    recording = tiny.velocity_recording()
    del recording["float32"]
    torch.save(recording, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"dtype: expected one that is recorded \(float64\), got fl"
    ):
        replay(tmp_path / "a.pt", dtype="float32")


def test_batch_numbers_that_fall_are_refused(tmp_path):
    recording = tiny.velocity_recording()
    del recording["inputs"]["ptr"]
    recording["inputs"]["batch"] = recording["inputs"]["batch"].flip(0)
    torch.save(recording, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"inputs\.batch: expected numbers of molecules"):
        replay(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_set(0, "ode_steps"), "ode_steps: expected a whole number above zero, got 0"),
        (_set("3", "ode_steps"), "ode_steps: expected a number, got str"),
        (_set(5, "nested_samples"), "base_samples: expected one for each of 5 transitions, got 3"),
        (_set(4, "ode_steps"), r"equivariant_noise: expected shape \(8, 8, 8, 3\)"),
    ],
)
def test_wrong_sampling_counts_are_refused(tmp_path, change, match):
    recording = tiny.sample_recording()
    change(recording)
    torch.save(recording, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=match):
        replay(tmp_path / "a.pt")


def test_gradient_of_an_unknown_parameter_is_refused(tmp_path):
    recording = tiny.train_recording()
    recording["float64"]["grads"]["score.9.weight"] = torch.zeros(2)
    torch.save(recording, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"score\.9\.weight"):
        replay(tmp_path / "a.pt")
