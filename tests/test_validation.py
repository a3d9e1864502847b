"""Checks name the argument, what was expected and what was given."""

import pytest
import torch

from tito_fast import validation


def test_messages_say_what_was_given():
    with pytest.raises(ValueError, match=r"positions: expected shape \(n_atoms, 3\), got \(8, 2\)"):
        validation.check_shape("positions", torch.zeros(8, 2), ("n_atoms", 3))
    with pytest.raises(TypeError, match="x: expected dtype float32 or float64, got int64"):
        validation.check_floating("x", torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="replicas: expected at least 1, got 0"):
        validation.check_at_least("replicas", 0, 1)
    with pytest.raises(ValueError, match="lag: expected a value above zero, got nan ps"):
        validation.check_positive("lag", float("nan"), unit="ps")
    with pytest.raises(ValueError, match="mode: expected one of a, b, got 'c'"):
        validation.check_choice("mode", "c", ("a", "b"))
    with pytest.raises(ValueError, match="x: expected device meta as y, got cpu"):
        validation.check_same_device("x", torch.zeros(1), "y", torch.zeros(1, device="meta"))


@pytest.mark.parametrize("starts", [[1, 2], [0, 3, 2], [0, 1]])
def test_malformed_batch_ptr_is_refused(starts):
    with pytest.raises(
        ValueError, match="batch_ptr: expected non-decreasing starts from 0 to n_atoms = 2"
    ):
        validation.check_batch_ptr(torch.tensor(starts), 2)


def test_batch_ptr_has_one_dimension_and_integers():
    with pytest.raises(ValueError, match="batch_ptr: expected shape"):
        validation.check_batch_ptr(torch.zeros(0, dtype=torch.int64), 0)
    with pytest.raises(TypeError, match="batch_ptr: expected dtype int64"):
        validation.check_batch_ptr(torch.zeros(1), 0)


def test_good_values_pass():
    validation.check_shape("x", torch.zeros(0, 3), ("n", 3))
    validation.check_batch_ptr(torch.tensor([0, 0, 2]), 2)
