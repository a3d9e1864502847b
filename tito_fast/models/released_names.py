"""What the released TITO code calls parameters and options, and what they are called here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from tito_fast.models.tito.config import TitoConfig

# A scalar that released modules hold to know their device; it takes part in nothing.
_DEVICE_TRACKER: Final = "device_tracker"

_LEAVES: Final = {
    "embed.1.embedding": "condition.atom_embedding",
    "embed.2.embedding": "condition.bond_embedding",
}
_COMBINE: Final = ("score.4.mlp.mlp", "velocity.combine")
_NETWORKS: Final = {"embed.4.layers": "condition", "score.5.layers": "velocity"}
_MESSAGE: Final = {
    "phi.mlp": "phi",
    "w.mlp": "filter",
    "reducer.reduce_invariant_node_features": "reduce_scalars",
    "reducer.reduce_invariant_edge_features": "reduce_edges",
    "reducer.reduce_equivariant_node_features.linear": "reduce_vectors",
    "reducer.expand_equivariant_features.linear": "expand_vectors",
    "reducer.expand_invariant_features": "expand_scalars",
    "reducer.expand_invariant_edges_features": "expand_edges",
}
_UPDATE: Final = {"u.linear": "u", "v.linear": "v", "mlp.mlp": "mlp"}
_READOUT: Final = {"mlp.mlp": "mlp", "V.linear": "v"}


@dataclass(frozen=True, kw_only=True)
class ReleasedShape:
    """What the shapes of a released state dict say about its network."""

    n_features: int
    n_embedding_layers: int
    n_model_layers: int
    n_reduced_features: int | None
    has_temperature: bool


def to_ours(released_name: str) -> str | None:
    """Return our name of a released parameter; None for the scalars that are dropped.

    Parameters
    ----------
    released_name : str
        Without the prefix ``score.`` of a Lightning checkpoint.

    Raises
    ------
    ValueError
        If no released network has a parameter of this name.

    Examples
    --------
    >>> to_ours("score.5.layers.3.u.linear.weight")
    'velocity.layers.1.update.u.weight'
    """
    if released_name.rpartition(".")[2] == _DEVICE_TRACKER:
        return None
    for theirs, ours in (*_LEAVES.items(), _COMBINE):
        if released_name.startswith(theirs + "."):
            return ours + released_name.removeprefix(theirs)
    for theirs, ours in _NETWORKS.items():
        number, _, rest = released_name.removeprefix(theirs + ".").partition(".")
        if released_name.startswith(theirs + ".") and number.isascii() and number.isdigit():
            name = _layer_to_ours(int(number), rest)
            if name is not None:
                return f"{ours}.{name}"
    raise ValueError(f"state_dict: expected parameters of a TITO network, got {released_name!r}")


def to_released(our_name: str, *, config: TitoConfig) -> str:
    """Return the released name of our parameter ``our_name``; the inverse of ``to_ours``.

    Parameters
    ----------
    our_name : str
        As in ``TitoNetwork.state_dict()``.
    config : TitoConfig
        Says where the readouts stand, which the released code numbers as layers.

    Raises
    ------
    ValueError
        If there is no such parameter.

    Examples
    --------
    >>> to_released("velocity.readout.v.weight", config=TitoConfig(n_model_layers=5))
    'score.5.layers.10.V.linear.weight'
    """
    for theirs, ours in (*_LEAVES.items(), _COMBINE):
        if our_name.startswith(ours + "."):
            return theirs + our_name.removeprefix(ours)
    n_layers = {"condition": config.n_embedding_layers, "velocity": config.n_model_layers}
    for theirs, ours in _NETWORKS.items():
        readout = _renamed(our_name, f"{ours}.readout.", _inverse(_READOUT))
        if readout is not None:
            return f"{theirs}.{2 * n_layers[ours]}.{readout}"
        start = f"{ours}.layers."
        number, _, rest = our_name.removeprefix(start).partition(".")
        if our_name.startswith(start) and number.isascii() and number.isdigit():
            message = _renamed(rest, "message.", _inverse(_MESSAGE))
            update = _renamed(rest, "update.", _inverse(_UPDATE))
            if message is not None:
                return f"{theirs}.{2 * int(number)}.{message}"
            if update is not None:
                return f"{theirs}.{2 * int(number) + 1}.{update}"
    raise ValueError(f"name: expected a parameter of TitoNetwork, got {our_name!r}")


def state_dict_to_ours(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors under our names, without the scalars that are dropped.

    Raises
    ------
    ValueError
        If a name is unknown, or two names mean the same parameter.
    """
    renamed: dict[str, Tensor] = {}
    for released_name, tensor in state_dict.items():
        name = to_ours(released_name)
        if name is None:
            continue
        if name in renamed:
            raise ValueError(f"state_dict: expected one {name}, got a second as {released_name!r}")
        renamed[name] = tensor
    return renamed


