"""How fast the slowest process of trajectories decays: λ̂ of a Boltzmann prior, fitted from data.

| symbol in the paper | name here |
|---|---|
| λ̂ | `decay_per_step` |
| −τ / ln λ₂(τ) | `RelaxationTime.value_ps` |
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tito_fast.analysis.features import bond_torsions, torsion_features
from tito_fast.analysis.moments import (
    covariances,
    lagged_moments,
    reversible_covariances,
    whitening,
)
from tito_fast.analysis.resampling import N_RESAMPLES, block_length, bootstrap
from tito_fast.analysis.series import Series
from tito_fast.analysis.tica import tica_from_moments
from tito_fast.analysis.vamp import fit_vamp
from tito_fast.data.molecule import FloatArray
from tito_fast.data.store import Store
from tito_fast.data.torsions import torsion_angles
from tito_fast.validation import check_at_least, check_positive

_LEAST_UNITS: Final = 10
"""With fewer trajectories than these, each is cut into blocks."""


@dataclass(frozen=True, kw_only=True)
class RelaxationTime:
    """The implied time of the slowest process, with its 95 % interval.

    Parameters
    ----------
    value_ps : float
    low_ps, high_ps : float
        NaN where there is one unit of resampling only; the upper end may be infinite.
    eigenvalue : float
        Of the transfer operator at ``lag_ps``.
    lag_ps : float
    """

    value_ps: float
    low_ps: float
    high_ps: float
    eigenvalue: float
    lag_ps: float


def slowest_relaxation_time(
    series: Sequence[Series],
    *,
    lag_frames: int,
    frame_interval_ps: float,
    is_reversible: bool = True,
    block_frames: int | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> RelaxationTime:
    """Return −lag / ln λ₂, the implied time of the slowest process in features of trajectories.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_frames, n_features)
        Features of each trajectory, such as cosines and sines of torsions.
    lag_frames : int
        The estimate converges from below as the lag grows, and its noise grows too.
    frame_interval_ps : float
    is_reversible : bool
        True: the first eigenvalue of TICA, which takes every pair forward and backward in time. False: the first
        singular value of VAMP, for trajectories that start far from equilibrium and are short.
    block_frames : int, optional
        Frames in a unit of resampling. By default trajectories are units if there are ten of them, and are cut into
        blocks of several correlation times otherwise.
    n_resamples, seed : int
        Of the bootstrap over units.

    Returns
    -------
    RelaxationTime

    Raises
    ------
    ValueError
        If no trajectory is longer than the lag, no feature varies, or the slowest process does not decay or is not
        seen at this lag (an eigenvalue outside 0 to 1).

    Notes
    -----
    The eigenvalue is that of ``deeptime.decomposition.TICA`` or ``VAMP`` on the same trajectories.

    References
    ----------
    Pérez-Hernández et al., J. Chem. Phys. 139, 015102 (2013), doi:10.1063/1.4811489; BoPITO, arXiv:2410.10605, λ̂.
    """
    check_at_least("lag_frames", lag_frames, 1)
    check_positive("frame_interval_ps", frame_interval_ps, unit="ps")
    moments = lagged_moments(series, lag_frames=lag_frames)
    if block_frames is None and moments.n_units < _LEAST_UNITS:
        slowest = tica_from_moments(moments, n_components=1)
        coordinates = [slowest.project(one)[:, 0] for one in series]
        block_frames = block_length(coordinates).block_frames
    if block_frames is not None:
        moments = lagged_moments(series, lag_frames=lag_frames, block_frames=block_frames)

    def eigenvalue(total: FloatArray) -> FloatArray:
        return np.asarray(_eigenvalue(total, is_reversible=is_reversible))

    found = bootstrap(eigenvalue, moments, bounds=(0.0, 1.0), n_resamples=n_resamples, seed=seed)
    value, lag_ps = float(found.value), lag_frames * frame_interval_ps
    if not 0 < value < 1:
        raise ValueError(
            f"lag_frames: expected a lag at which the slowest process has decayed in part, got {lag_frames} with an "
            f"eigenvalue of {value:.3g}; take another lag, other features or more frames"
        )
    low, high = (_implied_time(float(end), lag_ps) for end in (found.low, found.high))
    return RelaxationTime(
        value_ps=_implied_time(value, lag_ps),
        low_ps=low,
        high_ps=high,
        eigenvalue=value,
        lag_ps=lag_ps,
    )


def store_relaxation_time(
    store: Store, *, split: str, lag_frames: int = 10, seed: int = 0
) -> RelaxationTime:
    """Return the longest of the slowest implied times of the molecules of a store, in torsions.

    A decay that is too slow for a molecule leaves its dynamic network more to learn; one that is too fast would let
    its processes go too early. So the slowest molecule decides.

    Parameters
    ----------
    store : Store
    split : str
    lag_frames : int
        At most a quarter of a molecule's longest trajectory is taken.
    seed : int
        Of the bootstrap.

    Raises
    ------
    ValueError
        If there is no molecule with a torsion whose slowest process decays at this lag.
    """
    indices: dict[int, list[int]] = {}
    for index in store.split_indices(split):
        indices.setdefault(store.trajectories[index].molecule_idx, []).append(index)
    times, reason = [], "none has a torsion"
    for molecule_idx, rows in indices.items():
        torsions = bond_torsions(store.molecules[molecule_idx])
        if not len(torsions):
            continue
        series = [
            torsion_features(torsion_angles(store.trajectory_positions(row), torsions))
            for row in rows
        ]
        longest = max(len(one) for one in series)
        try:
            found = slowest_relaxation_time(
                series,
                lag_frames=max(1, min(lag_frames, longest // 4)),
                frame_interval_ps=store.trajectories[rows[0]].frame_interval_ps,
                seed=seed,
            )
        except ValueError as error:
            reason = str(error)
            continue
        times.append(found)
    if not times:
        raise ValueError(
            f"split: expected molecules with a slow torsion in {split!r}, got none ({reason}); give the decay"
        )
    return max(times, key=lambda each: each.value_ps)


def decay_per_step(relaxation_time_ps: float, *, frame_interval_ps: float) -> float:
    """Return λ̂ = exp(−interval / relaxation time), what is left of the slowest process after one frame.

    Raises
    ------
    ValueError
        If a time is not finite and above zero.

    Examples
    --------
    >>> round(decay_per_step(2500.0, frame_interval_ps=1.0), 4)
    0.9996
    """
    check_positive("relaxation_time_ps", relaxation_time_ps, unit="ps")
    check_positive("frame_interval_ps", frame_interval_ps, unit="ps")
    return math.exp(-frame_interval_ps / relaxation_time_ps)


def _eigenvalue(total: FloatArray, *, is_reversible: bool) -> float:
    if not is_reversible:
        return float(fit_vamp(covariances(total)).singular_values[0])
    pairs = reversible_covariances(total)
    # The largest with its sign: a process that alternates is not a slow one.
    white = whitening(pairs.cov_00)
    return float(np.linalg.eigvalsh(white.T @ pairs.cov_0t @ white)[-1])


def _implied_time(eigenvalue: float, lag_ps: float) -> float:
    if math.isnan(eigenvalue):
        return math.nan
    if eigenvalue <= 0:
        return 0.0
    return math.inf if eigenvalue >= 1 else -lag_ps / math.log(eigenvalue)
