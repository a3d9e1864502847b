"""Molecules at fixed addresses, and CUDA graphs of what is computed on them."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from tito_fast.models.tito.op_network import Graph, Kernels
from tito_fast.ops import MessageGraph

_N_WARM_UP = 2


class StaticShape(NamedTuple):
    """Sizes of tensors that hold any molecules which need no more."""

    n_atoms: int
    n_edges: int
    n_molecules: int

    @classmethod
    def of(cls, graph: Graph) -> Self:
        """Return the shape that ``graph`` runs in, each size rounded up by an eighth at most."""
        message = graph.message
        # One molecule more: it holds the atoms that fill up.
        sizes = (message.n_atoms, message.source.shape[0], message.batch_ptr.shape[0])
        return cls(*(rounded_up(size) for size in sizes))


def rounded_up(size: int) -> int:
    """Return a size at least as large with four leading bits, and a multiple of eight.

    Examples
    --------
    >>> rounded_up(1), rounded_up(100), rounded_up(20480), rounded_up(20481)
    (8, 104, 20480, 22528)
    """
    unit = max(8, 1 << max(size.bit_length() - 4, 0))
    return -(-size // unit) * unit


class StaticGraph:
    """A graph whose tensors stay where they are while molecules come and go.

    Parameters
    ----------
    shape : StaticShape
    kernels : Kernels
    device : torch.device
    """

    def __init__(self, shape: StaticShape, kernels: Kernels, device: torch.device) -> None:
        def integers(*sizes: int) -> Tensor:
            return torch.zeros(sizes, dtype=torch.int64, device=device)

        n_atoms, n_edges, n_molecules = shape
        message = MessageGraph(
            source=integers(n_edges),
            receiver=integers(n_edges),
            edge_ptr=integers(n_atoms + 1),
            edge_pair=integers(n_edges),
            pair_edges=integers(n_edges // 2, 2),
            batch_ptr=integers(n_molecules + 1),
            source_ptr=integers(n_atoms + 1),
            source_edges=integers(n_edges),
        )
        self.shape = shape
        self.graph = Graph(integers(n_atoms), integers(n_edges), message, kernels)
        self._loaded: Graph | None = None

    def load(self, graph: Graph) -> None:
        """Copy ``graph`` in, unless it is there already.

        What is beyond it: atoms of one more molecule, without edges, then molecules without atoms.
        """
        if graph is self._loaded:
            return
        here, there = self.graph, graph
        n_edges = there.message.source.shape[0]
        rest = {"edge_ptr": n_edges, "source_ptr": n_edges, "batch_ptr": self.shape.n_atoms}
        fill(here.atomic_numbers, there.atomic_numbers)
        fill(here.edge_type, there.edge_type)
        for name, static, given in zip(
            here.message._fields, here.message, there.message, strict=True
        ):
            fill(static, given, rest=rest.get(name, 0))
        self._loaded = graph


def fill(static: Tensor, given: Tensor, *, rest: float = 0) -> None:
    """Copy the rows of ``given`` to the start of ``static`` and ``rest`` to the others."""
    static[: given.shape[0]].copy_(given)
    static[given.shape[0] :].fill_(rest)


def captured(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return what does the same as ``run``: a CUDA graph of it, or ``run`` itself where there is no CUDA.

    Parameters
    ----------
    run
        Reads and writes tensors at fixed addresses, without reading from the device. Run twice before it is captured,
        so that kernels are compiled and loaded; whatever it adds up must be put back by the caller.
    device
        Where it runs.
    """
    if device.type != "cuda":
        return run
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(_N_WARM_UP):
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool(device)):
        run()
    return graph.replay


_POOLS: dict[torch.device, Any] = {}


def _pool(device: torch.device) -> Any:  # noqa: ANN401  torch's name for it is private
    """Return the memory that all graphs of a device share: they run one after another."""
    if device not in _POOLS:
        _POOLS[device] = torch.cuda.graph_pool_handle()
    return _POOLS[device]
