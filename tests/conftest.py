"""Fixtures that several folders share."""

import contextlib
import functools
import importlib.util
import inspect
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
    """Run slow files first, so that no process is left with them; skip GPU tests, visibly, where there is no GPU."""
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)
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
    if torch.cuda.is_available():
        return torch.device("cuda")
    quicken_interpreter()
    return torch.device("cpu")


def quicken_interpreter():
    """Let Triton's interpreter list the functions of its language once.

    At every call of a helper it lists them all again to find those that it has still to replace, which
    is a third of the time of interpreted tests. Here it looks at the same ones, by their names.
    """
    from triton.language.core import is_builtin  # noqa: PLC0415  Triton is optional
    from triton.runtime import interpreter  # noqa: PLC0415  as above

    @functools.cache
    def names_of(package):
        return [name for name, member in inspect.getmembers(package) if is_builtin(member)]

    def patch_builtin(package, builder, scope):
        for name in names_of(package):
            member = getattr(package, name)
            if is_builtin(member):
                interpreter._patch_attr(package, name, member, builder, scope)

    interpreter._patch_builtin = patch_builtin


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


ROTAMERS = np.radians([-60.0, 60.0, 180.0])


@pytest.fixture(scope="session")
def propanol():
    """CCCO with its hydrogens: one rotatable bond."""
    from tito_fast.data.readers import from_smiles  # noqa: PLC0415  imports RDKit

    return from_smiles("CCCO")


@pytest.fixture(scope="session")
def rotamer_walk():
    """Frames of a molecule whose rotatable torsions jump between three rotamers and tremble.

    Of equal populations p, every jump a frame apart goes to rotamer j with ``rate`` p_j, so that the one
    time scale of the chain is -1 / ln(1 - rate) frames.
    """
    from tito_fast.data.torsions import (  # noqa: PLC0415  beside the others
        rotatable_torsions,
        torsion_angles,
    )

    def walk(molecule, n_frames, *, populations=(0.5, 0.3, 0.2), rate=0.05, seed=0, every=1):
        rng = np.random.default_rng(seed)
        keep = (1 - rate) ** every
        frames = np.repeat(molecule.positions[None], n_frames, axis=0)
        for torsion in rotatable_torsions(molecule):
            states = rng.choice(3, size=n_frames, p=populations)
            is_same = rng.random(n_frames) < keep
            for frame in np.flatnonzero(is_same[1:]) + 1:
                states[frame] = states[frame - 1]
            wanted = ROTAMERS[states] + np.radians(10) * rng.standard_normal(n_frames)
            turn = wanted - torsion_angles(frames, torsion[None])[:, 0]
            frames = turned(molecule, frames, torsion, turn)
        return frames + 0.001 * rng.standard_normal(frames.shape)

    return walk


def turned(molecule, frames, torsion, turn):
    """Return frames with all beyond the bond b-c turned about it."""
    _, b, c, _ = torsion.tolist()
    beyond, waiting = {c}, [c]
    while waiting:
        atom = waiting.pop()
        for other in molecule.bond_index[1][molecule.bond_index[0] == atom].tolist():
            if other not in beyond and other != b:
                beyond.add(other)
                waiting.append(other)
    moved = sorted(beyond)
    axis = frames[:, c] - frames[:, b]
    axis = (axis / np.linalg.norm(axis, axis=1, keepdims=True))[:, None]
    arms = frames[:, moved] - frames[:, [c]]
    cosine, sine = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    along = (arms * axis).sum(-1, keepdims=True) * axis
    result = frames.copy()
    result[:, moved] = (
        frames[:, [c]]
        + along
        + cosine * (arms - along)
        + sine * np.cross(np.broadcast_to(axis, arms.shape), arms)
    )
    return result


@pytest.fixture(scope="session")
def write_rollout():
    """Write the directory that sampling would leave, with given frames of each replica."""
    from tito_fast.rollout.rollout_directory import RolloutDirectory  # noqa: PLC0415  imports torch

    def write(
        path,
        molecule,
        replicas,
        *,
        lags_ps=(10.0,),
        kind="xtc",
        directory=RolloutDirectory,
        left_out=(),
    ):
        n_steps = max(1, max(map(len, replicas)) - 1)
        settings = {"lag_times_ps": list(lags_ps), "format": kind, "seed": 3, "model": "tiny"}
        with directory.open(
            path, settings, molecule=molecule, n_steps=n_steps, n_replicas=len(replicas)
        ) as run:
            for replica, frames in enumerate(replicas):
                writer = run.open_writer(replica, token=0)
                kept = np.setdiff1d(np.arange(len(frames)), left_out)
                times = _times(lags_ps, len(frames))
                writer.append(frames[kept].astype(np.float32), times[kept])
                writer.close()
        return path

    return write


def _times(lags_ps, n_frames):
    from tito_fast.data.run_directory import cumulative_times_ps  # noqa: PLC0415  beside the others

    return cumulative_times_ps(list(lags_ps), n_frames - 1)


@pytest.fixture(scope="session")
def write_trajectory():
    """Write topology.pdb, molecule.sdf and trajectory.xtc into a folder."""
    import mdtraj  # noqa: PLC0415  slow to import
    from rdkit import Chem  # noqa: PLC0415  slow to import

    from tito_fast.data.stereo import mol_with_stereo  # noqa: PLC0415  imports RDKit
    from tito_fast.data.topology import to_mdtraj_topology, write_pdb  # noqa: PLC0415  as above

    def write(folder, molecule, *trajectories, interval_ps=1.0, suffix=".xtc", times=None):
        folder.mkdir(parents=True, exist_ok=True)
        write_pdb(molecule, folder / "topology.pdb")
        (folder / "molecule.sdf").write_text(Chem.MolToMolBlock(mol_with_stereo(molecule)))
        files = []
        for index, frames in enumerate(trajectories):
            stamps = interval_ps * np.arange(1, len(frames) + 1) if times is None else times
            number = "" if len(trajectories) == 1 else f"_{index}"
            files.append(folder / f"trajectory{number}{suffix}")
            mdtraj.Trajectory(frames, to_mdtraj_topology(molecule), time=stamps).save(
                str(files[-1])
            )
        return folder

    return write
