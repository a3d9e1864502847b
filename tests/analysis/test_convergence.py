"""R-hat and effective sample size of autoregressive chains, divergence between replicas."""

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from tito_fast.analysis.convergence import (
    convergence_intervals,
    effective_sample_size,
    replica_jsd,
    replica_jsd_interval,
    replica_pairs,
    split_rhat,
    torsion_convergence,
)


def autoregressive(shape, *, rho, seed):
    rng = np.random.default_rng(seed)
    values = np.empty(shape)
    values[:, 0] = rng.standard_normal((shape[0], *shape[2:]))
    for frame in range(1, shape[1]):
        noise = rng.standard_normal((shape[0], *shape[2:]))
        values[:, frame] = rho * values[:, frame - 1] + np.sqrt(1 - rho**2) * noise
    return values


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.4])
def test_samples_of_an_autoregressive_chain(rho):
    values = autoregressive((8, 4000, 4), rho=rho, seed=0)
    expected = 8 * 4000 * (1 - rho) / (1 + rho)
    found = effective_sample_size(values)
    assert found.shape == (4,)
    np.testing.assert_allclose(found.mean(), expected, rtol=0.06)
    assert (split_rhat(values) < 1.01).all()


def test_rhat_is_that_of_the_formula():
    values = autoregressive((3, 40), rho=0.8, seed=1)
    halves = np.concatenate([values[:, :20], values[:, 20:]])

    def by_hand(chains):
        scores = norm.ppf((rankdata(chains).reshape(chains.shape) - 0.375) / (chains.size + 0.25))
        within = scores.var(axis=1, ddof=1).mean()
        between = 20 * scores.mean(axis=1).var(ddof=1)
        return np.sqrt((19 / 20 * within + between / 20) / within)

    folded = np.abs(halves - np.median(halves))
    np.testing.assert_allclose(split_rhat(values), max(by_hand(halves), by_hand(folded)))
    # Ties share a rank.
    coarse = np.round(values)
    halves = np.concatenate([coarse[:, :20], coarse[:, 20:]])
    folded = np.abs(halves - np.median(halves))
    np.testing.assert_allclose(split_rhat(coarse), max(by_hand(halves), by_hand(folded)))


def test_disagreement_is_seen_in_place_in_width_and_within_one_replica():
    rng = np.random.default_rng(2)
    normal = rng.standard_normal((4, 500))
    place = np.array([0, 0, 0, 2.0])[:, None]
    width = np.array([1, 1, 1, 5.0])[:, None]
    assert split_rhat(normal) < 1.01
    assert split_rhat(normal + place) > 1.2
    assert split_rhat(normal * width) > 1.2
    drift = np.repeat([0.0, 3.0], 250)
    assert split_rhat(normal[:1] + drift) > 1.5
    assert effective_sample_size(normal + place) < 0.05 * effective_sample_size(normal)
    stuck = np.repeat([[0.0], [1.0]], 10, axis=1)
    assert split_rhat(stuck) == np.inf


def test_angles_take_the_worse_of_cosine_and_sine():
    rng = np.random.default_rng(3)
    angles = rng.uniform(-np.pi, np.pi, (4, 400, 2))
    # Cosines agree, sines do not: the mirror image.
    angles[:, :, 1] = np.abs(angles[:, :, 1]) * np.array([1, 1, 1, -1])[:, None]
    result = torsion_convergence(angles)
    assert result.rhat[0] < 1.02
    assert result.rhat[1] > 1.2
    assert split_rhat(np.cos(angles[:, :, 1])) < 1.02
    np.testing.assert_allclose(result.rhat[1], split_rhat(np.sin(angles[:, :, 1])))
    assert result.effective_samples[1] < 100 < result.effective_samples[0]


def test_equal_replicas_differ_by_counting_noise():
    rng = np.random.default_rng(4)
    counts = np.stack([rng.multinomial(2000, np.full(36, 1 / 36), size=5) for _ in range(6)])
    np.testing.assert_allclose(replica_jsd(counts).mean(), 35 / 4 / 2000, rtol=0.1)
    apart = np.zeros((2, 1, 4), dtype=int)
    apart[[0, 1], 0, [0, 3]] = 7
    np.testing.assert_allclose(replica_jsd(apart), np.log(2))
    # Of many replicas, pairs are drawn, and the same ones each time.
    many = rng.multinomial(500, np.full(10, 0.1), size=100)
    np.testing.assert_allclose(replica_jsd(many), 9 / 4 / 500, rtol=0.1)
    assert replica_jsd(many, seed=1) == replica_jsd(many, seed=1) != replica_jsd(many, seed=2)


def test_bad_input_is_refused():
    with pytest.raises(
        ValueError, match=r"values: expected shape \(n_replicas, n_frames, ...\) with"
    ):
        split_rhat(np.zeros((4, 3)))
    with pytest.raises(
        ValueError, match="values: expected numbers that vary, got one value in ever"
    ):
        effective_sample_size(np.ones((2, 9)))
    with pytest.raises(ValueError, match="values: expected finite numbers, got NaN"):
        split_rhat(np.full((2, 9), np.nan))
    with pytest.raises(
        ValueError, match=r"angles: expected shape \(n_replicas, n_frames, n_torsions"
    ):
        torsion_convergence(np.zeros((2, 9)))
    with pytest.raises(ValueError, match="counts: expected at least two replicas, got 1"):
        replica_jsd(np.ones((1, 4), dtype=int))


def test_a_resample_that_takes_each_replica_once_is_the_whole():
    angles = autoregressive((6, 60), rho=0.7, seed=5)
    whole = torsion_convergence(angles[:, :, None])
    rhat, samples = convergence_intervals(angles, n_resamples=40, seed=1)
    assert rhat.value == whole.rhat[0]
    assert samples.value == whole.effective_samples[0]
    assert rhat.low < rhat.value < rhat.high
    assert samples.low < samples.value < samples.high
    # Equal replicas are equal in any number: nothing to resample.
    twins = np.repeat(angles[:1], 6, axis=0)
    rhat, samples = convergence_intervals(twins, n_resamples=40, seed=1)
    np.testing.assert_allclose([rhat.low, rhat.high], rhat.value)
    np.testing.assert_allclose([samples.low, samples.high], samples.value)
    with pytest.raises(ValueError, match="angles: expected at least two replicas, got 1"):
        convergence_intervals(angles[:1])


def test_resampled_replicas_are_not_compared_with_themselves():
    counts = np.array([[9, 1], [9, 1], [1, 9]])
    pairs = replica_pairs(counts)
    interval = replica_jsd_interval(pairs, n_resamples=400, seed=0)
    assert interval.value == replica_jsd(counts)
    # Two of three pairs differ, all by one divergence: a resample of both kinds has a share of pairs of it,
    # and none of a single replica counts.
    one = pairs.divergences.max()
    assert interval.low < interval.value < interval.high <= 1.5 * one
    alike = replica_jsd_interval(replica_pairs(counts[:2]), n_resamples=10)
    assert alike.low == alike.high == 0.0
