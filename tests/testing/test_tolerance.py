import pytest
import torch

from tito_fast.testing.tolerance import check_against_reference, check_draws_against_reference

EXACT = torch.tensor([1.0, -4.0, 0.5], dtype=torch.float64)


def off_by(error, dtype=torch.float32):
    return (EXACT + torch.tensor([0.0, 0.0, error], dtype=torch.float64)).to(dtype)


def test_twice_the_plain_error_passes_and_more_fails():
    plain = off_by(1e-3)
    report = check_against_reference(off_by(1.9e-3), plain, EXACT)
    assert report.kernel_error == pytest.approx(1.9e-3, rel=1e-3)
    assert report.scale == 4.0
    with pytest.raises(AssertionError, match=r"message: expected an error of at most 0\.002"):
        check_against_reference(off_by(2.1e-3), plain, EXACT, name="message")


def test_floor_is_relative_to_the_scale_and_tighter_in_float64():
    check_against_reference(off_by(3e-7), off_by(0.0), EXACT)
    with pytest.raises(AssertionError, match="kernel: expected an error"):
        check_against_reference(off_by(6e-7), off_by(0.0), EXACT)
    with pytest.raises(AssertionError, match="kernel: expected an error"):
        check_against_reference(off_by(1e-12, torch.float64), EXACT, EXACT)
    check_against_reference(off_by(1e-14, torch.float64), EXACT, EXACT)


def test_over_draws_the_mean_square_counts():
    exact = EXACT.expand(4, 3)
    plain = torch.stack([off_by(error) for error in (1e-3, 1e-3, 1e-3, 1e-3)])
    lucky_but_once = torch.stack([off_by(error) for error in (1e-4, 1e-4, 1e-4, 3e-3)])
    report = check_draws_against_reference(lucky_but_once, plain, exact)
    assert report.kernel_error == pytest.approx(1.5e-3, rel=1e-2)
    always_worse = torch.stack([off_by(2.1e-3)] * 4)
    with pytest.raises(AssertionError, match=r"kernel: expected an error of at most 0\.002"):
        check_draws_against_reference(always_worse, plain, exact)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_fails(bad):
    kernel = off_by(0.0)
    kernel[1] = bad
    with pytest.raises(AssertionError, match="kernel: expected an error"):
        check_against_reference(kernel, off_by(0.0), EXACT)


def test_empty_tensors_agree():
    empty = torch.zeros(0, 3)
    assert check_against_reference(empty, empty, empty.double()).kernel_error == 0.0


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match="reference64: expected dtype float64"):
        check_against_reference(off_by(0.0), off_by(0.0), off_by(0.0))
    with pytest.raises(ValueError, match="kernel: expected one shape"):
        check_against_reference(off_by(0.0)[:2], off_by(0.0), EXACT)
    with pytest.raises(ValueError, match=r"plain: expected dtype torch\.float32"):
        check_against_reference(off_by(0.0), EXACT, EXACT)
