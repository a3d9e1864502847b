"""Whether replicas agree: split R-hat, effective sample size, divergence between replicas."""

from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.resampling import (
    N_RESAMPLES,
    Interval,
    interval_about,
    lagged_products,
    unit_weights,
)
from tito_fast.data.molecule import FloatArray, IntArray
from tito_fast.data.torsions import jsd

_MIN_FRAMES: Final = 4
_MAX_REPLICA_PAIRS: Final = 2016  # all pairs of 64 replicas


class Convergence(NamedTuple):
    """Agreement of replicas, one number per torsion."""

    rhat: FloatArray
    effective_samples: FloatArray


def split_rhat(values: NDArray[Any]) -> FloatArray:
    """Return rank-normalized split R-hat, the larger of that of values and of their folded values.

    Parameters
    ----------
    values : ndarray, shape (n_replicas, n_frames, ...)
        One replica is compared as its first half against its second.

    Returns
    -------
    ndarray, shape (...), float64
        1 where all halves of all replicas look alike; above 1.01 they have not converged. Infinite where
        each half of a replica is constant and they differ.

    Raises
    ------
    ValueError
        If there are fewer than 4 frames, or values are not finite or all equal.

    References
    ----------
    Vehtari et al., Bayesian Anal. 16, 667–718 (2021), doi:10.1214/20-BA1221; ranks to normal scores
    with (rank − 3/8) / (n + 1/4).
    """
    chains = _split(values)
    result = []
    for column in _columns(chains):
        folded = np.abs(column - np.median(column))
        scores = [_rhat(_normal_scores(column))]
        if folded.min() < folded.max():
            scores.append(_rhat(_normal_scores(folded)))
        result.append(max(scores))
    return np.array(result).reshape(chains.shape[2:])


def effective_sample_size(values: NDArray[Any]) -> FloatArray:
    """Return the bulk effective sample size of all replicas together.

    Parameters
    ----------
    values : ndarray, shape (n_replicas, n_frames, ...)

    Returns
    -------
    ndarray, shape (...), float64
        At most n log10 n for n frames in all. Replicas that disagree count for less.

    Raises
    ------
    ValueError
        As :func:`split_rhat`.

    References
    ----------
    As :func:`split_rhat`, equations 10 to 13; Geyer's initial monotone sequence.
    """
    chains = _split(values)
    result = [_effective_samples(_normal_scores(column)) for column in _columns(chains)]
    return np.array(result).reshape(chains.shape[2:])


def torsion_convergence(angles: NDArray[Any]) -> Convergence:
    """Return R-hat and effective sample size of angles, the worse of cosine and sine.

    Parameters
    ----------
    angles : ndarray, shape (n_replicas, n_frames, n_torsions)
        In radians.

    Returns
    -------
    Convergence
        ``rhat`` and ``effective_samples``, shape (n_torsions,).

    Raises
    ------
    ValueError
        As :func:`split_rhat`.
    """
    if angles.ndim != 3:
        raise ValueError(
            f"angles: expected shape (n_replicas, n_frames, n_torsions), got {angles.shape}"
        )
    both = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return Convergence(
        rhat=split_rhat(both).max(axis=-1),
        effective_samples=effective_sample_size(both).min(axis=-1),
    )


def replica_jsd(counts: IntArray, *, seed: int = 0) -> FloatArray:
    """Return the mean divergence of two replicas' histograms.

    Parameters
    ----------
    counts : ndarray, shape (n_replicas, ..., n_bins)
        Such as ``torsion_counts(...).sums`` with one unit per replica.
    seed : int
        Of more than 64 replicas, 2016 pairs are drawn.

    Returns
    -------
    ndarray, shape (...), float64
        Natural logarithm: 0 to ln 2. Finite replicas of n independent frames differ by about
        (n_bins − 1) / (4 n).

    Raises
    ------
    ValueError
        If there are fewer than two replicas, or one without frames.
    """
    return np.asarray(replica_pairs(counts, seed=seed).divergences.mean(axis=0))