def shape_of_released(state_dict: Mapping[str, Tensor]) -> ReleasedShape:
    """Return what the names and shapes of a released ``state_dict`` say about the network.

    Raises
    ------
    ValueError
        If parameters are missing that every released network has.
    """
    combine = _matrix(state_dict, "score.4.mlp.mlp.0.weight")
    n_features = _matrix(state_dict, "embed.1.embedding.weight").shape[1]
    if n_features == 0 or combine.shape[1] not in (3 * n_features, 4 * n_features):
        raise ValueError(
            f"score.4.mlp.mlp.0.weight: expected 3 or 4 times n_features = {n_features} columns, "
            f"got {combine.shape[1]}"
        )
    reducer = "embed.4.layers.0.reducer.reduce_invariant_node_features.weight"
    return ReleasedShape(
        n_features=n_features,
        n_embedding_layers=_n_layers(state_dict, "embed.4.layers."),
        n_model_layers=_n_layers(state_dict, "score.5.layers."),
        n_reduced_features=_matrix(state_dict, reducer).shape[0] if reducer in state_dict else None,
        has_temperature=combine.shape[1] == 4 * n_features,
    )


def released_config_to_tito(config: Mapping[str, Any]) -> TitoConfig:
    """Return our configuration for the constructor arguments of the released network.

    Parameters
    ----------
    config : mapping
        ``n_features``, ``embedding_layers``, ``model_layers``, ``max_lag`` (ps), ``length_scale``
        and ``cutoff`` (model units); ``n_reduced_features`` (0: none), ``temperature`` and
        ``virtual_node`` may be absent, as in older files.

    Returns
    -------
    TitoConfig
        With ``vector_start="randn"``, the released behavior, and ``temperature_scale_k=1``: the
        released code encodes the temperature as it is given, with length 1, so the numbers that
        the model was trained with (not kelvins, which would alias) are to be passed on unchanged.

    Raises
    ------
    ValueError
        If an argument is missing, unknown, or not of its type.

    Notes
    -----
    ``virtual_node`` changes nothing in the released forward pass, so it is not kept.
    """
    required = (
        "n_features",
        "embedding_layers",
        "model_layers",
        "max_lag",
        "length_scale",
        "cutoff",
    )
    optional = ("n_reduced_features", "temperature", "virtual_node")
    missing = [name for name in required if name not in config]
    unknown = sorted(str(name)[:40] for name in set(config) - {*required, *optional})
    if missing or unknown:
        what = f"without {', '.join(missing)}" if missing else f"with {', '.join(unknown)}"
        raise ValueError(
            f"config: expected {', '.join(required)} of the released network, got one {what}"
        )
    cutoff = config["cutoff"]
    n_reduced = config.get("n_reduced_features")
    return TitoConfig(
        n_features=_integer(config, "n_features"),
        n_embedding_layers=_integer(config, "embedding_layers"),
        n_model_layers=_integer(config, "model_layers"),
        n_reduced_features=None
        if n_reduced is None
        else _integer(config, "n_reduced_features") or None,
        # The graph of an older file may hold infinity where the constructor was given None.
        scaled_cutoff=None if cutoff is None or cutoff == math.inf else _number(config, "cutoff"),
        distance_encoding_length=_number(config, "length_scale"),
        max_lag_ps=_number(config, "max_lag"),
        has_temperature=_flag(config, "temperature"),
        temperature_scale_k=1.0,
        vector_start="randn",
    )


def _layer_to_ours(number: int, rest: str) -> str | None:
    layer, is_update = divmod(number, 2)
    if is_update:
        return _renamed(rest, "", _UPDATE, f"layers.{layer}.update.")
    message = _renamed(rest, "", _MESSAGE, f"layers.{layer}.message.")
    return message or _renamed(rest, "", _READOUT, "readout.")


def _renamed(name: str, start: str, table: Mapping[str, str], new_start: str = "") -> str | None:
    if not name.startswith(start):
        return None
    rest = name.removeprefix(start)
    for theirs, ours in table.items():
        if rest.startswith(theirs + "."):
            return new_start + ours + rest.removeprefix(theirs)
    return None


def _inverse(table: Mapping[str, str]) -> dict[str, str]:
    return {ours: theirs for theirs, ours in table.items()}


def _n_layers(state_dict: Mapping[str, Tensor], start: str) -> int:
    suffix = ".V.linear.weight"
    numbers = [
        name.removeprefix(start).removesuffix(suffix)
        for name in state_dict
        if name.startswith(start) and name.endswith(suffix)
    ]
    if len(numbers) != 1 or not numbers[0].isdigit() or int(numbers[0]) % 2:
        raise ValueError(
            f"state_dict: expected one readout {start}<even number>{suffix}, got {len(numbers)}"
        )
    return int(numbers[0]) // 2


def _matrix(state_dict: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state_dict or state_dict[name].ndim != 2:
        got = tuple(state_dict[name].shape) if name in state_dict else "none"
        raise ValueError(f"state_dict: expected a matrix {name}, got {got}")
    return state_dict[name]


def _integer(config: Mapping[str, Any], name: str) -> int:
    value = config[name]
    if type(value) is not int:
        raise ValueError(f"{name}: expected a whole number, got {_shown(value)}")
    return value


def _number(config: Mapping[str, Any], name: str) -> float:
    value = config[name]
    # Bounded, for a whole number of a file may be too large for a float.
    if type(value) not in (int, float) or not -(2**53) <= value <= 2**53:
        raise ValueError(f"{name}: expected a number, got {_shown(value)}")
    return float(value)


def _flag(config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name, False)
    if type(value) is not bool:
        raise ValueError(f"{name}: expected true or false, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    # Files decide what this is: a container could take for ever to print.
    if isinstance(value, str | int | float | bool | None):
        return repr(value)[:40]
    return f"a {type(value).__name__}"
