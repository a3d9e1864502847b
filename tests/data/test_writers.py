"""Every format: what is read back, resuming, a full disk, a writer that dies in the middle."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import mdtraj as md
import numpy as np
import pytest

from tito_fast.data.readers import from_smiles
from tito_fast.data.topology import to_mdtraj_topology
from tito_fast.data.writers import FORMATS, FrameSink, open_writer, read_frames
from tito_fast.data.writers.overlay import OverlayFile, journal_path, undo_cut_commit
from tito_fast.errors import NonFiniteError

# XTC rounds to 0.001 nm, DCD to float32 Å.
TOLERANCE_NM = {"xtc": 5.1e-4, "dcd": 2e-7, "h5": 0.0}

OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture(scope="module")
def butanol():
    return from_smiles("CCCCO")


def frames_of(molecule, n_frames, *, seed=0):
    rng = np.random.default_rng(seed)
    noise = 0.05 * rng.standard_normal((n_frames, molecule.n_atoms, 3))
    return (molecule.positions + noise).astype(np.float32)


def times(first, stop):
    return 100.0 * np.arange(first, stop)


def write_all(path, kind, molecule, positions, *, token=None, first=0):
    writer = open_writer(path, format=kind, molecule=molecule, token=token)
    writer.append(positions, times(first, first + len(positions)))
    end = writer.flush()
    writer.close()
    return end


@pytest.mark.parametrize("kind", FORMATS)
def test_frames_come_back_whatever_the_pieces(tmp_path, butanol, kind):
    positions = frames_of(butanol, 129)
    whole, pieces = tmp_path / f"whole.{kind}", tmp_path / f"pieces.{kind}"
    write_all(whole, kind, butanol, positions)
    writer = open_writer(pieces, format=kind, molecule=butanol)
    for start, stop in ((0, 1), (1, 1), (1, 64), (64, 129)):
        writer.append(positions[start:stop], times(start, stop))
        writer.flush(sync=False)
        assert writer.n_frames == stop
    writer.close()
    for path in (whole, pieces):
        read = read_frames(path)
        assert read.positions.shape == positions.shape
        assert np.abs(read.positions - positions).max() <= TOLERANCE_NM[kind]
        np.testing.assert_allclose(read.times_ps, times(0, 129), rtol=1e-6)
    if kind != "h5":  # the library places chunks by its history
        assert whole.read_bytes() == pieces.read_bytes()


@pytest.mark.parametrize("kind", ["xtc", "dcd"])
@pytest.mark.parametrize("n_atoms", [1, 2, 9, 10, 63])
def test_mdtraj_reads_what_was_appended(tmp_path, make_molecule, kind, n_atoms):
    molecule = make_molecule(n_atoms)
    positions = frames_of(molecule, 7)
    path = tmp_path / f"a.{kind}"
    token = write_all(path, kind, molecule, positions[:3])
    write_all(path, kind, molecule, positions[3:], token=token, first=3)
    topology = md.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for _ in range(n_atoms):
        topology.add_atom("C", md.element.carbon, residue)
    loaded = md.load(path, top=topology)
    assert loaded.xyz.shape == positions.shape
    assert np.abs(loaded.xyz - positions).max() <= TOLERANCE_NM[kind]
    assert loaded.unitcell_lengths is None
    if kind == "xtc":
        np.testing.assert_array_equal(loaded.time, times(0, 7))


def test_xtc_steps_count_on_after_a_resume(tmp_path, butanol):
    path = tmp_path / "a.xtc"
    token = write_all(path, "xtc", butanol, frames_of(butanol, 5))
    write_all(path, "xtc", butanol, frames_of(butanol, 4), token=token, first=5)
    with md.formats.XTCTrajectoryFile(str(path)) as file:
        steps = file.read()[2]
    np.testing.assert_array_equal(steps, np.arange(9))


def test_dcd_header_counts_frames_and_holds_the_interval(tmp_path, butanol):
    path = tmp_path / "a.dcd"
    token = write_all(path, "dcd", butanol, frames_of(butanol, 1))
    write_all(path, "dcd", butanol, frames_of(butanol, 6), token=token, first=1)
    header = np.frombuffer(path.read_bytes()[:92], dtype="<i4")
    assert header[2] == 7
    assert header[5] == 7
    np.testing.assert_allclose(header[11:12].view("<f4") * 0.04888821, 100.0, rtol=1e-6)


def test_h5_has_the_layout_of_mdtraj(tmp_path, butanol):
    path = tmp_path / "a.h5"
    write_all(path, "h5", butanol, frames_of(butanol, 3))
    with h5py.File(path) as file:
        assert file.attrs["conventions"] == b"Pande"
        assert file.attrs["conventionVersion"] == b"1.1"
        assert file["coordinates"].attrs["units"] == b"nanometers"
        assert file["time"].attrs["units"] == b"picoseconds"
        assert file["coordinates"].dtype == np.float32
        assert file["coordinates"].maxshape == (None, butanol.n_atoms, 3)
        assert file["topology"].dtype.kind == "S"


def test_mdtraj_reads_the_h5(tmp_path, butanol):
    pytest.importorskip("tables", reason="mdtraj reads HDF5 through PyTables")
    path = tmp_path / "a.h5"
    positions = frames_of(butanol, 300)
    token = write_all(path, "h5", butanol, positions[:200])
    write_all(path, "h5", butanol, positions[200:], token=token, first=200)
    loaded = md.load_hdf5(str(path))
    np.testing.assert_array_equal(loaded.xyz, positions)
    np.testing.assert_array_equal(loaded.time, times(0, 300))
    assert loaded.topology == to_mdtraj_topology(butanol)


@pytest.mark.parametrize("kind", FORMATS)
def test_resuming_cuts_what_was_written_after_the_state(tmp_path, butanol, kind):
    positions = frames_of(butanol, 400)
    path, straight = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    writer = open_writer(path, format=kind, molecule=butanol)
    writer.append(positions[:150], times(0, 150))
    token = writer.flush()
    writer.append(np.zeros_like(positions[:200]), times(150, 350))
    writer.close()
    write_all(path, kind, butanol, positions[150:], token=token, first=150)
    write_all(straight, kind, butanol, positions)
    read, expected = read_frames(path), read_frames(straight)
    np.testing.assert_array_equal(read.positions, expected.positions)
    np.testing.assert_array_equal(read.times_ps, expected.times_ps)
    if kind != "h5":
        assert path.read_bytes() == straight.read_bytes()


@pytest.mark.parametrize("kind", ["xtc", "dcd"])
def test_a_torn_last_frame_is_cut(tmp_path, butanol, kind):
    path = tmp_path / f"a.{kind}"
    token = write_all(path, kind, butanol, frames_of(butanol, 6))
    good = path.read_bytes()
    with path.open("ab") as file:
        file.write(good[-40:])
    writer = open_writer(path, format=kind, molecule=butanol, token=token)
    assert writer.n_frames == 6
    writer.close()
    assert path.read_bytes() == good


@pytest.mark.parametrize("kind", FORMATS)
def test_token_zero_starts_the_file_again(tmp_path, butanol, kind):
    path = tmp_path / f"a.{kind}"
    write_all(path, kind, butanol, frames_of(butanol, 6))
    positions = frames_of(butanol, 2, seed=1)
    write_all(path, kind, butanol, positions, token=0)
    assert len(read_frames(path).positions) == 2
    assert np.abs(read_frames(path).positions - positions).max() <= TOLERANCE_NM[kind]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_loses_nothing_written_before(tmp_path, butanol, kind, file_size_limit):
    path = tmp_path / f"a.{kind}"
    positions = frames_of(butanol, 4000)
    token = write_all(path, kind, butanol, positions[:100])
    before = read_frames(path).positions
    writer = open_writer(path, format=kind, molecule=butanol, token=token)
    writer.append(positions[100:110], times(100, 110))
    token = writer.flush()
    limit = path.stat().st_size + 3000

    def fill():
        nonlocal token
        # The temporary file of the XTC encoder is below the limit in small pieces.
        for start in range(110, 3110, 10):
            writer.append(positions[start : start + 10], times(start, start + 10))
            token = writer.flush()

    with file_size_limit(limit), pytest.raises(OSError, match=rf"a.{kind}: expected to write, got"):
        fill()
    with pytest.raises(ValueError, match="expected an open writer"):
        writer.append(positions[:1], times(0, 1))
    read = read_frames(path).positions
    assert len(read) >= 110
    np.testing.assert_array_equal(read[:100], before)
    n_kept = len(read)
    write_all(path, kind, butanol, positions[n_kept:], token=token, first=n_kept)
    assert len(read_frames(path).positions) == 4000
    assert not journal_path(path).exists()


def test_a_full_temporary_folder_is_seen(tmp_path, butanol, file_size_limit):
    writer = open_writer(tmp_path / "a.xtc", format="xtc", molecule=butanol)
    writer.append(frames_of(butanol, 200), times(0, 200))
    with (
        file_size_limit(5000),
        pytest.raises(OSError, match=r"expected 200 encoded frames, got \d+; free"),
    ):
        writer.flush()
    assert (tmp_path / "a.xtc").stat().st_size == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_a_killed_writer_leaves_a_file_that_resumes(tmp_path, butanol, kind):
    path = tmp_path / f"a.{kind}"
    code = (
        "import sys, numpy as np\n"
        "from tito_fast.data.readers import from_smiles\n"
        "from tito_fast.data.writers import open_writer\n"
        f"writer = open_writer({str(path)!r}, format={kind!r}, molecule=from_smiles('CCCCO'))\n"
        "frame = 0\n"
        "while True:\n"
        "    x = np.full((7, writer._n_atoms, 3), frame / 1e4, dtype=np.float32)\n"
        "    writer.append(x, np.arange(frame, frame + 7))\n"
        "    frame += 7\n"
        "    print(writer.flush(sync=False), frame, flush=True)\n"
    )
    with subprocess.Popen(  # noqa: S603  our own interpreter and code
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        for _ in range(30):
            token, n_frames = map(int, process.stdout.readline().split())
        process.send_signal(signal.SIGKILL)
    writer = open_writer(path, format=kind, molecule=butanol, token=token)
    assert writer.n_frames == n_frames
    writer.append(frames_of(butanol, 5), times(n_frames, n_frames + 5))
    writer.close()
    read = read_frames(path)
    assert len(read.positions) == n_frames + 5
    expected = np.repeat(np.arange(0, n_frames, 7), 7) / 1e4
    assert np.abs(read.positions[:n_frames, 0, 0] - expected).max() <= 6e-4


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 2e5])
def test_a_frame_that_is_not_finite_is_refused(tmp_path, butanol, kind, bad):
    path = tmp_path / f"a.{kind}"
    writer = open_writer(path, format=kind, molecule=butanol)
    positions = frames_of(butanol, 4)
    writer.append(positions, times(0, 4))
    spoilt = positions.copy()
    spoilt[2, 3, 1] = bad
    with pytest.raises(
        NonFiniteError, match=r"positions: expected finite coordinates.* frame 6 of"
    ):
        writer.append(spoilt, times(4, 8))
    writer.close()
    assert len(read_frames(path).positions) == 4


@pytest.mark.parametrize("kind", FORMATS)
def test_bad_input_is_refused_by_name(tmp_path, butanol, make_molecule, kind):
    path = tmp_path / f"a.{kind}"
    writer = open_writer(path, format=kind, molecule=butanol)
    with pytest.raises(ValueError, match=r"positions: expected shape \(n_frames, 15, 3\), got"):
        writer.append(np.zeros((2, 5, 3)), times(0, 2))
    with pytest.raises(ValueError, match=r"times_ps: expected shape \(2,\), got \(3,\)"):
        writer.append(np.zeros((2, butanol.n_atoms, 3)), times(0, 3))
    writer.append(frames_of(butanol, 2), times(0, 2))
    token = writer.flush()
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="expected an open writer, got a closed one"):
        writer.flush()
    with pytest.raises(FileExistsError, match="expected no file of this name"):
        open_writer(path, format=kind, molecule=butanol)
    with pytest.raises(ValueError, match="that the run recorded, got"):
        open_writer(path, format=kind, molecule=butanol, token=token + 1000)
    with pytest.raises(ValueError, match="expected a trajectory of 5 atoms, got 15"):
        open_writer(path, format=kind, molecule=make_molecule(5), token=token)
    with pytest.raises(ValueError, match="token: expected at least 0, got -1"):
        open_writer(path, format=kind, molecule=butanol, token=-1)
    path.unlink()
    with pytest.raises(ValueError, match="that the run recorded, got"):
        open_writer(path, format=kind, molecule=butanol, token=token)
    path.write_bytes(b"something else" * 400)
    with pytest.raises(ValueError, match=r"expected a(n|) .*, got"):
        open_writer(path, format=kind, molecule=butanol, token=token)


def test_unknown_formats_and_absent_files_are_refused(tmp_path, butanol):
    with pytest.raises(ValueError, match="format: expected one of xtc, dcd, h5, got 'trr'"):
        open_writer(tmp_path / "a.trr", format="trr", molecule=butanol)
    with pytest.raises(ValueError, match="path suffix: expected one of"):
        read_frames(tmp_path / "a.trr")
    with pytest.raises(FileNotFoundError, match="expected a trajectory file, got none"):
        read_frames(tmp_path / "a.xtc")


@pytest.mark.parametrize("kind", FORMATS)
def test_writers_hold_no_open_file(tmp_path, butanol, kind):
    n_before = len(list(OPEN_FILES.iterdir()))
    writers = []
    for replica in range(20):
        writer = open_writer(tmp_path / f"{replica}.{kind}", format=kind, molecule=butanol)
        writer.append(frames_of(butanol, 2), times(0, 2))
        writer.flush(sync=False)
        writers.append(writer)
    assert len(list(OPEN_FILES.iterdir())) == n_before


@pytest.mark.parametrize("n_done", range(5))
def test_a_commit_cut_short_is_undone(tmp_path, monkeypatch, n_done):
    path = tmp_path / "file"
    old = bytes(range(256)) * 40
    path.write_bytes(old)
    overlay = OverlayFile(path)
    for offset, data in ((100, b"new" * 10), (5000, b"middle"), (len(old) - 2, b"end" * 3000)):
        overlay.seek(offset)
        overlay.write(memoryview(data))
    expected = bytearray(old + bytes(8998))
    expected[100:130], expected[5000:5006] = b"new" * 10, b"middle"
    expected[len(old) - 2 :] = b"end" * 3000
    overlay.seek(0)
    assert overlay.read() == bytes(expected)

    # Stands for a kill: the n-th write never happens, nor does any clean-up.
    class KilledError(BaseException):
        pass

    calls = []

    def write_some(descriptor, data):
        if len(calls) == n_done:
            os.write(descriptor, bytes(data)[: len(data) // 2])
            raise KilledError
        calls.append(data)
        os.write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr("tito_fast.data.writers.overlay.write_all", write_some)
        patch.setattr("tito_fast.data.writers.overlay.undo_cut_commit", lambda _: None)
        with pytest.raises(KilledError):
            overlay.commit(sync=False)
    assert journal_path(path).exists()
    undo_cut_commit(path)
    assert path.read_bytes() == old
    assert not journal_path(path).exists()


def test_a_commit_changes_the_file_and_can_shorten_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a" * 10_000)
    overlay = OverlayFile(path)
    overlay.truncate(5000)
    overlay.truncate(6000)
    overlay.seek(0, os.SEEK_END)
    assert overlay.tell() == 6000
    overlay.write(memoryview(b"b" * 10))
    overlay.commit(sync=True)
    assert path.read_bytes() == b"a" * 5000 + bytes(1000) + b"b" * 10


def test_the_sink_keeps_order_and_waits_when_full():
    taken, gate = [], threading.Event()

    def consume(item):
        gate.wait()
        taken.append((item, threading.current_thread().name))

    sink = FrameSink(consume, n_queued=2)
    putter = threading.Thread(target=lambda: [sink.put(item) for item in range(10)])
    putter.start()
    putter.join(timeout=0.05)
    assert putter.is_alive()
    gate.set()
    putter.join()
    sink.drain()
    assert taken == [(item, "frame-sink") for item in range(10)]
    sink.close()
    sink.close()
    with pytest.raises(ValueError, match="sink: expected an open one"):
        sink.put(1)


def test_an_error_of_the_writer_reaches_the_main_thread():
    taken = []

    def consume(item):
        if item == 2:
            raise OSError("disk full")
        taken.append(item)

    sink = FrameSink(consume)
    sink.put(1)
    sink.put(2)
    with pytest.raises(OSError, match="disk full"):
        sink.drain()
    with pytest.raises(OSError, match="disk full"):
        sink.put(3)
    with pytest.raises(OSError, match="disk full"):
        sink.close()
    assert taken == [1]


def test_the_sinks_error_does_not_hide_that_of_the_block():
    def consume(item):
        raise OSError("disk full")

    def block():
        with FrameSink(consume) as sink:
            sink.put(1)
            raise KeyError("first")

    with pytest.raises(KeyError) as caught:
        block()
    assert "disk full" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="n_queued: expected at least 1, got 0"):
        FrameSink(consume, n_queued=0)
