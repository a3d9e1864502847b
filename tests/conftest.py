"""Fixtures that several folders share."""

import contextlib
import importlib.util
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

# Before any kernel is defined: without a GPU they are interpreted on CPU tensors.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.molecule import Molecule


def pytest_collection_modifyitems(items):
    """Skip GPU tests, visibly, where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


def random_molecule(n_atoms, *, seed=0, name=None):
    """Return a chain molecule with a few branches, elements and bond types drawn from ``seed``."""
    rng = np.random.default_rng(seed)
    parents = [max(0, atom - int(rng.integers(1, 3))) for atom in range(1, n_atoms)]
    one_way = np.array([[parent, atom + 1] for atom, parent in enumerate(parents)], dtype=np.int64)
    one_way = one_way.reshape(-1, 2)
    kinds = rng.choice([1, 2, 3, 12], size=len(one_way))
    return Molecule(
        name=name or f"random{n_atoms}-{seed}",
        atomic_numbers=rng.choice([1, 6, 7, 8, 9], size=n_atoms),
        bond_index=np.concatenate([one_way, one_way[:, ::-1]]).T.copy(),
        bond_type=np.concatenate([kinds, kinds]),
        positions=0.2 * rng.standard_normal((n_atoms, 3)),
        atom_names=tuple(f"X{atom}" for atom in range(n_atoms)),
        residue_names=("MOL",) * n_atoms,
        residue_numbers=(1,) * n_atoms,
        chain_ids=("A",) * n_atoms,
        formal_charges=(0,) * n_atoms,
    )


@pytest.fixture(scope="session")
def triton_device():
    """Where Triton kernels run here: compiled on a GPU, or interpreted on the CPU."""
    pytest.importorskip("triton", reason="Triton is not installed; it exists for Linux only")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def make_molecule():
    return random_molecule


@pytest.fixture
def make_batch():
    def make(*sizes, seed=0):
        return MoleculeBatch.from_molecules(
            [random_molecule(size, seed=seed + index) for index, size in enumerate(sizes)]
        )

    return make


def load_fixture(*path):
    path = Path(__file__).parent.joinpath("fixtures", *path)
    spec = importlib.util.spec_from_file_location(f"{path.stem}_fixture", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def released():
    """The module that writes tiny released checkpoints."""
    return load_fixture("checkpoints", "released.py")


@pytest.fixture(scope="session")
def host_cuda_path(tmp_path_factory):
    """The module of the CUDA kernels compiled for the host; one build for all processes of a test run."""
    host = load_fixture("host_cuda.py")
    given = os.environ.get("TITO_FAST_HOST_CUDA")
    if given:
        return Path(given)
    if host.COMPILER is None:
        pytest.skip("needs a C++ compiler, and none is on PATH")
    folder = tmp_path_factory.getbasetemp()
    # Processes of one run have folders of their own beside each other.
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "host_cuda"
    folder.mkdir(exist_ok=True)
    return host.build(folder)


@pytest.fixture(scope="session")
def host_cuda_module(host_cuda_path):
    """The CUDA kernels, to be called from Python with addresses of host memory."""
    return load_fixture("host_cuda.py").load(host_cuda_path)


@pytest.fixture
def host_cuda(host_cuda_module, monkeypatch):
    """Native ops treat CPU tensors as CUDA tensors, and their kernels run on the host."""
    monkeypatch.setattr("tito_fast.ops.cuda_call.native_module", lambda: host_cuda_module)
    monkeypatch.setattr("tito_fast.ops.cuda_call._place", lambda _on: (0, 0))
    monkeypatch.setattr("tito_fast.ops.cuda_call._is_cuda", lambda _tensor: True)
    host_cuda_module.set_seed(0)
    host_cuda_module.take_log()
    return host_cuda_module


@pytest.fixture
def ckpt(released, tmp_path):
    """A released checkpoint with F = 8, 1 + 2 layers."""
    content = released.lightning_content(released.released_module(released.CONFIG))
    return released.write_released(tmp_path / "tiny.ckpt", content)


@pytest.fixture
def file_size_limit():
    """A context in which no file grows beyond a size, as on a full disk.

    It ends inside the test: the runner's own output may be a file, too.
    """

    @contextlib.contextmanager
    def limit(n_bytes):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture
def cuda_device(request):
    """Where the CUDA kernels run here: on a GPU, or on the host with CPU tensors."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    request.getfixturevalue("host_cuda")
    return torch.device("cpu")
