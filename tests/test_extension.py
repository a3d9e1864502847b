import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from tito_fast import _extension
from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import cuda_call, ode_step
from tito_fast.ops.cuda_call import cuda_function

LOADER_MESSAGE = "libmissing.so: cannot open shared object file"


@pytest.fixture
def broken_extension(monkeypatch):
    def fail(name):
        assert name == "tito_fast._C"
        raise ImportError(LOADER_MESSAGE)

    monkeypatch.setattr(importlib, "import_module", fail)
    _extension._load.cache_clear()
    _extension.native_cuda_problem.cache_clear()
    yield
    monkeypatch.undo()
    _extension._load.cache_clear()
    _extension.native_cuda_problem.cache_clear()


def test_build_info_says_what_was_built():
    info = _extension.build_info()
    assert info["compiler"]
    assert info["baseline"] in {"x86-64-v2", "armv8-a", "baseline"}
    names = ["baseline", "avx2", "avx512", "avx512bf16"]
    assert names.index(info["isa"]) <= names.index(info["best_isa"])
    cuda_details = [info[f"cuda_{key}"] for key in ("version", "architectures", "oldest_driver")]
    assert all((detail is not None) == info["cuda"] for detail in cuda_details)


def test_missing_extension_gives_the_loaders_reason(broken_extension):
    with pytest.raises(BackendUnavailableError, match=LOADER_MESSAGE):
        _extension.native_module()
    assert LOADER_MESSAGE in _extension.native_cpu_problem()
    assert LOADER_MESSAGE in _extension.native_cuda_problem()


def test_without_the_extension_native_raises_and_auto_runs(broken_extension):
    positions = torch.ones(2, 3)
    step = {"weights": [1.0], "step_size": 1.0, "batch_ptr": torch.tensor([0, 2])}
    with pytest.raises(BackendUnavailableError, match=LOADER_MESSAGE):
        ode_step(positions, positions[None], **step, backend="native")
    assert torch.equal(ode_step(positions, positions[None], **step), torch.zeros(2, 3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("name", ["ode_step_fwd_cuda_float32", "ode_step_bwd_cuda_float64"])
def test_cuda_functions_say_why_they_cannot_run(name):
    if not _extension.build_info()["cuda"]:
        pytest.skip("this build has no CUDA kernels")
    call = cuda_function(name)
    with pytest.raises(RuntimeError, match="no CUDA device can be used"):
        call(0, 0, 0, 0, 1, 1, [1.0], True, 0, 0)


def test_a_build_without_cuda_says_so(monkeypatch):
    module = SimpleNamespace(cuda_unavailable_reason=lambda: "this build has no CUDA kernels")
    monkeypatch.setattr(cuda_call, "native_module", lambda: module)
    monkeypatch.setattr(cuda_call, "native_cuda_problem", module.cuda_unavailable_reason)
    with pytest.raises(BackendUnavailableError, match=r"ode_step_fwd.*: this build has no CUDA"):
        cuda_function("ode_step_fwd_cuda_float32")


def test_too_many_stages_are_refused_by_the_binary():
    call = _extension.native_module().ode_step_fwd_cpu_float32
    with pytest.raises(ValueError, match="weights: expected at most 8 stages, got 9"):
        call(0, 0, 0, 0, 0, 0, [1.0] * 9, True, 1)


def test_an_instruction_set_can_be_forced_and_an_unknown_one_is_refused():
    def run(name):
        code = "from tito_fast._extension import build_info; print(build_info()['isa'])"
        return subprocess.run(  # noqa: S603, own interpreter
            [sys.executable, "-P", "-c", code],
            env=os.environ | {"TITO_FAST_ISA": name},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("baseline").stdout.strip() == "baseline"
    assert "TITO_FAST_ISA: expected baseline, avx2" in run("avx1024").stderr
