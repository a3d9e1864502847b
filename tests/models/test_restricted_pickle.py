import os
import pickle
import random
import struct
import zipfile

import pytest
import torch

from tito_fast.models import restricted_pickle
from tito_fast.models.restricted_pickle import StandIn, TensorRecord, TorchZip

STORAGE = {"0": struct.pack("<6f", *range(6))}


class _Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.pair = (function, arguments)

    def __reduce__(self):
        return self.pair


def _text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value):
    data = pickle.encode_long(value) or b"\0"
    return b"\x8a" + bytes([len(data)]) + data


def _tuple(*parts):
    return b"(" + b"".join(parts) + b"t"


def _global(module, name):
    return f"c{module}\n{name}\n".encode()


def _storage(*, kind=None, key="0", n_elements=6, tag="storage", device="cpu"):
    parts = [_text(tag), kind or _global("torch", "FloatStorage"), _text(key), _text(device)]
    return _tuple(*parts, _integer(n_elements)) + b"Q"


def _tensor(storage=None, *, offset=0, size=(2, 3), stride=(3, 1)):
    sizes = [_tuple(*map(_integer, values)) for values in (size, stride)]
    hooks = _global("collections", "OrderedDict") + b")R"
    arguments = _tuple(storage or _storage(), _integer(offset), *sizes, b"\x89", hooks)
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def _pickled(body):
    return b"\x80\x02" + body + b"."


def _open(released, tmp_path, body, storages=None):
    path = released.write_torch_zip(tmp_path / "made.ckpt", _pickled(body), storages or STORAGE)
    return TorchZip(path)


LINEAR = _global("torch.nn.modules.linear", "Linear")
REBUILD = _global("torch._utils", "_rebuild_tensor_v2")


def test_content_and_tensors_are_those_that_were_saved(released, tmp_path):
    saved = {
        str(dtype): torch.arange(6).reshape(2, 3).to(dtype)
        for dtype in (
            torch.float64, torch.float32, torch.float16, torch.bfloat16,
            torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
        )
    }  # fmt: skip
    base = torch.arange(24.0)
    saved |= {
        "transposed": base.reshape(4, 6).T[1:, ::2],
        "empty": torch.zeros(0, 3),
        "scalar": base[5],
    }
    saved["parameter"] = torch.nn.Parameter(torch.ones(3))
    path = released.write_released(
        tmp_path / "a.pt", {"tensors": saved, "values": [1, 2.5, None, "a", {3}]}
    )
    archive = TorchZip(path)
    assert archive.content["values"] == [1, 2.5, None, "a", {3}]
    loaded = archive.tensors(archive.content["tensors"])
    assert set(loaded) == set(saved)
    for name, tensor in saved.items():
        assert loaded[name].dtype == tensor.dtype, name
        assert torch.equal(loaded[name], tensor.detach()), name
        assert loaded[name].is_contiguous()
        assert not loaded[name].requires_grad


def test_modules_become_stand_ins_with_their_attributes(released, tmp_path):
    module = released.released_module(released.CONFIG)
    path = released.write_released(tmp_path / "a.ckpt", module)
    stand_in = TorchZip(path).content
    assert isinstance(stand_in, StandIn)
    assert not isinstance(stand_in, torch.nn.Module)
    assert type(stand_in).__name__ == "PainnCondVelocity"
    assert type(stand_in).__module__ == "tito.models.velocity"
    assert stand_in.attributes["config"] == released.CONFIG
    linear = stand_in.child("embed", "4", "layers", "0", "phi", "mlp", "0")
    assert type(linear).__name__ == "Linear"
    assert linear.attributes["in_features"] == 16
    assert isinstance(linear.attributes["_parameters"]["weight"], TensorRecord)
    assert stand_in.child("embed", "17") is None


