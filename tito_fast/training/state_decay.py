"""The decay of a BoPITO model from data: the slowest implied time of trajectories of states."""

import numpy as np
import torch
from numpy.typing import NDArray

from tito_fast.flows.bopito import decay_of_timescale
from tito_fast.models.state.network import encode
from tito_fast.validation import check_at_least

_N_FEATURES = 16
# Relative to the largest variance: directions below it are rounding.
_EPSILON = 1e-6


def fitted_decay(trajectories: NDArray[np.floating], *, lag_steps: int) -> float:
    """Return ``exp(−1 / t)`` with t the slowest implied time of the trajectories, in frames.

    The time is ``−lag_steps / ln λ``, λ the largest eigenvalue of a reversible TICA on 16 cosines and sines per
    dimension, whose longest period is twice the range of the data.

    Parameters
    ----------
    trajectories : ndarray, shape (n_trajectories, n_frames, n_dims)
        Started from equilibrium, or long enough not to depend on their starts.
    lag_steps : int
        In frames; long compared with fast processes, short compared with the slowest.

    Returns
    -------
    float
        Above 0 and below 1.

    Raises
    ------
    ValueError
        If trajectories are no longer than the lag, or nothing in them decays slowly: λ is not between 0 and 1.

    References
    ----------
    BoPITO, arXiv:2410.10605: λ̂ near the largest nontrivial eigenvalue.
    """
    check_at_least("lag_steps", lag_steps, 1)
    if trajectories.ndim != 3 or trajectories.shape[1] <= lag_steps:
        raise ValueError(
            f"trajectories: expected shape (n_trajectories, n_frames > {lag_steps}, n_dims), "
            f"got {trajectories.shape}"
        )
    features = _features(np.asarray(trajectories, dtype=np.float64))
    before = features[:, :-lag_steps].reshape(-1, features.shape[-1])
    after = features[:, lag_steps:].reshape(-1, features.shape[-1])
    mean = (before.mean(axis=0) + after.mean(axis=0)) / 2
    before, after = before - mean, after - mean
    n_pairs = len(before)
    instantaneous = (before.T @ before + after.T @ after) / (2 * n_pairs)
    lagged = (before.T @ after + after.T @ before) / (2 * n_pairs)
    variances, directions = np.linalg.eigh(instantaneous)
    is_kept = variances > _EPSILON * variances[-1]
    whitening = directions[:, is_kept] / np.sqrt(variances[is_kept])
    slowest = float(np.linalg.eigvalsh(whitening.T @ lagged @ whitening)[-1])
    if not 0 < slowest < 1:
        raise ValueError(
            f"trajectories: expected a process that decays slower than the lag, got eigenvalue {slowest:g}"
        )
    return decay_of_timescale(-lag_steps / float(np.log(slowest)))


def _features(states: NDArray[np.float64]) -> NDArray[np.float64]:
    low = states.min(axis=(0, 1))
    span = np.maximum(states.max(axis=(0, 1)) - low, np.finfo(np.float64).tiny)
    encoded = encode(torch.from_numpy((states - low) / span), n_features=_N_FEATURES, length=1.0)
    return np.asarray(encoded.flatten(2).numpy())
