"""A recording as its file has it: opened safely, and read with every shape and range checked."""

import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.checkpoint import network_from_state
from tito_fast.models.lightning_checkpoint import released_checkpoint
from tito_fast.models.released_names import released_config_to_tito, state_dict_to_ours
from tito_fast.models.tito.config import ModelInfo
from tito_fast.models.tito.layers import N_ATOM_TYPES, N_BOND_TYPES
from tito_fast.models.tito.model import TitoModel
from tito_fast.types import Backend
from tito_fast.units import LENGTH_UNITS_NM
from tito_fast.validation import check_batch_ptr, check_shape

DTYPES: Final = {"float64": torch.float64, "float32": torch.float32}
"""Floating types that recordings hold, by the name of their section."""

_PREFIX: Final = "tito-golden-"

# Damage makes torch's unpickler stumble in as many ways as there are opcodes: found by flipping bytes.
_LOAD_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """How a recording is replayed."""

    backend: Backend
    dtypes: tuple[str, ...]
    device: torch.device


class Section:
    """A dictionary of a recording, with checked access; a key with the value None counts as absent.

    Parameters
    ----------
    content : mapping
    path : str
        Keys that lead here, for messages.
    """

    def __init__(self, content: Mapping[Any, Any], path: str = "") -> None:
        self._content = content
        self._path = path

    def __contains__(self, key: str) -> bool:
        return self._content.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return (str(key) for key, value in self._content.items() if value is not None)

    def section(self, key: str) -> "Section":
        """Return the dictionary under ``key``."""
        value = self._get(key)
        if not isinstance(value, Mapping):
            raise self._wrong(key, "a dictionary", value)
        return Section(value, self._at(key))

    def tensor(self, key: str, *shape: int | str) -> Tensor:
        """Return the tensor under ``key``; ``shape`` as for ``check_shape``, empty: any."""
        value = self._get(key)
        if not isinstance(value, Tensor):
            raise self._wrong(key, "a tensor", value)
        if shape:
            check_shape(self._at(key), value, shape)
        return value

    def integers(self, key: str, *shape: int | str, below: int | None = None) -> Tensor:
        """Return the tensor under ``key`` as int64; with ``below``, checked to be in 0 … below − 1."""
        value = self.tensor(key, *shape)
        if value.is_floating_point() or value.is_complex():
            raise self._wrong(key, "whole numbers", value)
        value = value.to(torch.int64)
        if below is not None and value.numel() and not 0 <= value.min() <= value.max() < below:
            raise ValueError(
                f"{self._at(key)}: expected values from 0 to {below - 1}, "
                f"got {int(value.min())} to {int(value.max())}"
            )
        return value

    def tensors(self, key: str) -> dict[str, Tensor]:
        """Return the dictionary of tensors under ``key``."""
        inner = self.section(key)
        return {name: inner.tensor(name) for name in inner}

    def number(self, key: str, default: float | None = None) -> float:
        """Return the number under ``key``; ``default``, if there is one, where it is absent."""
        if default is not None and key not in self:
            return default
        value = self._get(key)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number", value)
        return float(value)

    def count(self, key: str) -> int:
        """Return the whole number above zero under ``key``."""
        value = self.number(key)
        if value < 1 or value != int(value):
            raise ValueError(f"{self._at(key)}: expected a whole number above zero, got {value:g}")
        return int(value)

    def as_mapping(self) -> Mapping[Any, Any]:
        """Return the dictionary itself."""
        return self._content

    def raw(self, key: str) -> Any:  # noqa: ANN401  whatever the file has
        """Return what is under ``key``."""
        return self._get(key)

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _get(self, key: str) -> Any:  # noqa: ANN401  whatever the file has
        if key not in self:
            raise ValueError(
                f"{self._at(key)}: expected in the recording, got none; the file is incomplete"
            )
        return self._content[key]

    def _wrong(self, key: str, expected: str, value: object) -> ValueError:
        got = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
        return ValueError(f"{self._at(key)}: expected {expected}, got {got}")


class NotARecordingError(ValueError):
    """A file that exists is no recording: damaged, or something else."""


