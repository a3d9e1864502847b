"""Radius graphs of molecules: native against plain PyTorch and the installed neighbor codes.

Run with ``OMP_NUM_THREADS=1`` and with 2, each with ``OMP_WAIT_POLICY=passive``, on a quiet machine.
The public codes come with the extra ``tito_fast[bench]``; one that is missing is skipped. Each gets
its input in the dtype and container that it works in and is timed for what it returns by itself. Only
ours and the plain PyTorch ones give the edges of the batch in the order of ``edge_index`` with vectors
and distances: vesin and matscipy are called molecule by molecule, and nvalchemi-toolkit-ops returns
indices only, as a list or as a padded matrix, by the algorithm that was fastest on these systems.
"""

import importlib

import numpy as np
import pytest
import torch

from tito_fast._extension import build_info
from tito_fast.ops import radius_graph
from tito_fast.ops.radius_graph.reference import radius_graph_reference

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# The other codes are here for a CPU; python -m benchmarks.gpu_report has those for a GPU.
ON_CUDA = {"native", "reference", "torch dense", "torch cdist"}
CUTOFF_NM = 0.5
ATOMS_PER_NM3 = 100.0
SYSTEMS = {"16 x 70": (16, 70), "64 x 70": (64, 70), "1 x 166": (1, 166), "1 x 5000": (1, 5000)}
MOST_NEIGHBORS = 128


def balls(n_molecules, n_atoms):
    """Return positions, nm: atoms at the density of a peptide, spread evenly over balls."""
    generator = torch.Generator().manual_seed(0)
    radius = (3 * n_atoms / (4 * torch.pi * ATOMS_PER_NM3)) ** (1 / 3)
    direction = torch.randn(n_molecules * n_atoms, 3, generator=generator, dtype=torch.float64)
    distance = radius * torch.rand(len(direction), 1, generator=generator).double() ** (1 / 3)
    return (direction / direction.norm(dim=1, keepdim=True) * distance).float()


def optional(module):
    try:
        return importlib.import_module(module)
    except ImportError:
        pytest.skip(f"{module} is not installed; it comes with the extra tito_fast[bench]")


# Each returns the call to be timed, and what makes (source, receiver, distances or None) of its result.


def ours(backend):
    def make(positions, batch_ptr):
        def call():
            return radius_graph(positions, cutoff=CUTOFF_NM, batch_ptr=batch_ptr, backend=backend)

        return call, lambda graph: (*graph.edge_index, graph.edge_dist)

    return make


def dense(distances):
    """Return the plain PyTorch formulation on (n_molecules, n_atoms, n_atoms)."""

    def make(positions, batch_ptr):
        n_molecules = len(batch_ptr) - 1
        stacked = positions.view(n_molecules, -1, 3)
        n_atoms = stacked.shape[1]

        def call():
            vec = stacked[:, None] - stacked[:, :, None]
            dist = distances(stacked, vec)
            is_edge = dist < CUTOFF_NM
            is_edge.diagonal(dim1=1, dim2=2).fill_(False)
            molecule, receiver, source = is_edge.nonzero(as_tuple=True)
            edge_index = torch.stack((source, receiver)) + molecule * n_atoms
            edge = molecule, receiver, source
            return edge_index, vec[edge], dist[edge]

        return call, lambda result: (*result[0], result[2])

    return make


def of_molecules(results, n_atoms):
    """Join (receiver, source, distances) of equal molecules."""
    starts = range(0, n_atoms * len(results), n_atoms)
    rows = zip(results, starts, strict=True)
    receiver, source = zip(*[(r + start, s + start) for (r, s, _), start in rows], strict=True)
    dist = np.concatenate([row[2] for row in results])
    return np.concatenate(source).astype(int), np.concatenate(receiver).astype(int), dist


def vesin_numpy(positions, batch_ptr):
    vesin = optional("vesin")
    molecules = positions.double().view(len(batch_ptr) - 1, -1, 3).numpy()
    box = np.zeros((3, 3))
    search = vesin.NeighborList(
        cutoff=CUTOFF_NM, full_list=True, sorted=True, n_threads=torch.get_num_threads()
    )

    def call():
        return [search.compute(points, box, False, "ijdD") for points in molecules]

    return call, lambda results: of_molecules([row[:3] for row in results], molecules.shape[1])


