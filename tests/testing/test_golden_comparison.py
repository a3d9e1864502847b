import math

import torch

from tito_fast.testing.golden.comparison import (
    TOLERANCES,
    Line,
    Quantity,
    compare,
    relative_error,
    worst,
)


def test_error_is_relative_to_the_largest_recorded_value():
    recorded = torch.tensor([0.0, -4.0, 1.0])
    assert relative_error(torch.tensor([0.0, -4.0, 1.5]), recorded) == 0.125
    assert relative_error(recorded, recorded) == 0.0


def test_error_where_nothing_is_recorded_is_absolute():
    assert relative_error(torch.tensor([0.25, 0.0]), torch.zeros(2)) == 0.25
    assert relative_error(torch.zeros(0, 3), torch.zeros(0, 3)) == 0.0


def test_other_shape_and_nan_fail():
    assert relative_error(torch.zeros(2), torch.zeros(3)) == math.inf
    recorded = torch.tensor([1.0, 2.0])
    for computed in (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.inf]), recorded[:1]):
        line = compare("x", computed, recorded, dtype="float64", quantity=Quantity.VELOCITY)
        assert line.is_failed
        assert "FAIL" in str(line)


def test_error_at_the_tolerance_passes_and_above_it_fails():
    assert not Line(dtype="-", name="x", error=1e-5, tolerance=1e-5).is_failed
    assert Line(dtype="-", name="x", error=1.01e-5, tolerance=1e-5).is_failed


def test_worst_names_the_largest_error_and_nan_before_it():
    kwargs = {"dtype": "float64", "quantity": Quantity.GRADIENT}
    line = worst("grads", {"a": 1e-9, "b": 3e-9, "c": 0.0}, **kwargs)
    assert (line.error, line.note) == (3e-9, "worst of 3: b")
    assert not line.is_failed
    line = worst("grads", {"a": 1.0, "b": math.nan}, **kwargs)
    assert line.is_failed
    assert line.note == "worst of 2: b"
    assert not worst("grads", {}, **kwargs).is_compared


def test_every_quantity_has_a_tolerance_for_both_dtypes():
    assert set(TOLERANCES) == set(Quantity)
    for tolerances in TOLERANCES.values():
        assert tolerances["float64"] <= tolerances["float32"]
