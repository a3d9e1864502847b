"""Radius graphs on a GPU: the CUDA kernels against plain PyTorch, Triton and the neighbor codes that are installed.

Every code is timed for what it returns by itself. Ours and the plain PyTorch one return the edges of the batch in the
order of ``edge_index`` with vectors and distances; torch_cluster and nvalchemi-toolkit-ops return indices only (and
shifts in a box), the latter as a list or as a padded matrix. Ours and the reference are held bit by bit to the graph
that the CPU makes, the others to its set of edges, but for pairs at the cutoff up to rounding.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu_report_cases import Absent, Case, Check, Lab, Result
from tito_fast.ops import radius_graph
from tito_fast.ops.radius_graph.api import RadiusGraph

CUTOFF_NM = 0.5
ATOMS_PER_NM3 = 100.0
MOST_NEIGHBORS = 128
MOST_DENSE_PAIRS = 3 * 10**8
IMAGES_OF_BOX = 27
# Of the cutoff: pairs this close to it, and distances, may be rounded either way by other codes.
ROUNDING = 1e-6


@dataclass(frozen=True)
class System:
    """Molecules as balls of random atoms at the density of a peptide, or a periodic cube of them."""

    name: str
    sizes: tuple[int, ...]
    is_periodic: bool = False

    @property
    def n_pairs(self) -> int:
        """Entries of a dense formulation, molecules padded to the largest, in a box with its neighbors."""
        n_images = IMAGES_OF_BOX if self.is_periodic else 1
        return len(self.sizes) * max(self.sizes) ** 2 * n_images


def drug_like(n_molecules: int) -> tuple[int, ...]:
    """Return numbers of atoms, 20 to 70, hydrogens included."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randint(20, 71, (n_molecules,), generator=generator).tolist())


SYSTEMS = (
    System("64 x 64", (64,) * 64),
    System("64 drug-like", drug_like(64)),
    System("64 x 512", (512,) * 64),
    System("1 x 16384", (16384,)),
    System("1 x 3000, periodic", (3000,), is_periodic=True),
)
QUICK_SYSTEMS = (
    System("2 x 9", (9, 9)),
    System("3 uneven", (5, 1, 12)),
    System("1 x 150, periodic", (150,), is_periodic=True),
)


class Inputs(NamedTuple):
    """What a code gets; ``starts`` is the batch_ptr on the host, ``side`` that of the cube or 0."""

    positions: Tensor
    batch_ptr: Tensor
    box: Tensor | None
    starts: Tensor
    side: float

    def on(self, device: torch.device) -> "Inputs":
        box = None if self.box is None else self.box.to(device)
        return self._replace(
            positions=self.positions.to(device), batch_ptr=self.batch_ptr.to(device), box=box
        )


def inputs_of(system: System) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor(system.sizes)
    starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    n_atoms = int(starts[-1])
    if system.is_periodic:
        side = (n_atoms / ATOMS_PER_NM3) ** (1 / 3)
        positions = side * torch.rand(n_atoms, 3, generator=generator)
        return Inputs(positions, starts, side * torch.eye(3), starts, side)
    radius = (3 * sizes / (4 * torch.pi * ATOMS_PER_NM3)) ** (1 / 3)
    direction = torch.randn(n_atoms, 3, generator=generator)
    distance = torch.rand(n_atoms, 1, generator=generator) ** (1 / 3)
    distance *= radius.repeat_interleave(sizes)[:, None]
    return Inputs(
        direction / direction.norm(dim=1, keepdim=True) * distance, starts, None, starts, 0.0
    )


class Edges(NamedTuple):
    source: Tensor
    receiver: Tensor
    dist: Tensor | None


Prepared = tuple[Callable[[], Any], Callable[[Any], Any]]


# Each returns the call to be timed, and what makes of its result a RadiusGraph or Edges.


def ours(backend: str, inputs: Inputs, capacity: int | None = None) -> Prepared:
    def call() -> RadiusGraph:
        positions, batch_ptr, box, _, _ = inputs
        options: dict[str, Any] = {"cutoff": CUTOFF_NM, "batch_ptr": batch_ptr, "box": box}
        return radius_graph(positions, **options, capacity=capacity, backend=backend)

    return call, lambda graph: graph


