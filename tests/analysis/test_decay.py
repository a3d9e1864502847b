import numpy as np
import pytest

from tito_fast.analysis.decay import decay_per_step, slowest_relaxation_time


@pytest.fixture(scope="module")
def trajectories():
    """Twelve of an Ornstein-Uhlenbeck process with a relaxation time of 20 frames, beside a fast one."""
    rng = np.random.default_rng(0)
    decay = np.exp(-1 / np.array([20.0, 2.0]))
    frames = np.empty((12, 4000, 2))
    frames[:, 0] = rng.standard_normal((12, 2))
    for frame in range(1, 4000):
        noise = rng.standard_normal((12, 2))
        frames[:, frame] = decay * frames[:, frame - 1] + np.sqrt(1 - decay**2) * noise
    mixed = frames @ np.array([[1.0, 0.3], [-0.5, 1.0]])
    return list(mixed)


@pytest.mark.parametrize("is_reversible", [True, False])
def test_the_time_of_a_known_process_is_found(trajectories, is_reversible):
    found = slowest_relaxation_time(
        trajectories, lag_frames=5, frame_interval_ps=0.5, is_reversible=is_reversible
    )
    assert found.low_ps < 10.0 < found.high_ps
    assert found.high_ps - found.low_ps < 3.0
    assert found.value_ps == pytest.approx(-2.5 / np.log(found.eigenvalue))
    assert decay_per_step(found.value_ps, frame_interval_ps=0.5) == pytest.approx(
        found.eigenvalue ** (1 / 5)
    )


def test_the_eigenvalue_is_that_of_deeptime(trajectories):
    from deeptime.decomposition import TICA  # noqa: PLC0415  slow to import

    found = slowest_relaxation_time(trajectories[:2], lag_frames=7, frame_interval_ps=1.0)
    theirs = TICA(lagtime=7, dim=1).fit_from_timeseries(trajectories[:2]).fetch_model()
    assert found.eigenvalue == pytest.approx(theirs.singular_values[0], abs=1e-10)


def test_a_single_trajectory_is_cut_into_blocks(trajectories):
    found = slowest_relaxation_time(trajectories[:1], lag_frames=5, frame_interval_ps=1.0)
    assert 0 < found.low_ps < found.value_ps < found.high_ps
    whole = slowest_relaxation_time(
        trajectories[:1], lag_frames=5, frame_interval_ps=1.0, block_frames=4000
    )
    assert np.isnan(whole.low_ps)
    assert whole.value_ps == pytest.approx(found.value_ps)


def test_what_does_not_decay_is_refused():
    alternating = np.tile([[1.0], [-1.0]], (50, 1))
    with pytest.raises(
        ValueError, match=r"lag_frames: expected a lag at which .* eigenvalue of -1"
    ):
        slowest_relaxation_time([alternating], lag_frames=1, frame_interval_ps=1.0, block_frames=50)
    with pytest.raises(ValueError, match="lag_frames: expected at least 1, got 0"):
        slowest_relaxation_time([alternating], lag_frames=0, frame_interval_ps=1.0)
    with pytest.raises(ValueError, match="frame_interval_ps: expected a value above zero, got 0"):
        decay_per_step(1.0, frame_interval_ps=0.0)
    with pytest.raises(ValueError, match="relaxation_time_ps: expected a value above zero, got -1"):
        decay_per_step(-1.0, frame_interval_ps=1.0)
