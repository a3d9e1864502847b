"""What the reference computes on the way, under the released names."""

from typing import Any

import torch
from torch import Tensor, nn

from tito_fast.models.tito.layers import Edges
from tito_fast.models.tito.network import TitoNetwork

_SCALARS = "invariant_node_features"
_VECTORS = "equivariant_node_features"
_EDGE_FEATURES = "invariant_edge_features"


class NetworkTrace:
    """Forward hooks on a network's modules that keep what the last evaluation went through.

    Parameters
    ----------
    network : TitoNetwork
        Run through its modules, as backend ``reference`` does.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By the names of ``tito-golden-velocity-1``; layers as ``layers.embed.layers.0.…``. Vectors are
        feature before xyz, as recorded; edges in our order.
    edge_index, edge_type : Tensor
        Edges of the last evaluation, on the host.
    n_atoms : int
    """

    def __init__(self, network: TitoNetwork) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.edge_index = torch.zeros((2, 0), dtype=torch.int64)
        self.edge_type = torch.zeros(0, dtype=torch.int64)
        self.n_atoms = 0
        self._edge_features = torch.zeros(0)
        network.condition.register_forward_hook(self._condition)
        network.velocity.register_forward_hook(self._velocity)
        network.velocity.combine.register_forward_hook(self._combine)
        for name, net in (("embed", network.condition), ("score", network.velocity)):
            for index, layer in enumerate(net.layers):
                self._watch(layer.message, f"layers.{name}.layers.{2 * index}")
                self._watch(layer.update, f"layers.{name}.layers.{2 * index + 1}")
            self._watch(net.readout, f"layers.{name}.layers.{2 * len(net.layers)}")

    def _watch(self, module: nn.Module, name: str) -> None:
        def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            self.tensors[f"{name}.{_SCALARS}"] = output[0]
            self.tensors[f"{name}.{_VECTORS}"] = output[1].swapaxes(1, 2)
            if len(output) == 3:
                self._edge_features = output[2]
            # Updates and readouts leave the edges as the message before them made them.
            self.tensors[f"{name}.{_EDGE_FEATURES}"] = self._edge_features

        module.register_forward_hook(keep)

    def _condition(self, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        atomic_numbers, edge_type, edges = inputs
        self.n_atoms = int(atomic_numbers.shape[0])
        self.edge_index = torch.stack([edges.source, edges.receiver]).cpu()
        self.edge_type = edge_type.cpu()
        self._keep_geometry("cond", edges)
        self.tensors[f"cond_{_SCALARS}"] = output.scalars
        self.tensors[f"cond_{_VECTORS}"] = output.vectors.swapaxes(1, 2)
        self.tensors[f"cond_{_EDGE_FEATURES}"] = output.edge_features

    def _velocity(self, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        self._keep_geometry("corr", inputs[3])
        invariant, equivariant = output
        self.tensors["readout_invariant"] = invariant
        self.tensors["readout_equivariant"] = equivariant.swapaxes(1, 2)

    def _combine(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        self.tensors[f"combined_{_SCALARS}"] = output

    def _keep_geometry(self, name: str, edges: Edges) -> None:
        self.tensors[f"{name}_edge_dist"] = edges.dist
        self.tensors[f"{name}_edge_dir"] = edges.vec_saturated