def dense(inputs: Inputs) -> Prepared:
    """Plain PyTorch on (n_molecules, n_most, n_most); padding is made before."""
    positions, batch_ptr, _, starts, side = inputs
    sizes = starts.diff().tolist()
    parts = positions.split(sizes)
    stacked = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
    is_atom = torch.arange(stacked.shape[1], device=positions.device) < batch_ptr.diff()[:, None]
    is_pair = is_atom[:, None] & is_atom[:, :, None]
    is_pair.diagonal(dim1=1, dim2=2).fill_(False)

    def call() -> Any:
        vec = stacked[:, None] - stacked[:, :, None]
        if side:
            vec = vec - side * torch.round(vec / side)
        dist = vec.norm(dim=-1)
        edge = ((dist < CUTOFF_NM) & is_pair).nonzero(as_tuple=True)
        molecule, receiver, source = edge
        edge_index = torch.stack((source, receiver)) + batch_ptr[molecule]
        return edge_index, vec[edge], dist[edge]

    return call, lambda result: Edges(*result[0], result[2])


def optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Absent(f"{module} is not installed") from error


def torch_cluster(inputs: Inputs) -> Prepared:
    cluster = optional("torch_cluster")
    positions, batch_ptr, _, _, _ = inputs
    molecules = torch.arange(len(batch_ptr) - 1, device=positions.device)
    batch = molecules.repeat_interleave(batch_ptr.diff())

    def call() -> Tensor:
        return cluster.radius_graph(
            positions, CUTOFF_NM, batch=batch, loop=False, max_num_neighbors=MOST_NEIGHBORS
        )

    return call, lambda edge_index: Edges(edge_index[0], edge_index[1], None)


def nvalchemi(inputs: Inputs, *, returns_list: bool) -> Prepared:
    neighbors = optional("nvalchemiops.torch.neighbors")
    positions, batch_ptr, box, starts, _ = inputs
    options: dict[str, Any] = {
        "max_neighbors": MOST_NEIGHBORS,
        "return_neighbor_list": returns_list,
    }
    if len(starts) > 2:
        molecules = torch.arange(len(starts) - 1, dtype=torch.int32, device=positions.device)
        options["batch_idx"] = molecules.repeat_interleave(batch_ptr.diff())
        options["batch_ptr"] = batch_ptr.int()
    options["method"] = "naive" if int(starts.diff().max()) <= 512 else "cell_list"
    if box is not None:
        is_periodic = torch.ones(1, 3, dtype=torch.bool, device=positions.device)
        options |= {"cell": box[None], "pbc": is_periodic}
    elif options["method"] == "cell_list":
        # It wants a cell even where nothing is periodic.
        low, high = positions.amin(0), positions.amax(0)
        positions = positions - low
        not_periodic = torch.zeros(1, 3, dtype=torch.bool, device=positions.device)
        options |= {"cell": torch.diag(high - low)[None], "pbc": not_periodic}

    def call() -> Any:
        return neighbors.neighbor_list(positions, CUTOFF_NM, **options)

    def edges(result: Any) -> Edges:
        if returns_list:
            return Edges(result[0][1].long(), result[0][0].long(), None)
        matrix, n_neighbors = result[:2]
        is_edge = torch.arange(matrix.shape[1], device=matrix.device) < n_neighbors[:, None]
        return Edges(matrix[is_edge].long(), is_edge.nonzero()[:, 0], None)

    return call, edges


CODES: dict[str, Callable[[Inputs], Prepared]] = {
    "native": partial(ours, "native"),
    "triton": partial(ours, "triton"),
    "reference": partial(ours, "reference"),
    "torch dense": dense,
    "torch_cluster": torch_cluster,
    "nvalchemi list": partial(nvalchemi, returns_list=True),
    "nvalchemi matrix": partial(nvalchemi, returns_list=False),
}
WITH_CAPACITY = "native, capacity"
OPEN_ONLY = ("triton", "torch_cluster")
DENSE = ("torch dense", "reference")


