"""The filters of the velocity network as splines over the distance.

A filter ``w(enc(d))`` is a smooth function of one number, and periodic in it: the encoding repeats after twice its
length. So a spline over one period holds for every distance, and nothing is ever extrapolated. Quintic B-splines on
equal knots are fitted in float64, which is one division per Fourier mode; the error falls with the sixth power of the
spacing. It is measured between the knots, and the number of knots doubles until it is below the tolerance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tito_fast.ops.mlp_parameters import MlpParameters, mlp_reference

TOLERANCE = 1e-6
"""Largest error between the knots, in units of the filter's root mean square."""

KNOTS_PER_CHANNEL = 32
"""Knots per channel of the encoding to begin with: the shortest wave then has 64."""

MOST_KNOTS = 32768

# Off the knots, where an interpolation is at its worst.
_PROBES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class FilterTables:
    """Spline coefficients of several filters on the same knots.

    Parameters
    ----------
    rows : list of Tensor, each (n_blocks, n_knots + 5, width) float32
        The knots lie at equal distances over one period, twice the encoding's length.
        Coefficient ``r`` of a block is that of knot ``r − 2``, periodic, so that interval ``i`` reads rows
        ``i … i + 5``.
    n_knots : int
    error : float
        Largest error found between the knots, in units of the root mean square of its filter.
    """

    rows: list[Tensor]
    n_knots: int
    error: float


def build_filter_tables(
    filters: Sequence[tuple[MlpParameters, Sequence[int]]],
    *,
    tolerance: float = TOLERANCE,
) -> FilterTables | None:
    """Return splines of ``filters``, or None if the largest number of knots is not enough.

    Parameters
    ----------
    filters
        Of each filter the parameters, width → width → 5 width, and the blocks of outputs that are wanted.
    tolerance
        Bound of the error, in units of the filter's root mean square.
    """
    n_knots = KNOTS_PER_CHANNEL * max(parameters.first_bias.shape[0] for parameters, _ in filters)
    while n_knots <= MOST_KNOTS:
        rows, worst = [], 0.0
        for parameters, blocks in filters:
            coefficients, error = _fit(parameters, blocks, n_knots=n_knots)
            rows.append(coefficients)
            worst = max(worst, error)
            if not worst <= tolerance:
                break
        else:
            return FilterTables(rows, n_knots, worst)
        n_knots *= 2
    return None


def _fit(parameters: MlpParameters, blocks: Sequence[int], *, n_knots: int) -> tuple[Tensor, float]:
    exact = MlpParameters(*(tensor.detach().to(torch.float64) for tensor in parameters))
    width = exact.first_bias.shape[0]

    def values(offset: float) -> Tensor:
        knots = torch.arange(n_knots, dtype=torch.float64, device=exact.first_bias.device)
        angles = (knots + offset) * (2 * torch.pi / n_knots)
        filters = mlp_reference(_encode(angles, width), exact).view(n_knots, 5, width)
        return filters[:, list(blocks)].reshape(n_knots, -1)

    at_knots = values(0.0)
    modes = torch.arange(n_knots // 2 + 1, dtype=torch.float64, device=at_knots.device)
    angles = (modes * (2 * torch.pi / n_knots)).unsqueeze(1)
    # The basis has the values 66, 26 and 1, over 120, at the knots 0, ±1 and ±2.
    response = (66 + 52 * torch.cos(angles) + 2 * torch.cos(2 * angles)) / 120
    coefficients = torch.fft.irfft(torch.fft.rfft(at_knots, dim=0) / response, n=n_knots, dim=0)
    order = torch.arange(-2, n_knots + 3, device=at_knots.device) % n_knots
    rounded = coefficients.to(torch.float32)[order]
    scale = at_knots.square().mean().sqrt()
    error = max(
        float((_evaluate(rounded.to(torch.float64), n_knots, t) - values(t)).abs().max() / scale)
        for t in _PROBES
    )
    rows = rounded.view(n_knots + 5, len(blocks), width).transpose(0, 1).contiguous()
    return rows, error


def _encode(angles: Tensor, width: int) -> Tensor:
    ranks = torch.arange(1, width // 2 + 1, dtype=angles.dtype, device=angles.device)
    phases = angles.unsqueeze(-1) * ranks
    return torch.stack([torch.cos(phases), torch.sin(phases)], dim=-1).flatten(-2)


def spline_weights(t: float) -> list[float]:
    """Return the six weights of the quintic B-spline at ``t`` in [0, 1) behind a knot."""
    return [
        (1 - t) ** 5 / 120,
        (26 - 50 * t + 20 * t**2 + 20 * t**3 - 20 * t**4 + 5 * t**5) / 120,
        (66 - 60 * t**2 + 30 * t**4 - 10 * t**5) / 120,
        (26 + 50 * t + 20 * t**2 - 20 * t**3 - 20 * t**4 + 10 * t**5) / 120,
        (1 + 5 * t + 10 * t**2 + 10 * t**3 + 5 * t**4 - 5 * t**5) / 120,
        t**5 / 120,
    ]


def _evaluate(rows: Tensor, n_knots: int, t: float) -> Tensor:
    """Return the spline at ``t`` behind every knot, (n_knots, n_values), from rows (n_knots + 5, n_values)."""
    total = torch.zeros_like(rows[:n_knots])
    for tap, weight in enumerate(spline_weights(t)):
        total += weight * rows[tap : tap + n_knots]
    return total