def vesin_torch(positions, batch_ptr):
    vesin = optional("vesin_torch")
    molecules = positions.double().view(len(batch_ptr) - 1, -1, 3)
    box, is_periodic = torch.zeros((3, 3), dtype=torch.float64), torch.tensor(False)
    search = vesin.NeighborList(
        cutoff=CUTOFF_NM, full_list=True, sorted=True, n_threads=torch.get_num_threads()
    )

    def call():
        return [search.compute(points, box, is_periodic, "ijdD") for points in molecules]

    return call, lambda results: of_molecules([row[:3] for row in results], molecules.shape[1])


def matscipy(positions, batch_ptr):
    neighbours = optional("matscipy.neighbours")
    molecules = positions.double().view(len(batch_ptr) - 1, -1, 3).numpy()
    # Shrunk to the molecule: empty cells cost this code much.
    low, extent = molecules.min(axis=1) - 1e-3, np.ptp(molecules, axis=1) + 2e-3
    systems = [
        {"positions": points, "cell_origin": corner, "cell": np.diag(sides), "pbc": [False] * 3}
        for points, corner, sides in zip(molecules, low, extent, strict=True)
    ]

    def call():
        return [neighbours.neighbour_list("ijdD", cutoff=CUTOFF_NM, **one) for one in systems]

    return call, lambda results: of_molecules([row[:3] for row in results], molecules.shape[1])


def nvalchemi(returns_list):
    def make(positions, batch_ptr):
        neighbors = optional("nvalchemiops.torch.neighbors")
        options = {"method": "naive", "return_neighbor_list": returns_list}
        options["max_neighbors"] = MOST_NEIGHBORS
        if len(batch_ptr) > 2:
            molecules = torch.arange(len(batch_ptr) - 1, dtype=torch.int32)
            options["batch_idx"] = molecules.repeat_interleave(batch_ptr.diff())
            options["batch_ptr"] = batch_ptr.int()

        def call():
            return neighbors.neighbor_list(positions, CUTOFF_NM, **options)

        def edges(result):
            if returns_list:
                return result[0][1].long(), result[0][0].long(), None
            matrix, n_neighbors = result
            is_edge = torch.arange(matrix.shape[1]) < n_neighbors[:, None]
            return matrix[is_edge].long(), is_edge.nonzero()[:, 0], None

        return call, edges

    return make


def cdist(positions, _vec):
    # The product of matrices that cdist prefers is not accurate enough to decide edges.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(positions, positions, compute_mode=mode)


CODES = {
    "native": ours("native"),
    "reference": ours("reference"),
    "torch dense": dense(lambda _positions, vec: vec.norm(dim=-1)),
    "torch cdist": dense(cdist),
    "vesin": vesin_numpy,
    "vesin_torch": vesin_torch,
    "matscipy": matscipy,
    "nvalchemi list": nvalchemi(returns_list=True),
    "nvalchemi matrix": nvalchemi(returns_list=False),
}


def check_edges(code, found, positions, batch_ptr):
    """Compare the set of edges and their distances with the reference."""
    source, receiver, dist = (None if part is None else torch.as_tensor(part) for part in found)
    in_double = dist is not None and dist.dtype == torch.float64
    exact = positions.double() if in_double else positions
    edge_index, _, _, edge_dist, *_ = radius_graph_reference(exact, batch_ptr, None, CUTOFF_NM)
    order = (receiver * len(positions) + source).argsort()
    assert torch.equal(torch.stack((source, receiver))[:, order].long(), edge_index), code
    if dist is not None:
        assert (dist[order] - edge_dist).abs().max() <= 1e-6 * CUTOFF_NM
    if code == "native":
        assert torch.equal(dist, edge_dist)
    return edge_index.shape[1]


# The public codes and what they import may warn of anything.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", SYSTEMS)
def test_radius_graph(benchmark, name, code, device):
    if device == "cuda" and code not in ON_CUDA:
        pytest.skip(f"{code} is timed on a CPU here")
    n_molecules, n_atoms = SYSTEMS[name]
    positions = balls(n_molecules, n_atoms).to(device)
    batch_ptr = torch.arange(0, n_molecules * n_atoms + 1, n_atoms, device=device)
    call, edges = CODES[code](positions, batch_ptr)

    def target():
        result = call()
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    result = benchmark(target)
    n_edges = check_edges(code, edges(result), positions, batch_ptr)
    benchmark.extra_info.update(
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        dtype="float32" if code not in {"vesin", "vesin_torch", "matscipy"} else "float64",
        threads=torch.get_num_threads(),
        isa=build_info()["isa"],
        cutoff_nm=CUTOFF_NM,
        n_atoms=n_molecules * n_atoms,
        n_edges=n_edges,
    )
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_edge"] = round(benchmark.stats.stats.min / n_edges * 1e9, 2)