def check_graph(found: RadiusGraph, expected: RadiusGraph) -> list[Check]:
    """Compare bit by bit, up to the number of edges; what fills up is no edge."""
    found.check()
    n_edges = expected.edge_dist.shape[0]
    n_different = 0
    for name in ("edge_index", "edge_ptr", "edge_vec", "edge_dist", "shifts"):
        one, other = getattr(found, name).cpu(), getattr(expected, name)
        if name != "edge_ptr":
            one = one[:, :n_edges] if name == "edge_index" else one[:n_edges]
        n_different += int((one != other).sum()) if one.shape == other.shape else other.numel()
    return [Check("values that are not the CPU's bits", n_different, 0)]


def check_edges(found: Edges, expected: RadiusGraph, inputs: Inputs) -> list[Check]:
    """Compare the sets of edges, but for pairs at the cutoff, and the distances where there are any."""
    positions, side = inputs.positions.double(), inputs.side
    n_atoms = positions.shape[0]
    source, receiver = found.source.cpu(), found.receiver.cpu()
    keys, order = (receiver * n_atoms + source).sort()
    source_is, receiver_is = expected.edge_index
    true_keys = receiver_is * n_atoms + source_is
    odd = torch.cat([keys[~torch.isin(keys, true_keys)], true_keys[~torch.isin(true_keys, keys)]])
    vec = positions[odd % n_atoms] - positions[odd // n_atoms]
    if side:
        vec -= side * torch.round(vec / side)
    n_wrong = int(((vec.norm(dim=1) - CUTOFF_NM).abs() > ROUNDING * CUTOFF_NM).sum())
    n_wrong += keys.numel() - keys.unique().numel()
    checks = [Check("edges that are wrong", n_wrong, 0)]
    if found.dist is not None and torch.equal(keys, true_keys):
        error = (found.dist.cpu()[order] - expected.edge_dist).abs().max() / CUTOFF_NM
        checks.append(Check("error of distances over the cutoff", float(error), ROUNDING))
    return checks


@dataclass(frozen=True)
class GraphRun:
    """One code on one system: time it, check it."""

    system: System
    code: str
    prepare: Callable[..., Prepared] = field(repr=False)

    def __call__(self, lab: Lab) -> Result:
        if self.system.is_periodic and self.code in OPEN_ONLY:
            raise Absent(f"{self.code} takes no box")
        if self.code in DENSE and self.system.n_pairs > MOST_DENSE_PAIRS:
            raise Absent(f"{self.system.n_pairs} pairs are too many")
        inputs = inputs_of(self.system)
        expected = lab.keep(("graph", self.system.name), ours("auto", inputs)[0])
        n_edges = expected.edge_dist.shape[0]
        prepare = self.prepare
        if self.code == WITH_CAPACITY:
            prepare = partial(prepare, capacity=n_edges + n_edges // 8)
        call, edges = prepare(inputs.on(lab.device))
        # All others wait for the device to learn how many edges there are.
        timing = lab.clock.time([call], can_capture=self.code == WITH_CAPACITY)
        found = edges(call())
        is_ours = isinstance(found, RadiusGraph)
        checks = check_graph(found, expected) if is_ours else check_edges(found, expected, inputs)
        figures = timing.figures() | {"n_edges": n_edges}
        return Result(figures | {"ns_per_edge": 1e9 * timing.median_s / max(n_edges, 1)}, checks)


def graph_cases(lab: Lab) -> Iterator[Case]:
    """Yield all codes on all systems."""
    codes = {WITH_CAPACITY: CODES["native"], **CODES}
    for rank, system in enumerate(QUICK_SYSTEMS if lab.is_quick else SYSTEMS):
        for code, prepare in codes.items():
            is_first = rank < 2 and code.startswith("native")
            yield Case(
                name=f"radius_graph {system.name} {code}",
                kind="kernel",
                about={"op": "radius_graph", "conditions": system.name, "code": code},
                importance=2 if is_first else 4 + rank,
                seconds=5.0,
                run=GraphRun(system, code, prepare),
            )
