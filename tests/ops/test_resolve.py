import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import op_table, resolve
from tito_fast.ops.resolve import resolve_backend

OPS = [
    "center",
    "edge_embed",
    "edge_geometry",
    "embedded_ode_step",
    "mlp",
    "noisy_ode_step",
    "ode_step",
    "ot_couple",
    "painn_message",
    "painn_update",
    "philox_normal",
    "radius_graph",
    "readout_step",
    "time_embed",
]
NO_NATIVE = "edge_geometry"
NO_TRITON = ["embedded_ode_step", "noisy_ode_step", "ot_couple"]
CUDA_KERNELS = [
    "center",
    "embedded_ode_step",
    "noisy_ode_step",
    "ode_step",
    "ot_couple",
    "philox_normal",
    "radius_graph",
]
CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets what this machine has, whatever it has.

    ``triton`` is one of: ``""`` (not installed), ``"interpreted"`` (on CPU tensors) and ``"cuda"``.
    """

    def have(*, triton, native_cuda=""):
        runs_on = {"interpreted": "cpu", "cuda": "cuda"}.get(triton)
        monkeypatch.setattr(
            resolve,
            "triton_problem",
            lambda device_type: "" if device_type == runs_on else "no Triton for such tensors",
        )
        monkeypatch.setattr(resolve, "native_cpu_problem", lambda: "")
        monkeypatch.setattr(resolve, "native_cuda_problem", lambda: native_cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: triton == "cuda" or not native_cuda)

    return have


@pytest.mark.parametrize("triton", ["", "interpreted", "cuda"])
@pytest.mark.parametrize("op", sorted(set(OPS) - {NO_NATIVE}))
def test_names_mean_on_the_cpu_what_the_documentation_says(machine, op, triton):
    machine(triton=triton)
    # Interpreted kernels are for tests: only their name gives them.
    assert resolve_backend(op, "auto", CPU) == "native"
    assert resolve_backend(op, "native", CPU) == "native"
    assert resolve_backend(op, "reference", CPU) == "reference"
    assert resolve_backend(op, "eager", CPU) == "reference"


@pytest.mark.parametrize("triton", ["", "interpreted", "cuda"])
def test_auto_on_the_cpu_is_the_reference_where_nothing_is_compiled(machine, monkeypatch, triton):
    machine(triton=triton)
    assert resolve_backend(NO_NATIVE, "auto", CPU) == "reference"
    monkeypatch.setattr(resolve, "native_cpu_problem", lambda: "not built")
    assert resolve_backend("mlp", "auto", CPU) == "reference"
    with pytest.raises(BackendUnavailableError, match="backend='native': not built"):
        resolve_backend("mlp", "native", CPU)


@pytest.mark.parametrize("op", sorted(set(OPS) - set(CUDA_KERNELS)))
def test_no_native_cuda_kernel_is_an_error_by_name(machine, op):
    machine(triton="cuda")
    with pytest.raises(BackendUnavailableError, match=f"{op} has no native kernel for cuda"):
        resolve_backend(op, "native", CUDA)


@pytest.mark.parametrize("op", sorted(set(OPS) - set(NO_TRITON)))
def test_auto_on_a_gpu_is_native_else_triton_else_the_reference(machine, op):
    for triton, native_cuda, expected in [
        ("cuda", "", "native" if op in CUDA_KERNELS else "triton"),
        ("cuda", "not built", "triton"),
        ("", "", "native" if op in CUDA_KERNELS else "reference"),
        ("", "not built", "reference"),
        ("interpreted", "not built", "reference"),
    ]:
        machine(triton=triton, native_cuda=native_cuda)
        assert resolve_backend(op, "auto", CUDA) == expected
        assert resolve_backend(op, "reference", CUDA) == "reference"


@pytest.mark.parametrize("op", sorted(set(OPS) - set(NO_TRITON)))
@pytest.mark.parametrize(("triton", "device"), [("interpreted", CPU), ("cuda", CUDA)])
def test_triton_by_name_runs_or_says_why_not(machine, op, triton, device):
    machine(triton=triton)
    assert resolve_backend(op, "triton", device) == "triton"
    machine(triton="")
    with pytest.raises(BackendUnavailableError, match="backend='triton': no Triton for such"):
        resolve_backend(op, "triton", device)


@pytest.mark.parametrize("op", sorted(set(OPS) - {*NO_TRITON, *CUDA_KERNELS}))
def test_arguments_that_triton_does_not_take_are_an_error_by_name_and_the_reference_by_auto(
    machine, op
):
    machine(triton="cuda")
    limit = "expected 32, 64, 128 features, got 7"
    assert resolve_backend(op, "auto", CUDA, triton_limit=limit) == "reference"
    with pytest.raises(BackendUnavailableError, match=f"backend='triton': {limit}"):
        resolve_backend(op, "triton", CUDA, triton_limit=limit)


@pytest.mark.parametrize("op", NO_TRITON)
def test_auto_without_a_triton_kernel_is_native_else_the_reference_on_a_gpu(machine, op):
    machine(triton="cuda", native_cuda="not built")
    assert resolve_backend(op, "auto", CUDA) == "reference"
    machine(triton="cuda")
    assert resolve_backend(op, "auto", CUDA) == "native"


def test_a_cuda_kernel_that_cannot_run_gives_the_reason(machine):
    machine(triton="cuda", native_cuda="no CUDA device")
    with pytest.raises(BackendUnavailableError, match="backend='native': no CUDA device"):
        resolve_backend("ode_step", "native", CUDA)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_device_the_reason_is_that_there_is_none():
    with pytest.raises(BackendUnavailableError, match=r"no CUDA device|has no CUDA kernels"):
        resolve_backend("ode_step", "native", CUDA)
    with pytest.raises(BackendUnavailableError, match=r"no CUDA device|Triton is not installed"):
        resolve_backend("ode_step", "triton", CUDA)


def test_unknown_and_missing_backends_are_refused():
    with pytest.raises(ValueError, match=r"backend: expected one of auto, .* got 'fast'"):
        resolve_backend("center", "fast", CPU)
    with pytest.raises(BackendUnavailableError, match="ot_couple has no Triton kernel"):
        resolve_backend("ot_couple", "triton", CPU)


def test_table_has_each_op_backend_and_device_once_and_a_reason_for_each_no():
    rows = op_table()
    keys = [(row.op, row.backend, row.device) for row in rows]
    assert len(set(keys)) == len(keys) == len(OPS) * 4 * 2
    assert all(row.available == (row.reason == "") for row in rows)
    # Built with the package, whatever the machine.
    runs = {
        row.op for row in rows if (row.backend, row.device) == ("native", "cpu") and row.available
    }
    assert runs == set(OPS) - {NO_NATIVE}


def test_table_says_what_runs_on_a_machine(machine):
    def runs(backend, device):
        return {
            row.op
            for row in op_table()
            if (row.backend, row.device, row.available) == (backend, device, True)
        }

    machine(triton="cuda")
    assert runs("native", "cpu") == set(OPS) - {NO_NATIVE}
    assert runs("native", "cuda") == set(CUDA_KERNELS)
    assert runs("triton", "cuda") == set(OPS) - set(NO_TRITON)
    assert runs("triton", "cpu") == set()
    assert runs("reference", "cuda") == runs("eager", "cpu") == set(OPS)
    machine(triton="interpreted", native_cuda="not built")
    assert runs("triton", "cpu") == set(OPS) - set(NO_TRITON)
    assert runs("native", "cuda") == runs("triton", "cuda") == runs("reference", "cuda") == set()