def test_tensors_of_a_cuda_checkpoint_come_to_the_cpu(released, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:3")
    tensor = torch.arange(5.0)
    path = released.write_released(tmp_path / "a.pt", {"a": tensor})
    assert b"cuda:3" in path.read_bytes()
    archive = TorchZip(path)
    assert torch.equal(archive.tensors(archive.content)["a"], tensor)


def test_hand_written_tensor_is_read(released, tmp_path):
    body = _tensor(
        _storage(kind=_global("torch.cuda", "FloatStorage"), device="cuda:0"),
        size=(3, 2),
        stride=(1, 3),
    )
    archive = _open(released, tmp_path, body)
    expected = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(archive.tensors({"a": archive.content})["a"], expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_function_call_is_refused_and_not_made(released, tmp_path, protocol):
    marker = tmp_path / "executed"
    payload = {"state_dict": _Call(os.system, f"touch {marker}")}
    path = released.write_torch_zip(tmp_path / "a.ckpt", pickle.dumps(payload, protocol=protocol))
    with pytest.raises(
        ValueError, match=r"got the global \w+\.system; nothing in the file was executed"
    ):
        TorchZip(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(payload, protocol=protocol))  # noqa: S301  shows that the payload works
    assert marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch.storage", "UntypedStorage"),
        ("torch.nn.modules.linear", "Linear.__init__"),
        ("collections", "OrderedDict.fromkeys"),
        ("tito.models.velocity", "Linear"),
        ("", ""),
    ],
)
def test_every_other_global_is_refused_by_name(released, tmp_path, module, name):
    for body in (_global(module, name), _text(module) + _text(name) + b"\x93"):
        with pytest.raises(ValueError, match=rf"got the global {module}\.{name}; nothing") as error:
            _open(released, tmp_path, body)
        assert "a released TITO network" in str(error.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        # A state for what is not an object: would change a function or a class for the whole process.
        (REBUILD + b"N}" + _text("__defaults__") + b"Ns\x86b", "sets the state of a _RebuildTensor"),
        (REBUILD + b"}" + _text("a") + b"Nsb", "sets the state of a _RebuildTensor"),
        (_global("torch", "FloatStorage") + b"}b", "sets the state of a _StorageType"),
        (_tensor() + b"N]\x86b", "sets the state of a TensorRecord"),
        (LINEAR + b"}" + _text("child") + b"Nsb", "missing 1 required positional argument"),
        (LINEAR + b"N}" + _text("child") + b"Ns\x86b", "missing 1 required positional argument"),
        (_global("collections", "OrderedDict") + b"}" + _text("a") + b"Nsb", "missing 1 required"),
        (_global("builtins", "set") + b"N}" + _text("a") + b"Ns\x86b", "nothing in the file was executed"),
        (LINEAR + b")\x81]b", "attributes of a Linear have no names"),
        (LINEAR + b")\x81}K\x01Nsb", "attributes of a Linear have no names"),
        (LINEAR + b")\x81N}\x86b", "attributes of a Linear have no names"),
        (LINEAR + b"K\x01\x85\x81", "nothing in the file was executed"),
        (LINEAR + b"K\x01\x85R", "nothing in the file was executed"),
        (REBUILD + b")\x81", "nothing in the file was executed"),
        (_global("torch", "FloatStorage") + b")R", "nothing in the file was executed"),
        (_text("a") + b")R", "nothing in the file was executed"),
        (_global("torch._utils", "_rebuild_parameter") + _tuple(b"N", b"\x88", b"N") + b"R", "without a tensor"),
        # Operations that no such file needs.
        (b"\x82\x01", "the operation EXT1"),
        (b"P0\n", "the operation PERSID"),
        (b"(i__main__\nA\n", "the operation INST"),
        (b"(" + LINEAR + b"o", "the operation OBJ"),
        (b"\x96" + struct.pack("<Q", 2**60), "nothing in the file was executed"),
        # Sizes that would take all memory.
        (b"Nr" + struct.pack("<I", 2**31), "memo index 2147483648"),
        (b"\x8d" + struct.pack("<Q", 2**62), "nothing in the file was executed"),
        (b"X" + struct.pack("<I", 2**31), "nothing in the file was executed"),
        (b"\x95" + struct.pack("<Q", 2**61) + b"N", "nothing in the file was executed"),
        # No pickle at all.
        (b"", "nothing in the file was executed"),
        (b"\xff\xff", "nothing in the file was executed"),
        (b"(((", "nothing in the file was executed"),
        (b"h\x05", "nothing in the file was executed"),
        (b"}]Ns", "nothing in the file was executed"),
    ],
)  # fmt: skip
def test_tricks_with_allowed_globals_are_refused(released, tmp_path, body, message):
    with pytest.raises(ValueError, match=message) as error:
        _open(released, tmp_path, body)
    assert "made.ckpt: expected plain values, tensors" in str(error.value)


