"""What a BoPITO model's file holds: both networks' weights and configurations, and the decay.

The file is that of our other models (`tito_fast.models.checkpoint`); its ``config`` has ``kind`` ``bopito`` and the
configurations of both networks.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from tito_fast.models.bopito.model import KIND, BopitoModel
from tito_fast.models.bopito.network import BopitoNetwork
from tito_fast.models.bopito.prior import check_terms
from tito_fast.models.checkpoint import network_from_state
from tito_fast.models.tito.config import ModelInfo, TitoConfig

_DECAY: Final = "decay_logit"
_FIELDS: Final = (
    "dynamic",
    "equilibrium",
    "equilibrium_base_std",
    "frame_interval_ps",
    "is_decay_learned",
    "kind",
)


def model_from_content(
    config: Mapping[str, Any], info: ModelInfo, state: Mapping[str, Tensor]
) -> BopitoModel:
    """Return the model of a file's content.

    Parameters
    ----------
    config : mapping
        `BopitoModel.config_dict`.
    info : ModelInfo
    state : mapping of str to Tensor
        ``BopitoNetwork.state_dict()``, which the model takes over.

    Raises
    ------
    ValueError
        If it is of another kind or version, the terms may not be added, or the tensors are not those of the
        configuration.
    """
    if config.get("kind") != KIND or sorted(config) != list(_FIELDS):
        raise ValueError(
            f"config: expected kind {KIND} with {', '.join(_FIELDS)}, got kind {config.get('kind')!r} with "
            f"{', '.join(sorted(config))}; the file may come from a newer version of tito_fast"
        )
    dynamic = TitoConfig.from_dict(config["dynamic"])
    equilibrium = TitoConfig.from_dict(config["equilibrium"])
    check_terms(equilibrium, dynamic, info, info)
    logit = state.get(_DECAY)
    if logit is None or logit.ndim or not math.isfinite(float(logit)):
        raise ValueError(f"weights: expected a finite number {_DECAY}, got another or none")
    parts: dict[str, dict[str, Tensor]] = {"dynamic": {}, "equilibrium": {}}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        if part in parts:
            parts[part][rest] = tensor
        elif name != _DECAY:
            raise ValueError(f"weights: expected those of the configuration, got with {name}")
    network = BopitoNetwork(
        network_from_state(dynamic, parts["dynamic"]),
        network_from_state(equilibrium, parts["equilibrium"]),
        # The logit below says it bit by bit.
        relaxation_time_ps=1.0,
        frame_interval_ps=float(config["frame_interval_ps"]),
        equilibrium_base_std=float(config["equilibrium_base_std"]),
        is_decay_learned=bool(config["is_decay_learned"]),
    )
    with torch.no_grad():
        network.decay_logit.copy_(logit)
    return BopitoModel(dynamic, info, network)
