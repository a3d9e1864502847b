import pytest
import torch

from tito_fast.ops import center
from tito_fast.testing.tolerance import check_against_reference

SIZES = [[1], [63], [129], [0, 5, 0, 1, 7, 0], [17] * 40]
BACKENDS = ["native", "reference"]


def make_case(sizes, *, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    positions = 2.0 + torch.randn(sum(sizes), 3, generator=generator, dtype=dtype)
    return positions, torch.tensor([0, *sizes]).cumsum(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference(sizes, dtype):
    positions, batch_ptr = make_case(sizes, dtype=dtype)
    check_against_reference(
        center(positions, batch_ptr=batch_ptr, backend="native"),
        center(positions, batch_ptr=batch_ptr, backend="reference"),
        center(positions.double(), batch_ptr=batch_ptr, backend="reference"),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_mean_is_zero_and_differences_are_kept(sizes, backend):
    positions, batch_ptr = make_case(sizes, dtype=torch.float64)
    result = center(positions, batch_ptr=batch_ptr, backend=backend)
    for start, end in zip(batch_ptr[:-1].tolist(), batch_ptr[1:].tolist(), strict=True):
        if start == end:
            continue
        here, before = result[start:end], positions[start:end]
        assert here.mean(dim=0).abs().max() < 1e-15 * (end - start + 1)
        torch.testing.assert_close(here - here[0], before - before[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend):
    positions, batch_ptr = make_case([0, 3, 1, 2], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda given: center(given, batch_ptr=batch_ptr, backend=backend),
        (positions.requires_grad_(),),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_and_tiny(backend):
    for sizes in ([], [0], [0, 0]):
        positions, batch_ptr = make_case(sizes)
        assert center(positions, batch_ptr=batch_ptr, backend=backend).shape == (0, 3)
    positions, batch_ptr = make_case([1])
    assert torch.equal(center(positions, batch_ptr=batch_ptr, backend=backend), torch.zeros(1, 3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_noncontiguous_and_offset_views(backend):
    positions, batch_ptr = make_case([3, 4])
    wide = torch.full((8, 6), torch.nan)
    wide[1:, ::2] = positions
    view = wide[1:, ::2]
    assert not view.is_contiguous()
    assert torch.equal(
        center(view, batch_ptr=batch_ptr, backend=backend),
        center(positions, batch_ptr=batch_ptr, backend=backend),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("positions", "batch_ptr", "error", "match"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 3]), ValueError, "positions: expected shape"),
        (torch.zeros(3, 3).long(), torch.tensor([0, 3]), TypeError, "positions: expected dtype"),
        (torch.zeros(3, 3), torch.tensor([0, 4]), ValueError, "batch_ptr: expected non-decreasing"),
        (torch.zeros(3, 3), torch.tensor([0.0, 3.0]), TypeError, "batch_ptr: expected dtype int64"),
        (torch.zeros(3, 3), torch.tensor(3), ValueError, "batch_ptr: expected shape"),
    ],
)
def test_invalid_inputs(positions, batch_ptr, error, match, backend):
    with pytest.raises(error, match=match):
        center(positions, batch_ptr=batch_ptr, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_equals_loop_bitwise_for_any_threads(backend, restore_threads):
    positions, batch_ptr = make_case([5, 1, 0, 129, 63] * 40)
    torch.set_num_threads(1)
    together = center(positions, batch_ptr=batch_ptr, backend=backend)
    torch.set_num_threads(2)
    assert torch.equal(center(positions, batch_ptr=batch_ptr, backend=backend), together)
    for start, end in zip(batch_ptr[:-1].tolist(), batch_ptr[1:].tolist(), strict=True):
        alone = center(
            positions[start:end], batch_ptr=torch.tensor([0, end - start]), backend=backend
        )
        assert torch.equal(alone, together[start:end])


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_cuda_matches_reference(sizes, backend):
    positions, batch_ptr = make_case(sizes)
    on_device = positions.cuda(), batch_ptr.cuda()
    result = center(on_device[0], batch_ptr=on_device[1], backend=backend)
    assert torch.equal(result, center(on_device[0], batch_ptr=on_device[1], backend=backend))
    check_against_reference(
        result,
        center(positions, batch_ptr=batch_ptr, backend="reference"),
        center(positions.double(), batch_ptr=batch_ptr, backend="reference"),
    )
