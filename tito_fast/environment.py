"""What was built, and what runs here."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import get_args

import torch

import tito_fast
from tito_fast import _extension, ops
from tito_fast.models.tito.model import MODEL_BACKENDS
from tito_fast.types import Backend

_PACKAGES = ("torch", "numpy", "mdtraj", "rdkit", "triton", "lightning-fabric")


def info() -> dict[str, dict[str, str]]:
    """Return sections of facts for a bug report: versions, devices, the compiled core, backends by operation.

    Returns
    -------
    dict of str to dict of str to str
        Section, name, value.
    """
    return {
        "versions": _versions(),
        "devices": _devices(),
        "compiled core": {name: str(value) for name, value in _extension.build_info().items()},
        "operations (backend, device)": {
            f"{row.op} ({row.backend}, {row.device})": "runs"
            if row.available
            else f"no: {row.reason}"
            for row in ops.op_table()
        },
        "network": {
            name: "runs" if name in MODEL_BACKENDS else "no: not in this version"
            for name in get_args(Backend)
            if name != "auto"
        },
    }


def _versions() -> dict[str, str]:
    rows = {"tito_fast": tito_fast.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            rows[package] = version(package)
        except PackageNotFoundError:
            rows[package] = "not installed"
    return rows


def _devices() -> dict[str, str]:
    rows = {
        "cpu": f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.get_default_dtype()}"
    }
    rows["cpu capability"] = torch.backends.cpu.get_cpu_capability()
    for index in range(torch.cuda.device_count()):
        rows[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if not torch.cuda.is_available():
        rows["cuda"] = "no device"
    return rows