def test_attributes_of_a_stand_in_are_data_only(released, tmp_path):
    names = ("__class__", "__setstate__", "attributes", "child", "__reduce__")
    state = b"}(" + b"".join(_text(name) + REBUILD for name in names) + b"u"
    stand_in = _open(released, tmp_path, LINEAR + b")\x81" + state + b"b").content
    assert set(stand_in.attributes) == set(names)
    assert type(stand_in).__name__ == "Linear"
    assert stand_in.child("a") is None
    with pytest.raises(AttributeError):
        stand_in.other = 1


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (_text("0") + b"Q", "not a storage"),
        (b"NQ", "not a storage"),
        (_tuple(_text("storage")) + b"Q", "not a storage"),
        (_storage(tag="module"), "not a storage"),
        (_storage(kind=LINEAR), "without a known type and key"),
        (_storage(kind=_text("FloatStorage")), "without a known type and key"),
        (_storage(key="1"), "storage '1' of 24 bytes where the file holds None"),
        (_storage(key="../data.pkl"), "where the file holds None"),
        (_storage(n_elements=7), "storage '0' of 28 bytes where the file holds 24"),
        (_storage(n_elements=5), "storage '0' of 20 bytes where the file holds 24"),
        (_storage(n_elements=-6), "impossible number of elements"),
        (_storage(n_elements=2**63), "impossible number of elements"),
        (_storage(kind=_global("torch", "DoubleStorage")), "48 bytes where the file holds 24"),
        (_storage()[:-7] + b"\x88tQ", "nothing in the file was executed"),
    ],
)
def test_odd_storages_are_refused(released, tmp_path, storage, message):
    with pytest.raises(ValueError, match=message):
        _open(released, tmp_path, _tensor(storage))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"offset": 1}, "offset 1 outside its storage of 6 elements"),
        ({"offset": 2**62}, "outside its storage"),
        ({"offset": -1}, "impossible offset"),
        ({"size": (3, 3)}, r"size \(3, 3\).* outside its storage"),
        ({"size": (2, -3)}, "impossible size"),
        ({"size": (2**62, 2**62)}, "outside its storage"),
        ({"size": (2**40, 2), "stride": (0, 0)}, "outside its storage"),
        ({"size": (2**200,), "stride": (1,)}, "impossible size"),
        ({"stride": (4, 1)}, "outside its storage"),
        ({"stride": (-3, 1)}, "impossible stride"),
        ({"stride": (1,)}, r"size \(2, 3\) and stride \(1,\)"),
        ({"size": (1,) * 9, "stride": (1,) * 9}, "impossible size"),
    ],
)
def test_tensors_outside_their_storage_are_refused(released, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        _open(released, tmp_path, _tensor(**arguments))


def test_tensor_without_storage_is_refused(released, tmp_path):
    with pytest.raises(ValueError, match="a tensor without a storage"):
        _open(released, tmp_path, _tensor(b"N"))


def test_many_tensors_of_one_storage_are_refused(released, tmp_path):
    archive = _open(released, tmp_path, b"](" + _tensor() + _tensor() + b"e")
    records = {str(i): record for i, record in enumerate(archive.content)}
    with pytest.raises(ValueError, match="tensors that share one storage many times"):
        archive.tensors(records)


def test_format_of_old_torch_is_refused(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"got the format of torch before 1.6; load it in torch"):
        TorchZip(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"hello", "a file that starts with b'hello'"),
        (b"\x80\x04N.", "a file that starts with"),
        (b"PK\x03\x04", "a truncated or damaged zip"),
        (b"PK\x03\x04" + b"\0" * 200, "a truncated or damaged zip"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        TorchZip(path)


def test_missing_file_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        TorchZip(tmp_path / "none.ckpt")


@pytest.mark.parametrize("cut", [10, 1000, -1, -30, -5000])
def test_truncated_checkpoint_is_refused(ckpt, cut):
    ckpt.write_bytes(ckpt.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"tiny\.ckpt: .*got a truncated or damaged zip"):
        TorchZip(ckpt)


def test_damaged_weights_are_noticed(ckpt):
    archive = TorchZip(ckpt)
    name, record = next(iter(archive.content["state_dict"].items()))
    data = bytearray(ckpt.read_bytes())
    start = data.index(archive.tensors({name: record})[name].numpy().tobytes())
    data[start] ^= 1
    ckpt.write_bytes(data)
    with pytest.raises(ValueError, match=r"a truncated or damaged zip .*CRC"):
        TorchZip(ckpt).tensors({name: record})


def _zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


NOTHING = _pickled(b"N")


@pytest.mark.parametrize(
    ("entries", "compression", "message"),
    [
        ([("a.npy", b"")], zipfile.ZIP_STORED, "a zip of something else"),
        ([("a/data.pkl", NOTHING), ("b/data.pkl", NOTHING)], zipfile.ZIP_STORED, "something else"),
        ([("a/data.pkl", NOTHING)], zipfile.ZIP_DEFLATED, "compressed, encrypted or overlapping"),
        (
            [("a/data.pkl", NOTHING), ("a/byteorder", b"big")],
            zipfile.ZIP_STORED,
            "expected little-endian",
        ),
    ],
)
def test_other_zips_are_refused(tmp_path, entries, compression, message):
    with pytest.raises(ValueError, match=message):
        TorchZip(_zip(tmp_path / "a.ckpt", entries, compression))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_with_two_entries_of_one_name_is_refused(tmp_path):
    path = _zip(tmp_path / "a.ckpt", [("a/data.pkl", NOTHING)] * 2)
    with pytest.raises(ValueError, match="a zip of something else"):
        TorchZip(path)


def test_zip_whose_entries_overlap_is_refused(tmp_path):
    # Two names in the directory for one place in the file: more is read than is there.
    body = _pickled(_text("a" * 2000) + b"0N")
    path = _zip(tmp_path / "a.ckpt", [("a/data.pkl", body), ("a/data/0", b"")])
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<III", data, second + 16, 0, len(body), len(body))
    struct.pack_into("<I", data, second + 42, 0)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"overlapping entries|damaged zip"):
        TorchZip(path)


def test_too_large_a_pickle_is_refused(released, tmp_path, monkeypatch):
    monkeypatch.setattr(restricted_pickle, "_MAX_PICKLE_BYTES", 3)
    with pytest.raises(ValueError, match="expected a pickle of at most 3 bytes, got 4"):
        _open(released, tmp_path, b"N")


def test_changed_bytes_never_end_in_another_error(released, ckpt, tmp_path):
    with zipfile.ZipFile(ckpt) as archive:
        pickled = archive.read("tiny/data.pkl")
        storages = {
            name.removeprefix("tiny/data/"): archive.read(name)
            for name in archive.namelist()
            if name.startswith("tiny/data/")
        }
    rng = random.Random(0)  # noqa: S311  no secret
    n_refused = 0
    for _ in range(60):
        data = bytearray(pickled)
        for _ in range(rng.choice([1, 1, 3, 20])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path = released.write_torch_zip(tmp_path / "changed.ckpt", bytes(data), storages)
        try:
            TorchZip(path)
        except ValueError as error:
            n_refused += 1
            assert "nothing in the file was executed" in str(error)  # noqa: PT017  any message counts
    assert 10 < n_refused < 60


def test_changed_zip_structure_never_ends_in_another_error(ckpt):
    whole = ckpt.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    rng = random.Random(1)  # noqa: S311  no secret
    n_refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(3):
            data[rng.randrange(directory, len(data))] = rng.randrange(256)
        ckpt.write_bytes(data)
        try:
            archive = TorchZip(ckpt)
            archive.tensors(archive.content["state_dict"])
        except ValueError:
            n_refused += 1
    assert n_refused > 10
