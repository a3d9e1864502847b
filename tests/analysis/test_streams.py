"""Frames stream through in blocks of one size, and what is kept of them is all there."""

import numpy as np
import pytest

from tito_fast.analysis import streams
from tito_fast.analysis.streams import Columns, Thinned, cut_frames, joined_frames, temporary_folder
from tito_fast.data.convert.writer import Frames


def blocks_of(*lengths):
    start = 0
    for length in lengths:
        numbers = np.arange(start, start + length)
        yield Frames(positions=numbers[:, None, None] * np.ones((1, 2, 3)), times_ps=1.0 * numbers)
        start += length


@pytest.mark.parametrize("lengths", [(10,), (1,) * 10, (3, 0, 7), (9, 1)])
@pytest.mark.parametrize("size", [1, 4, 10, 99])
def test_blocks_have_one_size_however_they_come(lengths, size):
    found = list(joined_frames(blocks_of(*lengths), size))
    assert [len(positions) for positions, _ in found] == [
        min(size, 10 - start) for start in range(0, 10, size)
    ]
    assert np.concatenate([times for _, times in found]).tolist() == list(range(10))
    assert np.concatenate([positions for positions, _ in found])[:, 0, 0].tolist() == list(
        range(10)
    )


def test_cutting_loses_no_frame():
    cut = list(cut_frames(blocks_of(5, 4), 2))
    assert [len(one.positions) for one in cut] == [2, 2, 1, 2, 2]
    assert np.concatenate([one.times_ps for one in cut]).tolist() == list(range(9))


@pytest.mark.parametrize("limit", [0, 100, 1 << 20])
def test_rows_come_back_from_memory_and_from_disk(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MEMORY_LIMIT_BYTES", limit)
    rows = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    columns = Columns(3, tmp_path / "rows.f32")
    for part in (rows[:8], rows[8:8], rows[8:]):
        columns.begin()
        for start in range(0, len(part), 5):
            columns.append(part[start : start + 5])
    first, empty, last = columns.series()
    np.testing.assert_array_equal(first, rows[:8])
    np.testing.assert_array_equal(last, rows[8:])
    assert empty.shape == (0, 3)
    assert (tmp_path / "rows.f32").is_file() is (limit < 240)


def test_a_series_without_columns_has_its_length(tmp_path):
    columns = Columns(0, tmp_path / "rows.f32")
    columns.begin()
    columns.append(np.zeros((7, 0)))
    assert columns.series()[0].shape == (7, 0)


@pytest.mark.parametrize("n_wanted", [1, 5, 100])
def test_thinned_frames_are_evenly_spaced(n_wanted):
    thinned = Thinned(n_wanted)
    for block in blocks_of(7, 1, 30, 2):
        thinned.add(block.positions)
    kept = thinned.positions(2)[:, 0, 0]
    assert min(n_wanted, 40) / 2 <= len(kept) <= n_wanted
    assert kept[0] == 0
    assert len(set(np.diff(kept))) <= 1


def test_none_are_kept_where_none_are_wanted():
    thinned = Thinned(0)
    thinned.add(np.zeros((4, 2, 3)))
    assert thinned.positions(2).shape == (0, 2, 3)


def test_the_folder_is_gone_after_an_error():
    def fail():
        with temporary_folder() as folder:
            (folder / "file").write_text("x")
            found.append(folder)
            raise RuntimeError("stop")

    found = []
    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not found[0].exists()
