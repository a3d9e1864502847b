"""Reads the zip files that ``torch.save`` writes without executing anything that they hold.

A pickle may name any function of any package. Here a name is looked up in one fixed table, whose
entries are inert: stand-in classes that keep attributes and do nothing, and constructors of records
that describe tensors. Nothing that a pickle can reach has state that outlives the reading.
"""

import math
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

import torch
from torch import Tensor

# A pickle of a module with F = 32 has 0.2 MB whatever the size of its tensors, which lie beside it.
_MAX_PICKLE_BYTES: Final = 64 * 2**20
# Parameters and optimizer states have one or two.
_MAX_DIMENSIONS: Final = 8
# Start of what torch wrote before version 1.6: a pickled magic number, no zip.
_LEGACY_START: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"

_STORAGE_DTYPES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

_STAND_IN_NAMES: Final = {
    "bopito.models.cpainn": (
        *("EquivariantLinear", "Message", "PaiNNBase", "PaiNNBoPITOScore", "PaiNNScore"),
        *("PaiNNTLScore", "Readout", "Update"),
    ),
    "bopito.models.embedding": (
        *("AddEquivariantFeatures", "AddSpatialEdgeFeatures", "CombineInvariantFeatures", "MLP"),
        *("NominalEmbedding", "PositionalEmbedding", "PositionalEncoder"),
    ),
    "ito.model.cpainn": ("PaiNNTLScore",),
    "tito.models.embedding": (
        "AddEquivariantFeatures",
        "CombineInvariantFeatures",
        "EdgeEmbedding",
        "MLP",
        "NodeEmbedding",
        "PositionalEmbedding",
        "PositionalEncoder",
    ),
    "tito.models.graph": ("AddBondGraph", "AddRadiusGraph", "AddSpatialFeatures"),
    "tito.models.painn": ("EquivariantLinear", "Painn", "Readout", "SE3Message", "Update"),
    "tito.models.velocity": ("PainnCondVelocity",),
    "tito.utils.timer": ("Timer",),
    "torch.nn.modules.activation": ("SiLU",),
    "torch.nn.modules.container": ("Sequential",),
    "torch.nn.modules.linear": ("Identity", "Linear"),
    "torch.nn.modules.normalization": ("LayerNorm",),
    "torch.nn.modules.sparse": ("Embedding",),
}
# Only models with a bottleneck or a virtual node have these; their module is not recorded.
_OPTIONAL_NAMES: Final = ("Reducer", "AddVirtualNode", "AddVirtualGraph")
_OPTIONAL_MODULES: Final = ("tito.models.embedding", "tito.models.graph", "tito.models.painn")

# What protocols 2 to 5 write for dictionaries, lists, plain values and objects. Left out: INST, OBJ
# and NEWOBJ_EX, the extension registry, identifiers as text, buffers outside the file.
# fmt: off
_ALLOWED_OPERATIONS: Final = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE",
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING", "EMPTY_LIST",
    "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT",
    "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "BINGET", "LONG_BINGET", "BINPUT",
    "LONG_BINPUT", "MEMOIZE", "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID",
))
# fmt: on
_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    UnicodeDecodeError,
)
_UNPICKLING_ERRORS: Final = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    ValueError,
)


