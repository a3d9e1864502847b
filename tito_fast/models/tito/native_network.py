"""The network packed for the compiled kernels: weights in their layout, filters as splines."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tito_fast._extension import build_info, native_cpu_problem, native_module
from tito_fast.errors import BackendUnavailableError
from tito_fast.models.tito import op_network
from tito_fast.models.tito.filter_table import FilterTables, build_filter_tables
from tito_fast.models.tito.layers import Layer, Message, filter_parameters, mlp_parameters
from tito_fast.models.tito.network import VELOCITY_DISTANCE_LENGTH, TitoNetwork, n_encodings

# Blocks of a message: gate, direction, scalars, edges, cross; the last layer has no edges to hand on.
_BLOCKS = (0, 1, 2, 3, 4)
_LAST_BLOCKS = (0, 1, 2, 4)


@dataclass(frozen=True)
class PackedNetwork:
    """Compiled kernels with packed weights.

    Parameters
    ----------
    kernels
        ``TitoNetworkFloat32`` or ``TitoNetworkFloat64`` of the compiled module.
    tables : FilterTables or None
        Splines of the velocity network's filters; None: the MLPs are run.
    """

    kernels: Any
    tables: FilterTables | None


class _Cache:
    """Packed networks by module, valid while no parameter has changed."""

    def __init__(self) -> None:
        self._entries: weakref.WeakKeyDictionary[
            nn.Module, dict[bool, tuple[Any, PackedNetwork]]
        ] = weakref.WeakKeyDictionary()

    def get(self, network: TitoNetwork, *, has_half_products: bool) -> PackedNetwork:
        # A parameter that is written in place keeps its address and changes its version.
        state = tuple((p.data_ptr(), p._version, p.dtype) for p in network.parameters())
        entries = self._entries.setdefault(network, {})
        found = entries.get(has_half_products)
        if found is not None and found[0] == state:
            return found[1]
        packed = _pack(network, has_half_products=has_half_products)
        entries[has_half_products] = (state, packed)
        return packed


_CACHE = _Cache()


def packed_network(network: TitoNetwork) -> PackedNetwork:
    """Return ``network`` packed; kept until a parameter changes.

    Under autocast to bfloat16 the factors of the products along the edges of the velocity network are bfloat16; sums,
    norms, filters and all that concerns single atoms stay float32.

    Raises
    ------
    BackendUnavailableError
        If the compiled kernels do not run on these parameters, or not in the precision in force.
    """
    if reason := problem(network, with_gradients=False):
        raise BackendUnavailableError(f"backend='native': {reason}; use backend='eager'")
    return _CACHE.get(network, has_half_products=torch.is_autocast_enabled("cpu"))


def is_one_call(network: TitoNetwork) -> bool:
    """Return whether a compiled call runs the whole of ``network``; else it is composed of compiled ops."""
    return network.config.lag_in == "velocity"


def problem(network: TitoNetwork, *, with_gradients: bool) -> str:
    """Return why the compiled kernels cannot run on ``network`` here and now, or an empty string."""
    parameter = next(network.parameters())
    if reason := native_cpu_problem():
        return reason
    if parameter.device.type != "cpu":
        return f"message passing runs on CPU tensors in this version, got {parameter.device.type}"
    if parameter.dtype not in (torch.float32, torch.float64):
        return f"expected float32 or float64 weights, got {parameter.dtype}"
    if reason := op_network.problem(network.config):
        return reason
    if not torch.is_autocast_enabled("cpu"):
        return ""
    return _autocast_problem(
        parameter.dtype, with_gradients=with_gradients, is_one_call=is_one_call(network)
    )


def _autocast_problem(dtype: torch.dtype, *, with_gradients: bool, is_one_call: bool) -> str:
    autocast, isa = torch.get_autocast_dtype("cpu"), build_info()["isa"]
    if with_gradients:
        return "gradients are computed in float32 and float64 only, got autocast"
    if not is_one_call:
        return "a network whose lag enters the condition runs in float32 and float64 only, got autocast"
    if autocast != torch.bfloat16 or dtype != torch.float32:
        return f"expected autocast of float32 to bfloat16, got {dtype} to {autocast}"
    if isa != "avx512bf16":
        return f"products in bfloat16 need the instruction set avx512bf16, and {isa} is in use"
    return ""


@torch.no_grad()
def _pack(network: TitoNetwork, *, has_half_products: bool) -> PackedNetwork:
    config = network.config
    double = next(network.parameters()).dtype == torch.float64
    # In float64 the filters are exact: there the kernels are compared with the definition.
    with torch.autocast("cpu", enabled=False):
        tables = None if double else _tables(network)
    keep: list[Tensor] = []
    rows = [None] * config.n_model_layers if tables is None else tables.rows
    velocity, condition = network.velocity, network.condition
    readout = condition.readout if config.is_conditional else None
    kernels_of = (
        native_module().TitoNetworkFloat64 if double else native_module().TitoNetworkFloat32
    )
    kernels = kernels_of(
        shape={
            "n_features": config.n_features,
            "width": config.n_reduced_features or config.n_features,
            "is_reduced": config.n_reduced_features is not None,
            "n_encodings": n_encodings(config),
            "n_embedding_layers": config.n_embedding_layers,
            "n_model_layers": config.n_model_layers,
            "cutoff": config.scaled_cutoff or 0.0,
            "condition_length": config.distance_encoding_length,
            "velocity_length": VELOCITY_DISTANCE_LENGTH,
            "has_half_products": has_half_products,
            "hands_over_vectors": config.vector_start == "condition",
            "is_centered": config.is_centered,
        },
        embeddings=_addresses(
            [condition.atom_embedding.weight, condition.bond_embedding.weight], keep
        ),
        embedding_layers=[_layer(layer, None, keep) for layer in condition.layers],
        condition_readout=_addresses(mlp_parameters(readout.mlp), keep) if readout else [],
        condition_v=_addresses([readout.v.weight], keep) if readout else [],
        combine=_addresses(mlp_parameters(velocity.combine), keep),
        model_layers=[
            _layer(layer, table, keep) for layer, table in zip(velocity.layers, rows, strict=True)
        ],
        readout=_addresses(mlp_parameters(velocity.readout.mlp), keep),
        readout_v=_addresses([velocity.readout.v.weight], keep)[0],
        n_knots=0 if tables is None else tables.n_knots,
    )
    return PackedNetwork(kernels, tables)


def _tables(network: TitoNetwork) -> FilterTables | None:
    layers = list(network.velocity.layers)
    filters = [
        (filter_parameters(layer.message), _BLOCKS if layer is not layers[-1] else _LAST_BLOCKS)
        for layer in layers
    ]
    return build_filter_tables(filters)


def _layer(layer: Layer, table: Tensor | None, keep: list[Tensor]) -> tuple[list[int], ...]:
    message, update = layer.message, layer.update
    return (
        _addresses(mlp_parameters(message.phi), keep),
        _addresses(filter_parameters(message), keep),
        _addresses(_reduction(message), keep),
        _addresses([update.u.weight, update.v.weight], keep),
        _addresses(mlp_parameters(update.mlp), keep),
        _addresses([] if table is None else [table], keep),
    )


def _reduction(message: Message) -> list[Tensor]:
    if not message.is_reduced:
        return []
    return [
        message.reduce_scalars.weight,
        message.reduce_scalars.bias,
        message.reduce_edges.weight,
        message.reduce_edges.bias,
        message.reduce_vectors.weight,
        message.expand_vectors.weight,
        message.expand_scalars.weight,
        message.expand_scalars.bias,
        message.expand_edges.weight,
        message.expand_edges.bias,
    ]


def _addresses(tensors: Sequence[Tensor], keep: list[Tensor]) -> list[int]:
    """Return the addresses of contiguous copies, which ``keep`` holds until they were read."""
    whole = [tensor.detach().contiguous() for tensor in tensors]
    keep.extend(whole)
    return [tensor.data_ptr() for tensor in whole]
