import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tito_fast.data.convert.writer import Frames, StoreWriter
from tito_fast.data.molecule import Molecule
from tito_fast.data.store import (
    MANIFEST_FILE,
    POSITIONS_FILE,
    TRAJECTORIES_FILE,
    check_store,
    content_hash,
    file_sha256,
    open_store,
)

WATER_NM = np.array([[0.0, 0.0, 0.0], [0.096, 0.0, 0.0], [-0.024, 0.093, 0.0]])


def water(name="water", **changes):
    fields = {
        "name": name,
        "atomic_numbers": np.array([8, 1, 1]),
        "bond_index": np.array([[0, 0, 1, 2], [1, 2, 0, 0]]),
        "bond_type": np.ones(4, dtype=np.int64),
        "positions": WATER_NM,
        "atom_names": ("O", "H1", "H2"),
        "residue_names": ("HOH",) * 3,
        "residue_numbers": (7,) * 3,
        "chain_ids": ("B",) * 3,
        "smiles": "O",
        "formal_charges": (0, 0, 0),
        "notes": ("made by hand",),
    }
    return Molecule(**{**fields, **changes})


def helium():
    return Molecule(
        name="helium",
        atomic_numbers=np.array([2]),
        bond_index=np.zeros((2, 0), dtype=np.int64),
        bond_type=np.zeros(0, dtype=np.int64),
        positions=np.zeros((1, 3)),
        atom_names=("HE",),
        residue_names=("HE",),
        residue_numbers=(1,),
        chain_ids=("A",),
    )


def shaken(n_frames, *, seed=0, base=WATER_NM):
    rng = np.random.default_rng(seed)
    return base + rng.normal(scale=0.002, size=(n_frames, *base.shape)) + rng.normal(size=3)


def write(path, *, frames=None, seed=0, overwrite=False):
    frames = shaken(7, seed=seed) if frames is None else frames
    with StoreWriter(path, converter="test", source_name="set", overwrite=overwrite) as writer:
        first = writer.add_molecule(water())
        second = writer.add_molecule(helium())
        writer.add_trajectory(
            first,
            [Frames(positions=frames)],
            name="a",
            split="train",
            frame_interval_ps=0.5,
            temperature_k=300.0,
        )
        writer.add_trajectory(
            second,
            [Frames(positions=np.ones((4, 1, 3)), times_ps=np.arange(4) * 2.0 + 9)],
            name="b",
            split="train",
        )
        writer.add_trajectory(
            first, [Frames(positions=frames[:3])], name="c", split="val", frame_interval_ps=0.5
        )
    return Path(path)


def tamper(path, name, change):
    """Change a file and every checksum of it, so that only its meaning can be found wrong."""
    (path / name).write_bytes(change((path / name).read_bytes()))
    manifest = json.loads((path / MANIFEST_FILE).read_text())
    manifest["files"][name] = {
        "bytes": (path / name).stat().st_size,
        "sha256": file_sha256(path / name),
    }
    manifest["content_hash"] = content_hash(
        {file: entry["sha256"] for file, entry in manifest["files"].items()}
    )
    (path / MANIFEST_FILE).write_text(json.dumps(manifest))


def change_positions(path, change):
    def edit(data):
        positions = np.frombuffer(data, dtype="<f4").reshape(-1, 3).copy()
        change(positions)
        return positions.tobytes()

    tamper(path, POSITIONS_FILE, edit)


