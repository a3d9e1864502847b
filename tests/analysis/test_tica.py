"""Slow coordinates against deeptime."""

import numpy as np
import pytest
from deeptime.decomposition import TICA

from tito_fast.analysis import series as series_module
from tito_fast.analysis.tica import fit_tica


@pytest.mark.parametrize("lag_frames", [1, 12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_projections_are_those_of_deeptime(walks, lag_frames, dtype):
    series = [one.astype(dtype) for one in walks(700, 63, 129)]
    tica = fit_tica(series, lag_frames=lag_frames)
    wide = [one.astype(np.float64) for one in series]
    model = TICA(lagtime=lag_frames, dim=2).fit(wide).fetch_model()
    assert (model.singular_values[:2] > 0).all()
    np.testing.assert_allclose(tica.eigenvalues, model.singular_values, atol=1e-9)
    for one, expected in zip(series, map(model.transform, wide), strict=True):
        np.testing.assert_allclose(tica.project(one), expected, atol=1e-7)
    assert tica.lag_frames == lag_frames


def test_memory_maps_are_walked_in_chunks(walks, tmp_path, monkeypatch):
    series = walks(300)
    expected = fit_tica(series, lag_frames=2)
    np.save(tmp_path / "features.npy", series[0])
    features = np.load(tmp_path / "features.npy", mmap_mode="r")
    monkeypatch.setattr(series_module, "CHUNK_VALUES", 100)
    tica = fit_tica([features], lag_frames=2)
    projected = expected.project(series[0])
    np.testing.assert_allclose(tica.project(features), projected, atol=1e-9)
    stacked = tica.project(series[0].reshape(3, 100, 7))
    np.testing.assert_allclose(stacked, projected.reshape(3, 100, 2), atol=1e-9)


def test_trajectories_are_not_joined(walks):
    series = walks(200, 200)
    joined = fit_tica([np.concatenate(series)], lag_frames=20).eigenvalues
    assert np.abs(fit_tica(series, lag_frames=20).eigenvalues - joined).max() > 1e-3


def test_the_largest_component_is_positive_for_either_sign_of_an_eigenvalue():
    rng = np.random.default_rng(0)
    jumps = rng.standard_normal((500, 2)) + 5 * (-1.0) ** np.arange(500)[:, None] * [1, 0.2]
    tica = fit_tica([jumps], lag_frames=1)
    assert tica.eigenvalues[0] < 0
    largest = np.abs(tica.components).argmax(axis=0)
    assert (tica.components[largest, [0, 1]] > 0).all()


def test_coordinates_are_uncorrelated_and_scaled_by_their_eigenvalues(walks):
    series = walks(900)
    tica = fit_tica(series, lag_frames=1, n_components=3)
    covariance = np.cov(tica.project(series[0]).T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(tica.eigenvalues[:3] ** 2), atol=0.02)


def test_bad_input_is_refused(walks):
    series = walks(60)
    tica = fit_tica(series, lag_frames=2)
    with pytest.raises(ValueError, match="features: expected 7 as in the fit, got 6"):
        tica.project(series[0][:, 1:])
    with pytest.raises(ValueError, match="features: expected at least one that varies"):
        fit_tica([np.ones((20, 3))], lag_frames=1)
    with pytest.raises(ValueError, match="n_components: expected at most the 1 independent"):
        fit_tica([series[0][:, [0, 5, 6]]], lag_frames=1)
    with pytest.raises(ValueError, match="n_components: expected at least 1, got 0"):
        fit_tica(series, lag_frames=1, n_components=0)
    with pytest.raises(ValueError, match="series: expected more than 60 frames for a lag of 60"):
        fit_tica(series, lag_frames=60)
    with pytest.raises(ValueError, match="series: expected 7 features as in the first, got 6"):
        fit_tica([series[0], series[0][:, 1:]], lag_frames=1)