class ReplicaPairs(NamedTuple):
    """Divergences of pairs of replicas.

    ``pairs`` (n_pairs, 2), int64; ``divergences`` (n_pairs, ...), float64.
    """

    pairs: IntArray
    divergences: FloatArray


def replica_pairs(counts: IntArray, *, seed: int = 0) -> ReplicaPairs:
    """Return the divergence of the histograms of each pair of replicas.

    Parameters
    ----------
    counts, seed
        As for :func:`replica_jsd`.

    Returns
    -------
    ReplicaPairs

    Raises
    ------
    ValueError
        As :func:`replica_jsd`.
    """
    n_replicas = len(counts)
    if n_replicas < 2:
        raise ValueError(f"counts: expected at least two replicas, got {n_replicas}")
    if n_replicas * (n_replicas - 1) // 2 <= _MAX_REPLICA_PAIRS:
        pairs = np.array(list(combinations(range(n_replicas), 2)))
    else:
        rng = np.random.default_rng(seed)
        first = rng.integers(n_replicas, size=_MAX_REPLICA_PAIRS)
        other = (first + rng.integers(1, n_replicas, size=_MAX_REPLICA_PAIRS)) % n_replicas
        pairs = np.stack([first, other], axis=1)
    shares = counts.astype(np.float64)
    divergences = [jsd(shares[i], shares[j]) for i, j in pairs.tolist()]
    return ReplicaPairs(pairs=pairs, divergences=np.asarray(divergences))


def replica_jsd_interval(
    found: ReplicaPairs, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Interval:
    """Return the mean over all pairs (and torsions), with an interval by resampling replicas.

    A resample may have a replica several times, but compares none with itself.
    """
    each = found.divergences.reshape(len(found.pairs), -1).mean(axis=1)
    weights = unit_weights(int(found.pairs.max()) + 1, n_resamples=n_resamples, seed=seed)
    weight = (weights[:, found.pairs[:, 0]] * weights[:, found.pairs[:, 1]]).astype(np.float64)
    with np.errstate(invalid="ignore"):
        resamples = weight @ each / weight.sum(axis=1)
    return interval_about(each.mean(), resamples, bounds=(0.0, float(np.log(2))))


def convergence_intervals(
    angles: NDArray[Any], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> tuple[Interval, Interval]:
    """Return R-hat and effective sample size of one torsion with intervals by resampling replicas.

    Parameters
    ----------
    angles : ndarray, shape (n_replicas, n_frames)
        In radians; at least two replicas.
    n_resamples, seed : int

    Returns
    -------
    rhat, effective_samples : Interval

    Raises
    ------
    ValueError
        As :func:`split_rhat`, or for a single replica.

    Notes
    -----
    Ranks are those among all replicas, also of a resample.
    """
    n_replicas = len(angles)
    if n_replicas < 2:
        raise ValueError(f"angles: expected at least two replicas, got {n_replicas}")
    whole = torsion_convergence(angles[:, :, None])
    chosen = np.random.default_rng(seed).integers(n_replicas, size=(n_resamples, n_replicas))
    # Both halves of a replica go together.
    halves = np.concatenate([chosen, chosen + n_replicas], axis=1)
    rhats, sizes = np.zeros(n_resamples), np.full(n_resamples, np.inf)
    for column in _columns(_split(np.stack([np.cos(angles), np.sin(angles)], axis=-1))):
        scores = _normal_scores(column)
        folded = np.abs(column - np.median(column))
        kinds = [scores]
        if folded.min() < folded.max():
            kinds.append(_normal_scores(folded))
        for kind in kinds:
            within, mean = kind.var(axis=1, ddof=1), kind.mean(axis=1)
            rhats = np.maximum(rhats, _rhats(within[halves], mean[halves], kind.shape[1]))
        own = _Autocovariances.of(scores)
        sizes = np.minimum(sizes, [own.effective_samples(rows) for rows in halves])
    return (
        interval_about(whole.rhat[0], rhats, bounds=(0.0, np.inf)),
        interval_about(whole.effective_samples[0], sizes, bounds=(1.0, np.inf)),
    )


def _split(values: NDArray[Any]) -> FloatArray:
    """Return halves of replicas, (2 n_replicas, n_frames // 2, ...); a middle frame is left out."""
    if values.ndim < 2 or not len(values) or values.shape[1] < _MIN_FRAMES:
        raise ValueError(
            f"values: expected shape (n_replicas, n_frames, ...) with at least {_MIN_FRAMES} frames, "
            f"got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("values: expected finite numbers, got NaN or infinity")
    wide = values.astype(np.float64, copy=False)
    if (wide == wide[:1, :1]).all(axis=(0, 1)).any():
        raise ValueError("values: expected numbers that vary, got one value in every frame")
    half = wide.shape[1] // 2
    return np.concatenate([wide[:, :half], wide[:, -half:]])


def _columns(chains: FloatArray) -> list[FloatArray]:
    flat = chains.reshape(*chains.shape[:2], -1)
    return [np.ascontiguousarray(flat[:, :, column]) for column in range(flat.shape[2])]


def _normal_scores(values: FloatArray) -> FloatArray:
    """Return normal quantiles of the ranks of all values; equal values share a mean rank."""
    from scipy.special import ndtri  # noqa: PLC0415  slow to import

    flat = values.ravel()
    order = flat.argsort()
    in_order = flat[order]
    starts = np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1]]))
    lengths = np.diff(np.append(starts, len(flat)))
    # Ranks from 1: a group of equals covers starts + 1 to starts + lengths.
    ranks = np.empty(len(flat))
    ranks[order] = np.repeat(starts + (lengths + 1) / 2, lengths)
    return np.asarray(ndtri((ranks - 0.375) / (len(flat) + 0.25))).reshape(values.shape)


