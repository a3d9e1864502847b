"""Denoising diffusion: the noised state, the loss, and what noise, score and velocity are to each other.

Rows are samples or atoms: every function takes tensors (n_rows, …) and steps per sample, with ``batch_idx`` as the
sample of each row; without it rows are samples.

References
----------
.. [1] Ho, Jain, Abbeel, Denoising diffusion probabilistic models, arXiv:2006.11239, eq. 4 (state), 14 (loss).
.. [2] ITO, arXiv:2305.18046; BoPITO, arXiv:2410.10605.
"""

from typing import Protocol

from torch import Tensor

from tito_fast.validation import check_shape


class _Levels(Protocol):
    def alpha_bar_at(self, diffusion_step: Tensor) -> Tensor: ...


def diffuse(
    x: Tensor,
    noise: Tensor,
    diffusion_step: Tensor,
    schedule: _Levels,
    *,
    batch_idx: Tensor | None = None,
) -> Tensor:
    """Return ``x_d = sqrt(alpha_bar[d]) x + sqrt(1 − alpha_bar[d]) noise``.

    Parameters
    ----------
    x, noise : Tensor, shape (n_rows, …)
        Data and standard normal values; model units.
    diffusion_step : Tensor, shape (n_samples,)
        In 0 … ``schedule.n_diffusion_steps``.
    schedule : NoiseSchedule
    batch_idx : Tensor, shape (n_rows,), int64, or None
        Sample of each row.

    Returns
    -------
    Tensor, as ``x``

    Raises
    ------
    ValueError
        If shapes differ.
    """
    check_shape("noise", noise, tuple(x.shape))
    alpha_bar = _per_row(schedule.alpha_bar_at(diffusion_step), x, batch_idx)
    return alpha_bar.sqrt().to(x.dtype) * x + (1 - alpha_bar).sqrt().to(x.dtype) * noise


def noise_prediction_loss(
    prediction: Tensor, noise: Tensor, *, row_weights: Tensor | None = None
) -> Tensor:
    """Return the mean over rows of ``|prediction − noise|²``, a scalar.

    Parameters
    ----------
    prediction, noise : Tensor, shape (n_rows, …)
    row_weights : Tensor, shape (n_rows,), or None
        Factor of each row, such as its ``alpha_bar``.

    Raises
    ------
    ValueError
        If shapes differ.

    References
    ----------
    Ho et al., arXiv:2006.11239, eq. 14. The ITO paper prints the norm itself, its code squares it.
    """
    check_shape("prediction", prediction, tuple(noise.shape))
    per_row = (prediction - noise).square().flatten(1).sum(dim=1)
    if row_weights is not None:
        check_shape("row_weights", row_weights, (noise.shape[0],))
        per_row = per_row * row_weights
    return per_row.mean()


def score_from_noise(
    noise: Tensor, diffusion_step: Tensor, schedule: _Levels, *, batch_idx: Tensor | None = None
) -> Tensor:
    """Return the score ``∇ log p_d(x_d) = −noise / sqrt(1 − alpha_bar[d])`` of a noise prediction.

    Parameters
    ----------
    noise : Tensor, shape (n_rows, …)
    diffusion_step : Tensor, shape (n_samples,)
        Above 0: data has no score here.
    schedule : NoiseSchedule
    batch_idx : Tensor, shape (n_rows,), int64, or None

    Returns
    -------
    Tensor, as ``noise``
    """
    return -noise / _noise_std(noise, diffusion_step, schedule, batch_idx)


def noise_from_score(
    score: Tensor, diffusion_step: Tensor, schedule: _Levels, *, batch_idx: Tensor | None = None
) -> Tensor:
    """Return the noise prediction ``−sqrt(1 − alpha_bar[d]) score``; arguments as in ``score_from_noise``."""
    return -score * _noise_std(score, diffusion_step, schedule, batch_idx)


def score_from_velocity(
    velocity: Tensor,
    x_t: Tensor,
    flow_time: Tensor,
    *,
    base_std: float = 1.0,
    batch_idx: Tensor | None = None,
) -> Tensor:
    """Return the score ``(t v − x_t) / ((1 − t) base_std²)`` of a flow.

    Parameters
    ----------
    velocity, x_t : Tensor, shape (n_rows, …)
        Velocity of a flow whose base samples and data were paired independently.
    flow_time : Tensor, shape (n_samples,)
        In [0, 1); not checked.
    base_std : float
        Standard deviation of the base density.
    batch_idx : Tensor, shape (n_rows,), int64, or None

    Returns
    -------
    Tensor, as ``velocity``

    Notes
    -----
    With ``x_t = t x_1 + (1 − t) x_0`` and independent, normal x_0 the score is
    ``−E[x_0 | x_t] / ((1 − t) base_std²)``, and ``E[x_0 | x_t] = x_t − t v``. With any other coupling x_0 given x_1 is
    not normal, and this is no score. The noise on the interpolant of training (``flow_sigma``) is left out.
    """
    check_shape("x_t", x_t, tuple(velocity.shape))
    t = _per_row(flow_time, velocity, batch_idx).to(velocity.dtype)
    return (t * velocity - x_t) / ((1 - t) * base_std**2)


def _noise_std(
    like: Tensor, diffusion_step: Tensor, schedule: _Levels, batch_idx: Tensor | None
) -> Tensor:
    alpha_bar = _per_row(schedule.alpha_bar_at(diffusion_step), like, batch_idx)
    return (1 - alpha_bar).sqrt().to(like.dtype)


def _per_row(values: Tensor, like: Tensor, batch_idx: Tensor | None) -> Tensor:
    """Return values per sample as one per row, to be multiplied with ``like``."""
    if batch_idx is None:
        check_shape("diffusion_step", values, (like.shape[0],))
    else:
        check_shape("batch_idx", batch_idx, (like.shape[0],))
        check_shape("diffusion_step", values, ("n_samples",))
        values = values[batch_idx]
    return values.view(-1, *[1] * (like.ndim - 1))
