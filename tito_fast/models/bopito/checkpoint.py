"""The file of a BoPITO model: both networks' weights, configurations and facts in one safetensors file.

The metadata's entry is that of our other models (`tito_fast.models.checkpoint`); its ``config`` has ``kind``
``bopito`` and the configurations of both networks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from tito_fast.models.bopito.model import BopitoModel
from tito_fast.models.bopito.network import BopitoNetwork
from tito_fast.models.checkpoint import (
    content_hash,
    network_from_state,
    read_content,
    write_content,
)
from tito_fast.models.tito.config import ModelInfo, TitoConfig

KIND: Final = "bopito"
_DECAY: Final = "decay_logit"


def bopito_hash(model: BopitoModel) -> str:
    """Return the SHA-256 of configurations, facts and weights, as 64 hexadecimal digits."""
    return content_hash(_config(model), model.info, model.network.state_dict())


def write_bopito_checkpoint(model: BopitoModel, path: str | Path) -> None:
    """Write ``model`` as safetensors; the file is there whole or not at all.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    OSError
        If the disk is full or the folder is not writable; an earlier file is then unchanged.
    """
    write_content(path, _config(model), model.info, model.network.state_dict())


def read_bopito_checkpoint(path: str | Path, *, device: torch.device | str = "cpu") -> BopitoModel:
    """Read a model that `write_bopito_checkpoint` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of another format or kind, or its tensors are not those of its configuration.
    """
    config, info, state = read_content(path)
    try:
        model = model_from_content(config, info, state)
    # A value of a wrong type in the JSON surfaces in the checks of the dataclasses.
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error
    return model.to(device=device)


def model_from_content(
    config: Mapping[str, Any], info: ModelInfo, state: Mapping[str, Tensor]
) -> BopitoModel:
    """Return the model of a file's content.

    Raises
    ------
    ValueError
        If it is of another kind, or the tensors are not those of the configuration.
    """
    if config.get("kind") != KIND:
        raise ValueError(f"config: expected kind {KIND}, got {config.get('kind')!r}")
    dynamic = TitoConfig.from_dict(config["dynamic"])
    equilibrium = TitoConfig.from_dict(config["equilibrium"])
    parts: dict[str, dict[str, Tensor]] = {"dynamic": {}, "equilibrium": {}}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        if part in parts:
            parts[part][rest] = tensor
        elif name != _DECAY:
            raise ValueError(f"weights: expected those of the configuration, got {name}")
    logit = state.get(_DECAY)
    if logit is None or logit.ndim or not bool(torch.isfinite(logit)):
        raise ValueError(f"weights: expected a finite number {_DECAY}, got another")
    network = BopitoNetwork(
        network_from_state(dynamic, parts["dynamic"]),
        network_from_state(equilibrium, parts["equilibrium"]),
        # The logit says it, bit by bit.
        relaxation_time_ps=1.0,
        frame_interval_ps=float(config["frame_interval_ps"]),
        is_decay_learned=bool(config["is_decay_learned"]),
    )
    with torch.no_grad():
        network.decay_logit.copy_(logit)
    return BopitoModel(dynamic, info, network)


def _config(model: BopitoModel) -> dict[str, Any]:
    network = model.network
    return {
        "kind": KIND,
        "dynamic": model.config.to_dict(),
        "equilibrium": network.equilibrium.config.to_dict(),
        "frame_interval_ps": network.frame_interval_ps,
        "is_decay_learned": network.is_decay_learned,
    }