def _rhat(chains: FloatArray) -> float:
    within, mean = chains.var(axis=1, ddof=1), chains.mean(axis=1)
    return float(_rhats(within[None], mean[None], chains.shape[1])[0])


def _rhats(variances: FloatArray, means: FloatArray, n_frames: int) -> FloatArray:
    """Return R-hat of chains (n_sets, n_chains) of which variance and mean are known."""
    within = variances.mean(axis=1)
    whole = _whole_variance(within, means, n_frames)
    ratio = np.divide(whole, within, out=np.full(len(within), np.inf), where=within > 0)
    return np.asarray(np.sqrt(ratio))


def _whole_variance(within: FloatArray, means: FloatArray, n_frames: int) -> FloatArray:
    return np.asarray((n_frames - 1) / n_frames * within + means.var(axis=1, ddof=1))


class _Autocovariances(NamedTuple):
    """What the effective sample size of any of the chains is made of."""

    n_frames: int
    variances: FloatArray
    means: FloatArray
    lagged: FloatArray  # (n_frames, n_chains)

    @classmethod
    def of(cls, chains: FloatArray) -> "_Autocovariances":
        centered = chains - chains.mean(axis=1, keepdims=True)
        return cls(
            n_frames=chains.shape[1],
            variances=chains.var(axis=1, ddof=1),
            means=chains.mean(axis=1),
            lagged=lagged_products(centered.T),
        )

    def effective_samples(self, rows: IntArray) -> float:
        n_frames, n_all = self.n_frames, len(rows) * self.n_frames
        within = self.variances[rows].mean(keepdims=True)
        whole = _whole_variance(within, self.means[rows][None], n_frames)
        if not whole > 0:
            return float("nan")
        weights = np.bincount(rows, minlength=len(self.means))
        covariance = self.lagged @ weights / len(rows) / n_frames
        rho = 1 - (within - covariance) / whole
        rho[0] = 1.0
        pairs = rho[: n_frames // 2 * 2].reshape(-1, 2).sum(axis=1)
        is_positive = np.logical_and.accumulate(pairs > 0)
        frames_per_sample = 2 * np.minimum.accumulate(pairs)[is_positive].sum() - 1
        return float(n_all / max(float(frames_per_sample), 1 / np.log10(n_all)))


def _effective_samples(chains: FloatArray) -> float:
    return _Autocovariances.of(chains).effective_samples(np.arange(len(chains)))