class _Sealed:
    """Base of what a pickle may touch: it has no attributes that a pickle could set."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError(f"it sets the state of a {type(self).__name__}")


class StandIn(_Sealed):
    """An object of a class that is not imported: its name and its attributes, without behavior."""

    __slots__ = ("attributes",)

    attributes: Mapping[str, Any]

    def __new__(cls) -> "StandIn":
        """Return an object without attributes: a pickle makes objects without ``__init__``."""
        self = super().__new__(cls)
        self.attributes = MappingProxyType({})
        return self

    def __setstate__(self, state: object) -> None:  # type: ignore[override]
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError(f"the attributes of a {type(self).__name__} have no names")
        self.attributes = MappingProxyType(dict(state))

    def child(self, *names: str) -> "StandIn | None":
        """Return the submodule that ``names`` lead to, or None where there is none."""
        found: object = self
        for name in names:
            modules = found.attributes.get("_modules") if isinstance(found, StandIn) else None
            found = modules.get(name) if isinstance(modules, dict) else None
        return found if isinstance(found, StandIn) else None


class _PlainDict(dict[Any, Any]):
    """Stands for ``collections.OrderedDict``; attributes (torch's ``_metadata``) are dropped."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class _StorageType(_Sealed):
    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Storage(_Sealed):
    __slots__ = ("dtype", "key", "n_elements")

    def __init__(self, key: str, dtype: torch.dtype, n_elements: int) -> None:
        self.key = key
        self.dtype = dtype
        self.n_elements = n_elements


class TensorRecord(_Sealed):
    """A tensor as a pickle describes it: checked against its storage, not yet read."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides


class _RebuildTensor(_Sealed):
    """Stands for ``torch._utils._rebuild_tensor_v2``."""

    __slots__ = ()

    # The arguments are torch's: requires_grad, hooks and metadata are of no use here.
    def __call__(
        self, storage: object, offset: object, size: object, stride: object, *_: object
    ) -> TensorRecord:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor without a storage")
        shape, strides = _sizes("size", size), _sizes("stride", stride)
        (start,) = _sizes("offset", (offset,))
        if len(shape) != len(strides):
            raise pickle.UnpicklingError(f"a tensor with size {shape} and stride {strides}")
        n_elements = math.prod(shape)
        last = start + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        # Larger than its storage means repeated elements: no parameter has them.
        if n_elements and (last >= storage.n_elements or n_elements > storage.n_elements):
            raise pickle.UnpicklingError(
                f"a tensor with size {shape}, stride {strides} and offset {start} "
                f"outside its storage of {storage.n_elements} elements"
            )
        return TensorRecord(storage, start, shape, strides)


class _RebuildParameter(_Sealed):
    """Stands for ``torch._utils._rebuild_parameter``: a parameter is its tensor."""

    __slots__ = ()

    def __call__(self, data: object, *_: object) -> TensorRecord:
        if not isinstance(data, TensorRecord):
            raise pickle.UnpicklingError("a parameter without a tensor")
        return data


def _sizes(name: str, values: object) -> tuple[int, ...]:
    if (
        not isinstance(values, tuple)
        or len(values) > _MAX_DIMENSIONS
        or not all(type(value) is int and 0 <= value < 2**63 for value in values)
    ):
        raise pickle.UnpicklingError(f"a tensor or storage with an impossible {name}")
    return values


def _allowed_globals() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        (module, name): type(name, (StandIn,), {"__slots__": (), "__module__": module})
        for module, names in _STAND_IN_NAMES.items()
        for name in names
    }
    for module in _OPTIONAL_MODULES:
        for name in _OPTIONAL_NAMES:
            table[module, name] = type(name, (StandIn,), {"__slots__": (), "__module__": module})
    for name, dtype in _STORAGE_DTYPES.items():
        table["torch", name] = table["torch.cuda", name] = _StorageType(dtype)
    table["torch._utils", "_rebuild_tensor_v2"] = _RebuildTensor()
    table["torch._utils", "_rebuild_parameter"] = _RebuildParameter()
    table["collections", "OrderedDict"] = _PlainDict
    table["__builtin__", "set"] = table["builtins", "set"] = set
    return table


_ALLOWED_GLOBALS: Final = MappingProxyType(_allowed_globals())


class _RefusedGlobalError(pickle.UnpicklingError):
    """A global outside the table."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, storage_bytes: Mapping[str, int]) -> None:
        super().__init__(BytesIO(data))
        self._storage_bytes = storage_bytes

    def find_class(self, module: str, name: str) -> object:
        found = _ALLOWED_GLOBALS.get((module, name))
        if found is None:
            raise _RefusedGlobalError(f"{module}.{name}")
        return found

    def persistent_load(self, pid: object) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("a reference to something that is not a storage")
        # The fourth is the device that it was on; everything is read onto the CPU.
        _, kind, key, _, n_elements = pid
        if not isinstance(kind, _StorageType) or type(key) is not str:
            raise pickle.UnpicklingError("a storage without a known type and key")
        (count,) = _sizes("number of elements", (n_elements,))
        have = self._storage_bytes.get(key)
        if have != count * kind.dtype.itemsize:
            raise pickle.UnpicklingError(
                f"storage {key[:20]!r} of {count * kind.dtype.itemsize} bytes "
                f"where the file holds {have}"
            )
        return _Storage(key, kind.dtype, count)


def _check_operations(data: bytes) -> None:
    """Refuse operations that no tensor file needs, and globals where they stand in plain sight."""
    for n_before, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name not in _ALLOWED_OPERATIONS:
            raise pickle.UnpicklingError(f"the operation {operation.name}")
        # The memo of the C unpickler grows to twice the index, whatever the index is.
        if operation.name == "LONG_BINPUT" and int(argument or 0) > n_before:
            raise pickle.UnpicklingError(f"memo index {argument}")
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            if (module, name) not in _ALLOWED_GLOBALS:
                raise _RefusedGlobalError(f"{module}.{name}")


class TorchZip:
    """A file of ``torch.save``, open for reading.

    Parameters
    ----------
    path : Path
        Of the zip format (torch 1.6 and later).

    Raises
    ------
    ValueError
        If the file is not of this format, is damaged, or holds anything but plain values, tensors
        and the classes of a released network of TITO, ITO or BoPITO.

    Notes
    -----
    Holds no open file: ``tensors`` opens it again. ``content`` has a ``TensorRecord`` in place of
    each tensor and a ``StandIn`` in place of each module.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._check_start()
        try:
            with zipfile.ZipFile(path) as archive:
                self._read_directory(archive)
                pickled = archive.read(f"{self._prefix}/data.pkl")
        except _ZIP_ERRORS as error:
            raise self._refusal(
                "a torch checkpoint", f"a truncated or damaged zip ({error})"
            ) from error
        self.content = self._unpickle(pickled)

    def tensors(self, records: Mapping[str, TensorRecord]) -> dict[str, Tensor]:
        """Return the tensors that ``records`` describe: on the CPU, contiguous, unshared."""
        n_bytes = sum(math.prod(r.shape) * r.storage.dtype.itemsize for r in records.values())
        if n_bytes > sum(self._storage_bytes.values()):
            raise self._refusal("tensors of their own", "tensors that share one storage many times")
        try:
            with zipfile.ZipFile(self.path) as archive:
                return {name: self._tensor(archive, record) for name, record in records.items()}
        except _ZIP_ERRORS as error:
            raise self._refusal(
                "a torch checkpoint", f"a truncated or damaged zip ({error})"
            ) from error

    def _tensor(self, archive: zipfile.ZipFile, record: TensorRecord) -> Tensor:
        storage = record.storage
        if math.prod(record.shape) == 0:
            return torch.empty(record.shape, dtype=storage.dtype)
        data = bytearray(archive.read(f"{self._prefix}/data/{storage.key}"))
        flat = torch.frombuffer(data, dtype=storage.dtype)
        return flat.as_strided(record.shape, record.strides, record.offset).clone(
            memory_format=torch.contiguous_format
        )

    def _refusal(self, expected: str, got: str) -> ValueError:
        return ValueError(f"{self.path}: expected {expected}, got {got}")

    def _check_start(self) -> None:
        with self.path.open("rb") as file:
            start = file.read(len(_LEGACY_START))
        if not start:
            raise self._refusal("a torch checkpoint", "an empty file")
        if start.startswith(_LEGACY_START):
            raise self._refusal(
                "a torch checkpoint in zip format",
                "the format of torch before 1.6; load it in torch and save it with torch.save",
            )
        if not start.startswith(b"PK\x03\x04"):
            raise self._refusal("a torch checkpoint", f"a file that starts with {start[:8]!r}")

    def _read_directory(self, archive: zipfile.ZipFile) -> None:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(entries) != len(archive.infolist()):
            raise self._refusal("a torch checkpoint", "a zip of something else")
        self._prefix = pickles[0].removesuffix("/data.pkl")
        # torch stores without compression: so no entry is larger than the file.
        if (
            any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1 for e in entries.values())
            or sum(entry.file_size for entry in entries.values()) > self.path.stat().st_size
        ):
            raise self._refusal(
                "a torch checkpoint", "a zip with compressed, encrypted or overlapping entries"
            )
        if entries[pickles[0]].file_size > _MAX_PICKLE_BYTES:
            raise self._refusal(
                f"a pickle of at most {_MAX_PICKLE_BYTES} bytes", f"{entries[pickles[0]].file_size}"
            )
        order = f"{self._prefix}/byteorder"
        if order in entries and archive.read(order) != b"little":
            raise self._refusal("little-endian numbers", f"{archive.read(order)[:20]!r}")
        data = f"{self._prefix}/data/"
        self._storage_bytes = {
            name.removeprefix(data): entry.file_size
            for name, entry in entries.items()
            if name.startswith(data)
        }

    def _unpickle(self, data: bytes) -> object:
        what = "plain values, tensors and the classes of a released TITO network"
        try:
            _check_operations(data)
            return _Unpickler(data, self._storage_bytes).load()
        except _RefusedGlobalError as error:
            raise self._refusal(
                what, f"the global {str(error)[:200]}; nothing in the file was executed"
            ) from error
        except _UNPICKLING_ERRORS as error:
            raise self._refusal(
                what, f"{str(error)[:300]}; nothing in the file was executed"
            ) from error
