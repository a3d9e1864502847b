"""Messages on random graphs with random weights, for the tests and for the subprocesses that they start."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from tito_fast.ops import MessageGraph, MessageResult, message_graph, painn_message
from tito_fast.ops.mlp_parameters import MlpParameters
from tito_fast.testing.tolerance import check_against_reference

TENSORS = ("scalars", "vectors", "edge_features", "pair_dist", "vec_saturated")


def edges_of(sizes: Sequence[int], kind: str = "complete", seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return edge_index and batch_ptr of molecules of ``sizes``.

    ``complete``: all edges; ``cutoff`` and ``sparse``: both edges or none, of four pairs in ten or one;
    ``one-way``: half of all edges. The last atom of a graph that is not complete has none.
    """
    generator = torch.Generator().manual_seed(seed)
    batch_ptr = torch.tensor([0, *sizes]).cumsum(0)
    blocks = [torch.zeros(2, 0, dtype=torch.int64)]
    for start, size in zip(batch_ptr.tolist(), sizes, strict=False):
        keep = torch.ones(size, size, dtype=torch.bool)
        if kind != "complete":
            drawn = torch.rand(size, size, generator=generator)
            limit = {"cutoff": 0.4, "sparse": 0.1, "one-way": 0.5}[kind]
            keep = drawn < limit if kind == "one-way" else drawn.triu() + drawn.triu().T < limit
            keep[-1:], keep[:, -1:] = False, False
        receiver, source = keep.fill_diagonal_(False).nonzero().T
        blocks.append(start + torch.stack([source, receiver]))
    return torch.cat(blocks, dim=1), batch_ptr


