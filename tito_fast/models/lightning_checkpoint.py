"""Reads released TITO checkpoints: Lightning's ``.ckpt`` and plain dictionaries of tensors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from tito_fast.models.released_names import ReleasedShape, shape_of_released
from tito_fast.models.restricted_pickle import StandIn, TensorRecord, TorchZip

_PREFIX: Final = "score."
# The length that the released code gives the velocity network whatever the options say.
_VELOCITY_LENGTH: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class ReleasedCheckpoint:
    """A released model as its file has it.

    Parameters
    ----------
    state_dict : dict of str to Tensor
        On the CPU, under the released names without the prefix ``score.``.
    config : dict
        Constructor arguments of the released network, consistent with the tensors.
    """

    state_dict: dict[str, Tensor]
    config: dict[str, Any]


def read_lightning_checkpoint(path: str | Path) -> ReleasedCheckpoint:
    """Read a released checkpoint without executing anything in it.

    Parameters
    ----------
    path : str or Path
        A zip of ``torch.save``: Lightning's dictionary with the pickled network in
        ``hyper_parameters["score"]``, or one with plain values under ``score_config`` (or
        ``config``) beside ``state_dict``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of another format, holds anything else, or contradicts itself.
    """
    archive = TorchZip(Path(path))
    try:
        content = _mapping(archive.content, "a dictionary")
        records = _mapping(content.get("state_dict"), "a dictionary under 'state_dict'")
        tensors = archive.tensors(_named_records(records))
        return released_checkpoint({**content, "state_dict": tensors})
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {error}") from error


def released_checkpoint(content: Mapping[str, Any]) -> ReleasedCheckpoint:
    """Return the checkpoint that a dictionary in memory holds.

    Parameters
    ----------
    content : mapping
        ``state_dict`` (names with or without the prefix ``score.``) and the constructor arguments:
        in ``hyper_parameters["score"]``, ``score_config`` or ``config``.

    Raises
    ------
    ValueError
        If the arguments are missing or contradict the tensors.
    """
    state_dict = _without_prefix(_mapping(content.get("state_dict"), "tensors under 'state_dict'"))
    shape = shape_of_released(state_dict)
    hyper_parameters = content.get("hyper_parameters")
    module = hyper_parameters.get("score") if isinstance(hyper_parameters, Mapping) else None
    stated: Any = content.get("score_config", content.get("config"))
    observed: dict[str, Any] = {}
    if isinstance(module, StandIn):
        stated = module.attributes.get("config")
        observed = _observed(module)
    if not isinstance(stated, Mapping) or not all(isinstance(name, str) for name in stated):
        stated = {}
    if not stated and not observed:
        raise ValueError(
            "hyper_parameters: expected the network under 'score', or its constructor arguments "
            "under 'score_config', got neither; max_lag is recorded nowhere else"
        )
    config = {**observed, **stated}
    _check_agreement(config, observed, source="its modules")
    from_shape = _as_released(shape)
    _check_agreement(config, from_shape, source="its tensors")
    return ReleasedCheckpoint(state_dict=state_dict, config={**from_shape, **config})


def _named_records(records: Mapping[Any, Any]) -> dict[str, TensorRecord]:
    for name, record in records.items():
        if not isinstance(name, str) or not isinstance(record, TensorRecord):
            raise ValueError("state_dict: expected tensors by name, got something else")  # noqa: TRY004
    return dict(records)


def _without_prefix(state_dict: Mapping[Any, Any]) -> dict[str, Tensor]:
    # Without the prefix there are names under "embed." as well, with it there are none.
    if state_dict and all(isinstance(n, str) and n.startswith(_PREFIX) for n in state_dict):
        return {name.removeprefix(_PREFIX): tensor for name, tensor in state_dict.items()}
    return dict(state_dict)


def _observed(module: StandIn) -> dict[str, Any]:
    """Return the arguments that the submodules remember; files before ``config`` have only these."""
    max_lag = _attribute(module, ("score", "3", "embedding"), "max_length")
    length_scale = _attribute(
        module, ("embed", "4", "layers", "0", "positional_encoder"), "max_length"
    )
    velocity_encoder = ("score", "5", "layers", "0", "positional_encoder")
    velocity_length = _attribute(module, velocity_encoder, "max_length")
    cutoff = _attribute(module, ("radius_edges",), "cutoff")
    if velocity_length is not None and velocity_length != _VELOCITY_LENGTH:
        raise ValueError(
            f"score.5.layers.0.positional_encoder: expected max_length {_VELOCITY_LENGTH:g}, as in "
            f"every released network, got {velocity_length!r}"
        )
    observed = {"max_lag": max_lag, "length_scale": length_scale}
    observed = {name: value for name, value in observed.items() if value is not None}
    if cutoff is not None:
        observed["cutoff"] = None if cutoff == math.inf else cutoff
    return observed


def _attribute(module: StandIn, names: tuple[str, ...], attribute: str) -> int | float | None:
    child = module.child(*names)
    value = None if child is None else child.attributes.get(attribute)
    return value if type(value) in (int, float) else None


def _as_released(shape: ReleasedShape) -> dict[str, Any]:
    return {
        "n_features": shape.n_features,
        "embedding_layers": shape.n_embedding_layers,
        "model_layers": shape.n_model_layers,
        "n_reduced_features": shape.n_reduced_features or 0,
        "temperature": shape.has_temperature,
    }


def _check_agreement(config: Mapping[str, Any], found: Mapping[str, Any], *, source: str) -> None:
    for name, value in found.items():
        stated = config.get(name, value)
        if name == "n_reduced_features":
            stated = stated or 0
        if name == "cutoff" and stated == math.inf:
            stated = None
        if type(stated) not in (int, float, bool, type(None)) or stated != value:
            shown = (
                stated if type(stated) in (int, float, bool, type(None)) else type(stated).__name__
            )
            raise ValueError(
                f"{name}: expected {value} as {source} have it, got {shown} from the constructor "
                "arguments; the checkpoint contradicts itself"
            )


def _mapping(value: object, expected: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected {expected}, got a {type(value).__name__}")  # noqa: TRY004
    return value
