"""The file of a TBG model: safetensors with the configuration and the facts inside, as other models' files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tito_fast.data.writers.disk import replace_file
from tito_fast.models.tbg.config import TbgConfig
from tito_fast.models.tbg.model import TbgModel
from tito_fast.models.tbg.network import TbgNetwork
from tito_fast.models.tito.config import ModelInfo

FAMILY: Final = "tbg"
FORMAT_VERSION: Final = 1
_METADATA_KEY: Final = "tito_fast"


def is_tbg_checkpoint(path: str | Path) -> bool:
    """Return whether ``path`` is a file of :func:`write_tbg_checkpoint`; reads its header only.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    try:
        with safe_open(Path(path), framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY, "{}")
        header = json.loads(text)
    except (SafetensorError, json.JSONDecodeError):
        return False
    return isinstance(header, dict) and header.get("family") == FAMILY


def tbg_model_hash(model: TbgModel) -> str:
    """Return the SHA-256 of configuration, facts and weights, as 64 hexadecimal digits.

    Equal for a model and what is loaded from its file, on any device.
    """
    return _content_hash(model.config, model.info, model.network.state_dict())


def write_tbg_checkpoint(model: TbgModel, path: str | Path) -> None:
    """Write ``model`` as safetensors; the file is there whole or not at all.

    Raises
    ------
    OSError
        If the folder does not exist or the disk is full; an earlier file is then unchanged.
    """
    state = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in model.network.state_dict().items()
    }
    header = {
        "family": FAMILY,
        "format_version": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "info": model.info.to_dict(),
        "hash": _content_hash(model.config, model.info, state),
    }
    replace_file(Path(path), save(state, {_METADATA_KEY: _canonical_json(header)}))


def read_tbg_checkpoint(path: str | Path, *, device: torch.device | str = "cpu") -> TbgModel:
    """Read a model that :func:`write_tbg_checkpoint` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of another model or a newer version, or its tensors are not those of its
        configuration.
    """
    try:
        with safe_open(Path(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, got a truncated or damaged one ({error})"
        ) from error
    try:
        header = _header(metadata)
        config = TbgConfig.from_dict(header["config"])
        info = ModelInfo.from_dict(header["info"])
        network = _network_from_state(config, state)
    # A value of a wrong type in the JSON surfaces in the checks of the dataclasses.
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error
    if header.get("hash") != _content_hash(config, info, state):
        raise ValueError(
            f"{path}: expected content with the hash that it states, got another; "
            "the file was damaged or changed"
        )
    return TbgModel(config, info, network).to(device=device)


def _network_from_state(config: TbgConfig, state: Mapping[str, Tensor]) -> TbgNetwork:
    with torch.device("meta"):
        network = TbgNetwork(config)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != found:
        other = sorted(
            name for name in {*expected, *found} if expected.get(name) != found.get(name)
        )
        raise ValueError(
            f"weights: expected those of the configuration, got others for {', '.join(other[:5])}"
        )
    if {tensor.dtype for tensor in state.values()} not in ({torch.float32}, {torch.float64}):
        raise ValueError("weights: expected float32 or float64 throughout, got others")
    network.load_state_dict(state, strict=True, assign=True)
    return network


def _header(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        header = json.loads(metadata.get(_METADATA_KEY, "{}"))
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON in the metadata, got none ({error})") from error
    if not isinstance(header, dict) or header.get("family") != FAMILY:
        raise ValueError("expected a TBG model of tito_fast, got another file")
    if header.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"expected format version {FORMAT_VERSION}, got {header.get('format_version')!r}; "
            "the file comes from another version of tito_fast"
        )
    return header


def _content_hash(config: TbgConfig, info: ModelInfo, state: Mapping[str, Tensor]) -> str:
    facts = {"family": FAMILY, "config": config.to_dict(), "info": info.to_dict()}
    digest = hashlib.sha256(_canonical_json(facts).encode())
    for name in sorted(state):
        tensor = state[name].detach().to("cpu").contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _canonical_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