def test_what_was_written_is_read_back(tmp_path):
    frames = shaken(7)
    store = open_store(write(tmp_path / "s", frames=frames))
    expected = (frames - frames.mean(axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_array_equal(store.trajectory_positions(0), expected)
    np.testing.assert_array_equal(store.trajectory_positions(1), np.zeros((4, 1, 3)))
    np.testing.assert_array_equal(store.trajectory_positions(2), expected[:3])
    assert [row.name for row in store.trajectories] == ["a", "b", "c"]
    assert [row.frame_interval_ps for row in store.trajectories] == [0.5, 2.0, 0.5]
    assert [row.temperature_k for row in store.trajectories] == [300.0, None, None]
    assert [row.first_row for row in store.trajectories] == [0, 21, 25]
    assert store.n_frames == 14
    for found, written in zip(store.molecules, (water(), helium()), strict=True):
        for field in ("atomic_numbers", "bond_index", "bond_type", "positions"):
            np.testing.assert_array_equal(getattr(found, field), getattr(written, field))
            assert getattr(found, field).dtype == getattr(written, field).dtype
        for field in ("name", "atom_names", "residue_names", "residue_numbers", "chain_ids"):
            assert getattr(found, field) == getattr(written, field)
        assert (found.smiles, found.notes) == (written.smiles, written.notes)
        assert found.noise_hash == written.noise_hash


def test_positions_are_mapped_and_cannot_be_changed(tmp_path):
    store = open_store(write(tmp_path / "s"))
    base = store.positions
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.positions[0] = 1.0


def test_manifest_states_units_centering_and_source(tmp_path):
    manifest = open_store(write(tmp_path / "s")).manifest
    assert manifest["units"] == {"length": "nm", "time": "ps", "temperature": "K"}
    assert "geometric center" in manifest["centering"]
    assert manifest["source"] == {"name": "set", "converter": "test"}
    assert manifest["temperatures_k"] == [300.0]
    assert manifest["splits"] == {"train": 2, "val": 1}


def test_split_indices_are_the_trajectories_of_a_split(tmp_path):
    store = open_store(write(tmp_path / "s"))
    assert store.splits == ("train", "val")
    assert store.split_indices("train").tolist() == [0, 1]
    assert store.split_indices("val").tolist() == [2]
    with pytest.raises(ValueError, match=r"split: expected one of train, val, got 'test'"):
        store.split_indices("test")


def test_content_hash_follows_the_content_only(tmp_path):
    first = open_store(write(tmp_path / "one")).content_hash
    assert open_store(write(tmp_path / "two")).content_hash == first
    assert open_store(write(tmp_path / "three", seed=1)).content_hash != first


def test_frames_are_written_in_blocks_without_holding_them(tmp_path):
    n_blocks, n_frames = 200, 500
    block = shaken(n_frames)

    def blocks():
        for _ in range(n_blocks):
            yield Frames(positions=block)

    tracemalloc.start()
    with StoreWriter(tmp_path / "s", converter="test", source_name="set") as writer:
        writer.add_trajectory(
            writer.add_molecule(water()), blocks(), name="a", split="train", frame_interval_ps=1.0
        )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    store = open_store(tmp_path / "s")
    assert store.n_frames == n_blocks * n_frames
    np.testing.assert_array_equal(
        store.trajectory_positions(0)[-n_frames:], store.trajectory_positions(0)[:n_frames]
    )
    assert peak < store.positions.nbytes / 4
    assert check_store(tmp_path / "s") == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, error):
    def frames():
        yield Frames(positions=shaken(5))
        raise error

    with (
        pytest.raises(error),
        StoreWriter(tmp_path / "s", converter="test", source_name="set") as writer,
    ):
        writer.add_trajectory(
            writer.add_molecule(water()), frames(), name="a", split="train", frame_interval_ps=1.0
        )
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_store(tmp_path):
    old = open_store(write(tmp_path / "s")).content_hash
    bad = shaken(7)
    bad[6, 1, 2] = np.nan
    with pytest.raises(ValueError, match=r"positions: expected finite numbers in 'a'.* frame 6"):
        write(tmp_path / "s", frames=bad, overwrite=True)
    assert open_store(tmp_path / "s").content_hash == old
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_store_is_replaced_only_when_asked(tmp_path):
    old = open_store(write(tmp_path / "s")).content_hash
    with pytest.raises(ValueError, match=r"destination: expected a path where nothing is yet"):
        write(tmp_path / "s", seed=1)
    assert open_store(tmp_path / "s").content_hash == old
    write(tmp_path / "s", seed=1, overwrite=True)
    assert open_store(tmp_path / "s").content_hash != old
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_what_is_no_store_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("text")
    with pytest.raises(ValueError, match=r"destination: expected a store to overwrite"):
        write(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "text"


def test_an_empty_conversion_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match=r"source: expected trajectories in 'set', got none"),
        StoreWriter(tmp_path / "s", converter="test", source_name="set"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"store: expected a directory with manifest.json"):
        open_store(tmp_path / "nothing")
    (tmp_path / MANIFEST_FILE).write_text('{"format": "other"}')
    with pytest.raises(ValueError, match=r"store: expected a manifest of a tito_fast store"):
        open_store(tmp_path)
    (tmp_path / MANIFEST_FILE).write_text('{"format":')
    with pytest.raises(ValueError, match=r"store: expected JSON in .*manifest.json"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, r"store: expected format_version 1, got 99"),
        ({"files": {}}, r"store: expected files and content_hash"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path, change, message):
    path = write(tmp_path / "s")
    manifest = json.loads((path / MANIFEST_FILE).read_text())
    (path / MANIFEST_FILE).write_text(json.dumps({**manifest, **change}))
    with pytest.raises(ValueError, match=message):
        open_store(path)


def test_a_truncated_or_missing_file_is_refused(tmp_path):
    path = write(tmp_path / "s")
    positions = path / POSITIONS_FILE
    positions.write_bytes(positions.read_bytes()[:-12])
    with pytest.raises(ValueError, match=r"store: expected 408 bytes in .*positions.f32, got 396"):
        open_store(path)
    assert "expected 408 bytes" in check_store(path)[0]
    positions.unlink()
    with pytest.raises(ValueError, match=r"positions.f32, got no such file"):
        open_store(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"molecule_idx":1', b'"molecule_idx":5', r"expected molecules 0 to 1, got 5 for 'b'"),
        (b'"first_row":21', b'"first_row":20', r"expected first_row 21, got 20 for 'b'"),
        (b'"n_frames":3', b'"n_frames":2', r"expected 31 rows in .*, got 34"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, old, new, message):
    path = write(tmp_path / "s")
    tamper(path, TRAJECTORIES_FILE, lambda data: data.replace(old, new))
    with pytest.raises(ValueError, match=message):
        open_store(path)


def test_check_finds_nothing_in_a_good_store(tmp_path):
    assert check_store(write(tmp_path / "s")) == []


def test_check_finds_a_flipped_bit(tmp_path):
    path = write(tmp_path / "s")
    data = bytearray((path / POSITIONS_FILE).read_bytes())
    data[0] ^= 1
    (path / POSITIONS_FILE).write_bytes(bytes(data))
    problems = check_store(path)
    assert len(problems) == 1
    assert "positions.f32: expected sha256" in problems[0]


def test_check_finds_a_wrong_content_hash(tmp_path):
    path = write(tmp_path / "s")
    manifest = json.loads((path / MANIFEST_FILE).read_text())
    (path / MANIFEST_FILE).write_text(json.dumps({**manifest, "content_hash": "0"}))
    assert check_store(path) == ["manifest.json: content_hash does not belong to the files"]


def test_check_finds_positions_that_are_not_finite(tmp_path):
    path = write(tmp_path / "s")
    change_positions(path, lambda positions: positions.__setitem__((13, 1), np.inf))
    assert check_store(path) == [
        "trajectory 0 (a): expected finite positions, got NaN or infinity in frame 4"
    ]


def test_check_finds_frames_off_center(tmp_path):
    path = write(tmp_path / "s")
    change_positions(path, lambda positions: positions[24].__iadd__(0.5))
    assert check_store(path) == [
        "trajectory 1 (b): expected centered frames, got a center 0.5 nm off"
    ]


def test_check_finds_angstrom_and_a_single_broken_bond(tmp_path):
    path = write(tmp_path / "s")
    change_positions(path, lambda positions: positions.__imul__(10))
    problems = check_store(path)
    assert len(problems) == 2
    assert all("bond lengths near the sum of covalent radii, got 2 others" in p for p in problems)
    broken = shaken(7)
    broken[5, 2] += 0.3
    assert "got 1 others; atoms 0 and 2" in check_store(write(tmp_path / "t", frames=broken))[0]


def test_check_finds_an_impossible_interval(tmp_path):
    path = write(tmp_path / "s")
    tamper(path, TRAJECTORIES_FILE, lambda data: data.replace(b'_ps":2.0', b'_ps":-2.0'))
    assert check_store(path) == ["trajectory 1 (b): expected an interval above zero, got -2.0 ps"]