def random_mlp(
    n_in: int, n_hidden: int, n_out: int, *, generator: torch.Generator
) -> MlpParameters:
    """Return parameters as torch draws them, with norms that are not the identity.

    A norm over two features is their order, and a jump where they meet: biases keep them apart.
    """
    apart = torch.tensor([2.0, -2.0]) if n_hidden == 2 else torch.zeros(n_hidden)

    def draw(n_rows: int, n_columns: int) -> Tensor:
        drawn = torch.rand(n_rows, n_columns, generator=generator)
        return (2 * drawn - 1) / n_columns**0.5

    def row(mean: float) -> Tensor:
        return mean + 0.3 * torch.randn(n_hidden, generator=generator)

    return MlpParameters(
        *(draw(n_hidden, n_in), apart + row(0.0), row(1.0), row(0.0)),
        *(draw(n_hidden, n_hidden), apart + row(0.0), row(1.0), row(0.0)),
        *(draw(n_out, n_hidden), 0.3 * torch.randn(n_out, generator=generator)),
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """Arguments of one message."""

    scalars: Tensor
    vectors: Tensor | None
    edge_features: Tensor
    pair_dist: Tensor
    vec_saturated: Tensor
    graph: MessageGraph
    phi: MlpParameters
    filter_: MlpParameters
    distance_length: float = 10.0
    has_edges: bool = True
    adds_edges: bool = True

    def arguments(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def run(self, backend: str = "native", **changes: object) -> MessageResult:
        arguments = self.arguments() | changes
        data = [arguments.pop(name) for name in ("scalars", "vectors", "edge_features")]
        return painn_message(*data, **arguments, backend=backend)

    def leaves(self) -> dict[str, Tensor]:
        """Differentiable arguments by name; None is left out."""
        named = {name: getattr(self, name) for name in TENSORS}
        for mlp in ("phi", "filter_"):
            named |= {f"{mlp}.{k}": v for k, v in getattr(self, mlp)._asdict().items()}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def with_leaves(self, leaves: dict[str, Tensor]) -> "Case":
        changes: dict[str, object] = {name: leaves[name] for name in TENSORS if name in leaves}
        for mlp in ("phi", "filter_"):
            of_mlp = [leaves[f"{mlp}.{field}"] for field in MlpParameters._fields]
            changes[mlp] = MlpParameters(*of_mlp)
        return replace(self, **changes)

    def to(self, dtype: torch.dtype) -> "Case":
        return self.with_leaves({name: leaf.to(dtype) for name, leaf in self.leaves().items()})

    def gradients(self, backend: str = "native") -> dict[str, Tensor]:
        """Gradients of a random weighting of all results in all leaves, by name."""
        leaves = {k: leaf.detach().clone().requires_grad_() for k, leaf in self.leaves().items()}
        results = [r for r in self.with_leaves(leaves).run(backend) if r is not None]
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(r.shape, generator=generator).to(r.dtype) for r in results]
        found = torch.autograd.grad(results, list(leaves.values()), weights)
        return dict(zip(leaves, found, strict=True))


def make_case(
    *sizes: int,
    width: int = 24,
    kind: str = "complete",
    dtype: torch.dtype = torch.float32,
    has_vectors: bool = True,
    seed: int = 0,
    **options: object,
) -> Case:
    """Return a random message; distances stay below half the encoding's length."""
    generator = torch.Generator().manual_seed(seed)
    edge_index, batch_ptr = edges_of(sizes, kind, seed)
    graph = message_graph(edge_index, batch_ptr=batch_ptr, n_atoms=sum(sizes))
    n_atoms, n_edges = graph.n_atoms, edge_index.shape[1]
    vec = torch.randn(n_edges, 3, generator=generator)
    return Case(
        scalars=torch.randn(n_atoms, width, generator=generator),
        vectors=torch.randn(n_atoms, 3, width, generator=generator) if has_vectors else None,
        edge_features=torch.randn(n_edges, width, generator=generator),
        pair_dist=0.1 + 4.5 * torch.rand(graph.n_pairs, generator=generator),
        vec_saturated=vec / (1 + vec.norm(dim=1, keepdim=True)),
        graph=graph,
        phi=random_mlp(2 * width, width, 5 * width, generator=generator),
        filter_=random_mlp(width, width, 5 * width, generator=generator),
        **options,
    ).to(dtype)


def check_pooled(
    found: Sequence[Tensor], plain: Sequence[Tensor], exact: Sequence[Tensor], *, name: str
) -> None:
    """Hold tensors to the reference together, each in units of its largest element.

    The largest of few errors is luck, most of all where a norm met features that hardly differ: of the
    plain tensors' too. In float64 plain PyTorch is the reference, so that each tensor has to stay
    within 1e-14 of its scale.
    """
    scales = [float(each.abs().max()) or 1.0 if each.numel() else 1.0 for each in exact]
    kernel, reference, reference64 = (
        torch.cat([(each / scale).flatten() for each, scale in zip(many, scales, strict=True)])
        for many in (found, plain, exact)
    )
    check_against_reference(kernel, reference, reference64, name=name)


def check_forward(*cases: Case) -> None:
    """Hold the native results of all cases to the reference."""
    found, plain = ([case.run(backend) for case in cases] for backend in ("native", "reference"))
    exact = [case.to(torch.float64).run("reference") for case in cases]
    assert all((result.edges is not None) == cases[0].has_edges for result in (*found, *plain))
    pooled = (
        [t for result in many for t in result if t is not None] for many in (found, plain, exact)
    )
    check_pooled(*pooled, name="results")


def check_gradients(*cases: Case) -> None:
    """Hold the native gradients in every input and parameter to the reference's."""
    found, plain = (
        [case.gradients(backend) for case in cases] for backend in ("native", "reference")
    )
    exact = [case.to(torch.float64).gradients("reference") for case in cases]
    names = list(cases[0].leaves())
    assert len(names) == (24 if cases[0].vectors is None else 25)
    for group in ("phi", "filter_", "inputs"):
        members = [name for name in names if name.rpartition(".")[0] == group.replace("inputs", "")]
        pooled = (
            [each[name] for each in many for name in members] for many in (found, plain, exact)
        )
        check_pooled(*pooled, name=group)
