"""Splines of filters: exact at any distance, to the error that they state."""

import math

import pytest
import torch

from tito_fast.models.tito.filter_table import build_filter_tables, spline_weights
from tito_fast.models.tito.layers import Mlp, mlp_parameters, positional_encoding

WIDTH, LENGTH = 16, 10.0


@pytest.fixture
def mlp():
    torch.manual_seed(0)
    return Mlp(WIDTH, WIDTH, 5 * WIDTH)


def evaluate(rows, n_knots, dist):
    """Return the spline at each distance, (n, n_blocks, width), by the definition of its rows."""
    values = []
    for d in dist.tolist():
        position = d / (2 * LENGTH) * n_knots
        knot = math.floor(position)
        weights = spline_weights(position - knot)
        row = knot % n_knots
        values.append(sum(w * rows[:, row + tap].double() for tap, w in enumerate(weights)))
    return torch.stack(values)


@pytest.mark.parametrize("blocks", [(0, 1, 2, 3, 4), (0, 1, 2, 4)])
def test_the_spline_is_the_filter_within_its_error_at_any_distance(mlp, blocks):
    tables = build_filter_tables([(mlp_parameters(mlp), blocks)])
    generator = torch.Generator().manual_seed(1)
    # Also beyond one period, and next to its ends.
    dist = 60 * torch.rand(300, generator=generator, dtype=torch.float64)
    dist = torch.cat([dist, torch.tensor([0.0, 1e-9, 19.999999, 20.0, 40.0], dtype=torch.float64)])
    exact = mlp.double()(positional_encoding(dist, n_features=WIDTH, length=LENGTH))
    exact = exact.view(-1, 5, WIDTH)[:, list(blocks)].detach()
    found = evaluate(tables.rows[0], tables.n_knots, dist)
    error = (found - exact).abs().max() / exact.square().mean().sqrt()
    # The probes are the worst places of an interval up to a few percent.
    assert error <= 1.5 * tables.error
    assert tables.error <= 1e-6


def test_more_knots_are_taken_where_the_filter_is_steeper(mlp):
    plain = build_filter_tables([(mlp_parameters(mlp), (0,))])
    with torch.no_grad():
        mlp[1].weight *= 6
        mlp[4].weight *= 6
    steep = build_filter_tables([(mlp_parameters(mlp), (0,))])
    assert steep.n_knots > plain.n_knots


def test_a_tolerance_that_cannot_be_met_gives_no_table(mlp):
    assert build_filter_tables([(mlp_parameters(mlp), (0,))], tolerance=0.0) is None


def test_filters_share_their_knots(mlp):
    other = Mlp(WIDTH, WIDTH, 5 * WIDTH)
    with torch.no_grad():
        other[1].weight *= 6
        other[4].weight *= 6
    filters = [(mlp_parameters(each), (1, 2)) for each in (mlp, other)]
    tables = build_filter_tables(filters)
    assert [rows.shape for rows in tables.rows] == [(2, tables.n_knots + 5, WIDTH)] * 2


def test_the_weights_of_a_spline_sum_to_one():
    for t in (0.0, 0.3, 0.999):
        assert math.isclose(sum(spline_weights(t)), 1.0)
