import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import op_table
from tito_fast.ops.resolve import resolve_backend

OPS = [
    "center",
    "edge_embed",
    "edge_geometry",
    "mlp",
    "ode_step",
    "ot_couple",
    "painn_message",
    "painn_update",
    "philox_normal",
    "radius_graph",
    "readout_step",
    "time_embed",
]
CPU = torch.device("cpu")


@pytest.mark.parametrize("op", sorted(set(OPS) - {"edge_geometry"}))
def test_names_mean_what_the_documentation_says(op):
    assert resolve_backend(op, "auto", CPU) == "native"
    assert resolve_backend(op, "native", CPU) == "native"
    assert resolve_backend(op, "reference", CPU) == "reference"
    assert resolve_backend(op, "eager", CPU) == "reference"


@pytest.mark.parametrize("op", sorted(set(OPS) - {"center", "ode_step"}))
def test_no_cuda_kernel_is_an_error_by_name_and_the_reference_by_auto(op):
    device = torch.device("cuda")
    assert resolve_backend(op, "auto", device) == "reference"
    with pytest.raises(BackendUnavailableError, match=f"{op} has no native kernel for cuda"):
        resolve_backend(op, "native", device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_cuda_kernel_without_a_device_gives_the_reason():
    with pytest.raises(BackendUnavailableError, match=r"no CUDA device|has no CUDA kernels"):
        resolve_backend("ode_step", "native", torch.device("cuda"))


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
    runs = {
        row.op
        for row in rows
        if (row.backend, row.device, row.available) == ("native", "cpu", True)
    }
    assert runs == set(OPS) - {"edge_geometry"}
