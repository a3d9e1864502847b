from itertools import pairwise

import pytest
import torch

from tito_fast.ops import center
from tito_fast.testing.tolerance import check_against_reference

SIZES = [[1], [63], [0, 5, 0, 1, 7, 0]]


def make_case(sizes, device, *, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    positions = 2.0 + torch.randn(sum(sizes), 3, generator=generator, dtype=dtype)
    return positions.to(device), torch.tensor([0, *sizes]).cumsum(0).to(device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference(triton_device, sizes, dtype):
    positions, batch_ptr = make_case(sizes, triton_device, dtype=dtype)
    check_against_reference(
        center(positions, batch_ptr=batch_ptr, backend="triton"),
        center(positions, batch_ptr=batch_ptr, backend="reference"),
        center(positions.double(), batch_ptr=batch_ptr, backend="reference"),
    )


def test_gradcheck_once_and_twice(triton_device):
    positions, batch_ptr = make_case([0, 2, 1], triton_device, dtype=torch.float64)

    def function(given):
        return center(given, batch_ptr=batch_ptr, backend="triton")

    assert torch.autograd.gradcheck(function, (positions.requires_grad_(),))
    assert torch.autograd.gradgradcheck(function, (positions,))


def test_mean_is_zero_and_differences_are_kept(triton_device):
    positions, batch_ptr = make_case([5, 63], triton_device, dtype=torch.float64)
    result = center(positions, batch_ptr=batch_ptr, backend="triton")
    for start, end in pairwise(batch_ptr.tolist()):
        here, before = result[start:end], positions[start:end]
        assert here.mean(dim=0).abs().max() < 1e-15 * (end - start + 1)
        torch.testing.assert_close(here - here[0], before - before[0], rtol=0, atol=1e-14)


def test_empty_and_tiny(triton_device):
    for sizes in ([], [0], [0, 0]):
        positions, batch_ptr = make_case(sizes, triton_device)
        assert center(positions, batch_ptr=batch_ptr, backend="triton").shape == (0, 3)
    positions, batch_ptr = make_case([1], triton_device)
    assert not center(positions, batch_ptr=batch_ptr, backend="triton").any()


def test_noncontiguous_and_offset_views(triton_device):
    positions, batch_ptr = make_case([3, 4], triton_device)
    wide = torch.full((8, 6), torch.nan, device=triton_device)
    wide[1:, ::2] = positions
    assert torch.equal(
        center(wide[1:, ::2], batch_ptr=batch_ptr, backend="triton"),
        center(positions, batch_ptr=batch_ptr, backend="triton"),
    )


@pytest.mark.parametrize(
    ("positions", "batch_ptr", "error", "match"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 3]), ValueError, "positions: expected shape"),
        (torch.zeros(3, 3).long(), torch.tensor([0, 3]), TypeError, "positions: expected dtype"),
        (torch.zeros(3, 3), torch.tensor([0.0, 3.0]), TypeError, "batch_ptr: expected dtype int64"),
        (torch.zeros(3, 3), torch.tensor(3), ValueError, "batch_ptr: expected shape"),
    ],
)
def test_invalid_inputs(triton_device, positions, batch_ptr, error, match):
    with pytest.raises(error, match=match):
        center(positions.to(triton_device), batch_ptr=batch_ptr.to(triton_device), backend="triton")


def test_batch_equals_loop(triton_device):
    positions, batch_ptr = make_case([5, 1, 0, 63], triton_device)
    together = center(positions, batch_ptr=batch_ptr, backend="triton")
    assert torch.equal(center(positions, batch_ptr=batch_ptr, backend="triton"), together)
    for start, end in pairwise(batch_ptr.tolist()):
        one = torch.tensor([0, end - start], device=triton_device)
        alone = center(positions[start:end], batch_ptr=one, backend="triton")
        assert torch.equal(alone, together[start:end])
