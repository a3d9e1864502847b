"""Lagged moments against deeptime, in units, in chunks and from a memory map."""

import numpy as np
import pytest
from deeptime.decomposition import TICA, VAMP

from tito_fast.analysis import series as series_module
from tito_fast.analysis.moments import (
    covariances,
    lagged_moments,
    reversible_covariances,
    weighted_moments,
    whitening,
)


def test_covariances_are_those_of_deeptime(walks):
    series = walks(400, 63, 130)
    moments = lagged_moments(series, lag_frames=7)
    found = covariances(moments.total())
    expected = VAMP(lagtime=7).fit(series).fetch_model().cov
    for name in ("cov_00", "cov_0t", "cov_tt"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12)
    np.testing.assert_allclose(found.mean_0 + moments.shift, expected.mean_0)
    np.testing.assert_allclose(found.mean_t + moments.shift, expected.mean_t)
    assert found.n_pairs == 400 + 63 + 130 - 21
    both = reversible_covariances(moments.total())
    symmetric = TICA(lagtime=7).fit(series).fetch_model().cov
    np.testing.assert_allclose(both.cov_00, symmetric.cov_00, atol=1e-12)
    np.testing.assert_allclose(both.cov_0t, symmetric.cov_0t, atol=1e-12)
    np.testing.assert_allclose(both.mean_0 + moments.shift, symmetric.mean_0)


@pytest.mark.parametrize("block_frames", [1, 10, 63, 399, 1000])
def test_blocks_lose_no_pair(walks, block_frames):
    series = walks(400, 5, 63)
    whole = lagged_moments(series, lag_frames=7)
    blocks = lagged_moments(series, lag_frames=7, block_frames=block_frames)
    np.testing.assert_allclose(blocks.total(), whole.total(), rtol=1e-12, atol=1e-9)
    assert whole.n_units == 3
    # Too short for the lag: a unit of zeros, not an error.
    assert not whole.sums[1].any()
    pairs = [400 - 7, 0, 63 - 7]
    counted = np.bincount(blocks.series_idx, weights=blocks.sums[:, 0, 0, 0])
    assert counted.tolist() == pairs


def test_chunks_and_memory_maps_change_nothing(walks, tmp_path, monkeypatch):
    series = walks(300, 129)
    whole = lagged_moments(series, lag_frames=4, block_frames=50)
    monkeypatch.setattr(series_module, "CHUNK_VALUES", 70)
    maps = []
    for idx, one in enumerate(series):
        path = tmp_path / f"{idx}.npy"
        np.save(path, one)
        maps.append(np.load(path, mmap_mode="r"))
    chunked = lagged_moments(maps, lag_frames=4, block_frames=50)
    np.testing.assert_allclose(chunked.sums, whole.sums, rtol=1e-12, atol=1e-9)


def test_weights_repeat_pairs(walks):
    series = walks(90, 40)
    rng = np.random.default_rng(0)
    weights = [rng.integers(3, size=len(one) - 6) for one in series]
    found = weighted_moments(series, weights, lag_frames=6)
    repeated = [
        np.concatenate([np.repeat(one[:-6], w, axis=0), np.repeat(one[6:], w, axis=0)])
        for one, w in zip(series, weights, strict=True)
    ]
    first, second = (
        np.concatenate([np.split(one, 2)[part] for one in repeated]) for part in (0, 1)
    )
    pairs = covariances(found)
    np.testing.assert_allclose(pairs.cov_00, np.cov(first.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(pairs.cov_tt, np.cov(second.T, bias=True), atol=1e-12)
    ones = [np.ones(len(one) - 6, dtype=int) for one in series]
    all_pairs = lagged_moments(series, lag_frames=6).total()
    np.testing.assert_allclose(weighted_moments(series, ones, lag_frames=6), all_pairs, atol=1e-9)


def test_large_offsets_cost_no_digits(walks):
    series = walks(500)
    moved = [one + 1e6 for one in series]
    near, far = (
        covariances(lagged_moments(s, lag_frames=3).total()).cov_0t for s in (series, moved)
    )
    np.testing.assert_allclose(far, near, atol=1e-8)


def test_whitening_leaves_out_what_does_not_vary(walks):
    pairs = covariances(lagged_moments(walks(400), lag_frames=1).total())
    white = whitening(pairs.cov_00)
    assert white.shape == (7, 5)
    np.testing.assert_allclose(white.T @ pairs.cov_00 @ white, np.eye(5), atol=1e-9)
    with pytest.raises(ValueError, match="features: expected at least one that varies"):
        whitening(np.zeros((3, 3)))


def test_bad_series_are_refused(walks):
    with pytest.raises(ValueError, match="series: expected more than 400 frames for a lag of 400"):
        lagged_moments(walks(400, 20), lag_frames=400)
    spoiled = walks(50)
    spoiled[0][20, 1] = np.nan
    with pytest.raises(ValueError, match="series: expected finite features, got NaN or infinity"):
        lagged_moments(spoiled, lag_frames=2)
    with pytest.raises(ValueError, match="total: expected at least one pair of frames, got none"):
        covariances(np.zeros((3, 4, 4)))