def open_recording(path: Path) -> Section:
    """Return the content of ``path``; nothing in it is executed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    NotARecordingError
        If the file is damaged or holds something else.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{path}: expected a recording, got {what}")
    try:
        # Its one warning is about damage in the header of the pickle.
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except _LOAD_ERRORS as error:
        raise NotARecordingError(
            f"{path}: expected a recording of plain tensors, got a file that is truncated, damaged or "
            "of another kind"
        ) from error
    if not isinstance(content, Mapping) or not str(content.get("format", "")).startswith(_PREFIX):
        raise NotARecordingError(
            f"{path}: expected a recording with a format {_PREFIX}…, got one without"
        )
    return Section(content)


def recorded_dtypes(recording: Section, requested: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of ``requested`` that the recording has sections for; all, if none are requested.

    Raises
    ------
    ValueError
        If there are none.
    """
    present = tuple(name for name in DTYPES if name in recording)
    chosen = tuple(name for name in present if not requested or name in requested)
    if not chosen:
        raise ValueError(
            f"dtype: expected one that is recorded ({', '.join(present) or 'none is'}), "
            f"got {', '.join(requested) or 'none'}"
        )
    return chosen


def read_batch(inputs: Section) -> MoleculeBatch:
    """Return the molecules of ``inputs``: ``node_type``, ``ptr`` or ``batch``, bonds."""
    atomic_numbers = inputs.integers("node_type", "n_atoms", below=N_ATOM_TYPES)
    n_atoms = atomic_numbers.shape[0]
    batch_ptr = _batch_ptr(inputs, n_atoms)
    sizes = tuple(int(size) for size in batch_ptr.diff())
    bond_index = inputs.integers("bond_index", 2, "n_bonds", below=n_atoms)
    bond_type = inputs.integers("bond_type", bond_index.shape[1], below=N_BOND_TYPES)
    batch = MoleculeBatch(
        atomic_numbers=atomic_numbers,
        batch_ptr=batch_ptr,
        bond_index=bond_index,
        bond_type=bond_type,
        sizes=sizes,
    )
    first, second = batch.batch_idx[bond_index]
    if bool((first != second).any()) or bool((bond_index[0] == bond_index[1]).any()):
        raise ValueError(
            "inputs.bond_index: expected bonds between two atoms of one molecule, got others"
        )
    return batch


def per_molecule(inputs: Section, key: str, n_molecules: int) -> Tensor:
    """Return the values under ``key``, recorded as (n_molecules,) or (n_molecules, 1), as the former."""
    values = inputs.tensor(key)
    if values.ndim == 2:
        values = inputs.tensor(key, n_molecules, 1).squeeze(1)
    check_shape(f"inputs.{key}", values, (n_molecules,))
    return values


def read_temperature(inputs: Section, model: TitoModel, n_molecules: int) -> Tensor | None:
    """Return the temperatures; None for a model that takes none, whatever the recording has."""
    if not model.config.has_temperature:
        return None
    return per_molecule(inputs, "temperature", n_molecules)


def read_vectors(recording: Section, *shape: int | str) -> Tensor:
    """Return ``equivariant_noise``, recorded feature before xyz, as (..., n_atoms, 3, n_features)."""
    return recording.tensor("equivariant_noise", *shape).swapaxes(-1, -2).contiguous()


def read_model(recording: Section, *, dtype: str, device: torch.device) -> TitoModel:
    """Return a new model with the recorded weights: ``state_dict`` and ``config``, or ``checkpoint``."""
    if "state_dict" not in recording and "checkpoint" in recording:
        content = recording.section("checkpoint").as_mapping()
    else:
        content = {"state_dict": recording.tensors("state_dict"), "config": recording.raw("config")}
    released = released_checkpoint(content)
    config = released_config_to_tito(released.config)
    # A copy: training must not change what was recorded.
    weights = {name: w.clone() for name, w in state_dict_to_ours(released.state_dict).items()}
    model = TitoModel(config, model_info(recording), network_from_state(config, weights))
    return model.to(device=device, dtype=DTYPES[dtype])


def model_info(recording: Section) -> ModelInfo:
    """Return the facts of a recorded model; recordings are in model units, so the unit changes nothing."""
    return ModelInfo(length_unit_nm=1 / recording.number("length_unit_factor", _MDQM9_FACTOR))


_MDQM9_FACTOR: Final = 1 / LENGTH_UNITS_NM["mdqm9"]


def _batch_ptr(inputs: Section, n_atoms: int) -> Tensor:
    if "ptr" in inputs:
        batch_ptr = inputs.integers("ptr", "n_molecules + 1")
        check_batch_ptr(batch_ptr, n_atoms)
        return batch_ptr
    batch_idx = inputs.integers("batch", n_atoms)
    if batch_idx.numel() and (batch_idx[0] < 0 or bool((batch_idx.diff() < 0).any())):
        raise ValueError("inputs.batch: expected numbers of molecules that never fall, got others")
    return torch.cat([torch.zeros(1, dtype=torch.int64), batch_idx.bincount().cumsum(0)])
