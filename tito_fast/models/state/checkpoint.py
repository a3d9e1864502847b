"""Read and write models of states: safetensors, with the configuration as metadata."""

import json
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tito_fast.data.writers.disk import replace_file
from tito_fast.models.state.config import StateConfig
from tito_fast.models.state.model import StateModel, model_of_state

STATE_FORMAT_VERSION: Final = 1
_METADATA_KEY: Final = "tito_fast_state"


def write_state_model(model: StateModel, path: str | Path) -> None:
    """Write ``model``, with its prior and decay, as one file that is replaced whole.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written.
    """
    state = {
        name: tensor.detach().to("cpu").contiguous() for name, tensor in model.state_dict().items()
    }
    header = {"format_version": STATE_FORMAT_VERSION, "config": model.config.to_dict()}
    replace_file(Path(path), save(state, {_METADATA_KEY: json.dumps(header, sort_keys=True)}))


def read_state_model(path: str | Path) -> StateModel:
    """Read a model that `write_state_model` wrote, on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of another format or a newer version, or its tensors do not fit.
    """
    try:
        with safe_open(Path(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, got a truncated or damaged one ({error})"
        ) from error
    if _METADATA_KEY not in metadata:
        raise ValueError(
            f"{path}: expected a model of states, got safetensors without its metadata"
        )
    try:
        return model_of_state(_config_of(metadata[_METADATA_KEY]), state)
    # A value of a wrong type in the JSON surfaces in the checks of the dataclass.
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _config_of(text: str) -> StateConfig:
    header = json.loads(text)
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != STATE_FORMAT_VERSION:
        raise ValueError(f"expected format version {STATE_FORMAT_VERSION}, got {version}")
    return StateConfig.from_dict(header.get("config", {}))
