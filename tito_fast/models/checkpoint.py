"""Our model file: safetensors with the configuration and the facts inside.

One entry of the file's metadata, ``tito_fast``, is JSON with ``format_version``, ``config``, ``info``
and ``hash``. One entry, for the library writes several in an order that changes from run to run.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.models.tito.network import TitoNetwork

FORMAT_VERSION: Final = 1
_METADATA_KEY: Final = "tito_fast"
_N_NAMED: Final = 5


def model_hash(model: TitoModel) -> str:
    """Return the SHA-256 of configuration, facts and weights, as 64 hexadecimal digits.

    Notes
    -----
    Equal for a model and what is loaded from its file, on any device. Copies the weights to the CPU.
    """
    return _content_hash(model.config_dict(), model.info, model.network.state_dict())


def write_checkpoint(model: TitoModel, path: str | Path) -> None:
    """Write ``model`` as safetensors; the file is there whole or not at all.

    Parameters
    ----------
    model : TitoModel
        Weights of any device; float32 or float64.
    path : str or Path
        Replaced if it is there.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    OSError
        If the disk is full or the folder is not writable; an earlier file is then unchanged.
    """
    target = Path(path)
    state = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in model.network.state_dict().items()
    }
    header = {
        "format_version": FORMAT_VERSION,
        "config": model.config_dict(),
        "info": model.info.to_dict(),
        "hash": _content_hash(model.config_dict(), model.info, state),
    }
    _replace_file(target, save(state, {_METADATA_KEY: _canonical_json(header)}))


def read_checkpoint(path: str | Path, *, device: torch.device | str = "cpu") -> TitoModel:
    """Read a model that ``write_checkpoint`` wrote.

    Parameters
    ----------
    path : str or Path
    device : torch.device or str
        Where the weights go.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of another format or a newer version, or its tensors are not those of
        its configuration.
    """
    target = Path(path)
    try:
        with safe_open(target, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, got a truncated or damaged one ({error})"
        ) from error
    try:
        header = _header(metadata)
        info = ModelInfo.from_dict(header["info"])
        model = _model(header["config"], info, state)
    # A value of a wrong type in the JSON surfaces in the checks of the dataclasses.
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if header.get("hash") != _content_hash(model.config_dict(), info, state):
        raise ValueError(
            f"{path}: expected content with the hash that it states, got another; "
            "the file was damaged or changed"
        )
    return model.to(device=device)


def _model(values: dict[str, Any], info: ModelInfo, state: Mapping[str, Tensor]) -> TitoModel:
    if "kind" in values:
        # It needs network_from_state.
        from tito_fast.models.bopito.checkpoint import model_from_content  # noqa: PLC0415

        return model_from_content(values, info, state)
    config = TitoConfig.from_dict(values)
    return TitoModel(config, info, network_from_state(config, state))


def network_from_state(config: TitoConfig, state: Mapping[str, Tensor]) -> TitoNetwork:
    """Return the network of ``config`` with the weights ``state``, which it takes over.

    Parameters
    ----------
    config : TitoConfig
    state : mapping of str to Tensor
        Names and shapes of ``TitoNetwork(config).state_dict()``; all float32 or all float64, finite.

    Raises
    ------
    ValueError
        If tensors are missing, unknown, of another shape, or not finite; each kind is named.
    TypeError
        If their type is neither float32 nor float64, or not the same for all.
    """
    # Building layers takes time for each, so a false number of them is refused first.
    if config.n_embedding_layers + config.n_model_layers > len(state):
        raise ValueError(
            f"config: expected layers for {len(state)} tensors, got "
            f"{config.n_embedding_layers} + {config.n_model_layers} layers"
        )
    # Even shapes without storage overflow, so a false width is refused as well.
    largest = max((tensor.numel() for tensor in state.values()), default=0)
    width = max(config.n_features, config.n_reduced_features or 0)
    if width > largest:
        raise ValueError(
            f"config: expected features for tensors of at most {largest} values, got {width}"
        )
    with torch.device("meta"), _NoInitialValues():
        network = TitoNetwork(config)
    expected = network.state_dict()
    _check_names_and_shapes(expected, state)
    dtypes = {tensor.dtype for tensor in state.values()}
    if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
        names = sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"weights: expected float32 or float64 throughout, got {', '.join(names)}")
    not_finite = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if not_finite:
        raise ValueError(f"weights: expected finite values, got others in {_listed(not_finite)}")
    network.load_state_dict(state, strict=True, assign=True)
    return network


class _NoInitialValues(TorchFunctionMode):
    """Leaves parameters without storage as they are.

    Drawing normals for them would import torch's compiler, which takes a second.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401  torch's interface
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        named = kwargs or {}
        if func is nn.init.normal_:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def _check_names_and_shapes(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    if missing or unknown:
        parts = [f"without {_listed(missing)}"] * bool(missing)
        parts += [f"with {_listed(unknown)}"] * bool(unknown)
        raise ValueError(f"weights: expected those of the configuration, got {' and '.join(parts)}")
    other = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if state[name].shape != tensor.shape
    ]
    if other:
        raise ValueError(f"weights: expected the shapes of the configuration, got {_listed(other)}")


def _listed(names: list[str]) -> str:
    more = len(names) - _N_NAMED
    return ", ".join(names[:_N_NAMED]) + (f" and {more} more" if more > 0 else "")


def _header(metadata: Mapping[str, str]) -> dict[str, Any]:
    if _METADATA_KEY not in metadata:
        raise ValueError(
            "expected a model of tito_fast, got safetensors without its metadata; "
            "convert released checkpoints with tito-fast convert"
        )
    try:
        header = json.loads(metadata[_METADATA_KEY])
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON in the metadata, got none ({error})") from error
    if not isinstance(header, dict) or not isinstance(header.get("format_version"), int):
        raise ValueError("expected a format version in the metadata, got none")  # noqa: TRY004
    if header["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"expected format version {FORMAT_VERSION}, got {header['format_version']}; "
            "the file comes from another version of tito_fast"
        )
    for name in ("config", "info"):
        if not isinstance(header.get(name), dict):
            raise ValueError(f"expected {name} in the metadata, got none")  # noqa: TRY004
    return header


def _content_hash(config: Mapping[str, Any], info: ModelInfo, state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    digest.update(_canonical_json({"config": config, "info": info.to_dict()}).encode())
    for name in sorted(state):
        tensor = state[name].detach().to("cpu").contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _canonical_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _replace_file(target: Path, data: bytes) -> None:
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path: expected an existing folder, got {target.parent}")
    # In the same folder, so that the last step is a rename, which is atomic.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
