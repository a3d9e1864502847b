"""The CUDA kernels of ``ot_couple``, run on the host."""

import re
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from tito_fast.errors import CapacityError
from tito_fast.ops import ot_couple
from tito_fast.ops.ot_couple import native

PLANS = ["none", "r", "released", "p", "pr", "rp"]
PERMUTING = ["p", "pr", "rp"]
# Around a warp, and around the kernel's three sizes.
SIZES = [0, 1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128]
RAGGED = [[3, 0, 1, 2, 18, 0, 5], [0, 40, 1, 0, 33], [1, 100, 7, 65, 0]]


def make_case(sizes, *, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x_0, x_1 = torch.randn(2, sum(sizes), 3, generator=generator, dtype=torch.float64).to(dtype)
    return x_0, x_1, torch.tensor([0, *sizes]).cumsum(0)


def random_rotation(generator):
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    q[:, 0] *= torch.linalg.det(q).sign()
    return q


@pytest.fixture
def couple(host_cuda, monkeypatch):
    """Couple by the CUDA kernels and by the C++ version; return both results."""

    def both(x_0, x_1, batch_ptr, plan):
        found = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="native")
        with monkeypatch.context() as patch:
            patch.setattr("tito_fast.ops.cuda_call._is_cuda", lambda _: False)
            expected = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="native")
        return found, expected

    return both


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_size_is_the_cpu_kernels_bitwise(host_cuda, couple, dtype, plan):
    for seed, sizes in enumerate([[size] for size in SIZES] + RAGGED):
        host_cuda.set_seed(seed)
        host_cuda.take_log()
        found, expected = couple(*make_case(sizes, dtype=dtype, seed=seed), plan)
        assert found.dtype == dtype
        assert torch.equal(found, expected)
        kernel = "permutations" if "p" in plan else "rotations"
        assert host_cuda.take_log() == ([] if plan == "none" else [f"ot_couple_fwd_{kernel}"])


def shapes_with_less_than_space():
    """Pairs of molecules whose best rotation takes each of the roads of ``kabsch.h``."""
    generator = torch.Generator().manual_seed(0)
    for n_atoms in (1, 2, 3, 7):
        x_0, x_1, _ = make_case([n_atoms], seed=n_atoms)
        for rank_0 in range(4):
            for rank_1 in range(4):
                flat = [
                    points * (torch.arange(3) < rank) @ random_rotation(generator).T
                    for points, rank in ((x_0, rank_0), (x_1, rank_1))
                ]
                yield flat
        yield x_1 @ random_rotation(generator).T, x_1
        yield x_1 * torch.tensor([1.0, 1.0, -1.0]), x_1
        yield x_1, -x_1
        for scale in (1e-150, 1e-8, 1e8, 1e150):
            yield x_0, scale * x_1
    line = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], dtype=torch.float64)
    for axis in range(3):
        for sign in (1.0, -1.0):
            yield line, sign * line.roll(axis, dims=1)
            yield line.roll(axis, dims=1), -line.roll(axis, dims=1)
    for gap in (1e-1, 1e-2, 1e-3, 1e-5, 1e-8):
        points = torch.diag(torch.tensor([1.0, 0.5, -0.5 + gap], dtype=torch.float64))
        yield random_rotation(generator), points @ random_rotation(generator).T


@pytest.mark.parametrize("seed", range(2))
def test_degenerate_rotations_are_the_cpu_kernels_bitwise(host_cuda, couple, seed):
    host_cuda.set_seed(seed)
    pairs = list(shapes_with_less_than_space())
    x_0, x_1 = (torch.cat(side) for side in zip(*pairs, strict=True))
    batch_ptr = torch.tensor([0, *(len(first) for first, _ in pairs)]).cumsum(0)
    found, expected = couple(x_0, x_1, batch_ptr, "r")
    assert torch.equal(found, expected)
    assert found.isfinite().all()


@pytest.mark.parametrize("plan", PERMUTING)
@pytest.mark.parametrize("kind", ["all the same", "corners", "a grid", "a line", "itself"])
def test_ties_are_broken_as_by_the_cpu_kernel(host_cuda, couple, kind, plan):
    generator = torch.Generator().manual_seed(3)
    for seed, n_atoms in enumerate((2, 5, 9, 27, 32, 40, 70)):
        high = {"all the same": 1, "corners": 2, "a line": 5}.get(kind, 4)
        x_0, x_1 = torch.randint(0, high, (2, n_atoms, 3), generator=generator).double()
        if kind == "a line":
            x_0[:, 1:] = x_1[:, 1:] = 0.0
        if kind == "itself":
            x_0 = x_1[torch.randperm(n_atoms, generator=generator)]
        host_cuda.set_seed(seed)
        found, expected = couple(x_0, x_1, torch.tensor([0, n_atoms]), plan)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("plan", ["p", "pr"])
def test_bids_without_end_are_left_to_the_search_for_paths(couple, plan):
    # All want one of two atoms, each bid is a little higher than the last one, and the third is far.
    for n_atoms in (3, 8, 40):
        x_0, x_1, batch_ptr = make_case([n_atoms])
        x_0 = 1e-5 * x_0
        x_0[2:, 0] += 10.0
        found, expected = couple(x_0, 1e-6 * x_1, batch_ptr, plan)
        assert torch.equal(found, expected)


def check_best(x_0, x_1, batch_ptr, coupled):
    for start, end in pairwise(batch_ptr.tolist()):
        source, target, found = (each[start:end] for each in (x_0, x_1, coupled))
        assert sorted(found.tolist()) == sorted(source.tolist())
        squared = (target[:, None] - source[None]).square().sum(dim=2)
        best = float(squared[linear_sum_assignment(squared.numpy())].sum())
        assert float((target - found).square().sum()) == pytest.approx(best, rel=1e-12)


# 1,000 cases together.
@pytest.mark.parametrize(
    ("n_molecules", "smallest", "largest"), [(850, 1, 16), (140, 17, 40), (10, 41, 128)]
)
def test_cost_is_scipys(host_cuda, n_molecules, smallest, largest):
    generator = torch.Generator().manual_seed(largest)
    sizes = torch.randint(smallest, largest + 1, (n_molecules,), generator=generator).tolist()
    x_0, x_1, batch_ptr = make_case(sizes, seed=largest)
    coupled = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan="p", backend="native")
    check_best(x_0, x_1, batch_ptr, coupled)
    assert host_cuda.take_log() == ["ot_couple_fwd_permutations"]


@pytest.mark.parametrize("plan", ["r", "pr"])
def test_result_does_not_depend_on_the_order_of_threads_or_the_batch(host_cuda, plan):
    x_0, x_1, batch_ptr = make_case([20, 1, 0, 70])
    found = []
    for seed in range(4):
        host_cuda.set_seed(seed)
        found.append(ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="native"))
    assert all(torch.equal(found[0], each) for each in found)
    for start, end in pairwise(batch_ptr.tolist()):
        alone = ot_couple(
            x_0[start:end], x_1[start:end], batch_ptr=torch.tensor([0, end - start]), plan=plan
        )
        assert torch.equal(found[0][start:end], alone)


def test_rotations_take_molecules_of_any_size_and_read_no_batch_ptr_on_the_host(couple):
    x_0, x_1, batch_ptr = make_case([129, 1000])
    found, expected = couple(x_0, x_1, batch_ptr, "r")
    assert torch.equal(found, expected)
    cut_off = torch.ops.tito_fast.ot_couple(x_0, x_1, torch.tensor([-5, 129, 5000]), "r")
    assert torch.equal(cut_off, expected)


@pytest.mark.parametrize("case", ["n18_0", "n18_1", "n18_2"])
def test_rotation_reproduces_the_released_code(host_cuda, case):
    recorded = np.load(Path(__file__).with_name("released_coupling.npz"))
    x_0, x_1 = (torch.from_numpy(recorded[f"{case}_{name}"]) for name in ("base", "target"))
    batch_ptr = torch.tensor([0, len(x_0)])
    coupled = ot_couple(x_0.double(), x_1.double(), batch_ptr=batch_ptr, backend="native")
    expected = torch.from_numpy(recorded[f"{case}_r_float64"])
    assert (coupled - expected).abs().max() <= 1e-10
    assert host_cuda.take_log() == ["ot_couple_fwd_rotations"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("plan", ["r", "p", "pr", "rp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_molecule_that_is_not_finite_becomes_nan_and_no_other(couple, dtype, plan, bad):
    for which in (0, 1):
        x_0, x_1, batch_ptr = make_case([4, 35, 5], dtype=dtype)
        _, expected = couple(x_0, x_1, batch_ptr, plan)
        (x_0, x_1)[which][37, 1] = bad
        found = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="native")
        assert found[4:39].isnan().all()
        assert torch.equal(found[:4], expected[:4])
        assert torch.equal(found[39:], expected[39:])


@pytest.mark.parametrize("plan", PERMUTING)
def test_squares_that_overflow_become_nan_or_are_refused(couple, monkeypatch, plan):
    x_0, x_1, batch_ptr = make_case([4, 5, 6])
    _, expected = couple(x_0, x_1, batch_ptr, plan)
    x_0[4:9] *= 1e160
    found = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="native")
    assert found[4:9].isnan().all()
    assert torch.equal(found[9:], expected[9:])
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"got NaN, infinity or what is too large .* molecule 1"):
        ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="native")


def test_no_steps_copy(host_cuda):
    x_0, x_1, batch_ptr = make_case([4])
    x_0[1] = torch.nan
    coupled = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan="none", backend="native")
    torch.testing.assert_close(coupled, x_0, rtol=0, atol=0, equal_nan=True)
    assert coupled.data_ptr() != x_0.data_ptr()


@pytest.mark.parametrize("plan", PERMUTING)
def test_a_molecule_that_is_too_large_to_permute_is_an_error_by_name(host_cuda, plan):
    x_0, x_1, batch_ptr = make_case([4, 130, 2])
    with pytest.raises(
        CapacityError,
        match=r"batch_ptr: found a molecule of 130 atoms, ot_couple's CUDA kernel takes 128; use",
    ):
        ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="native")
    assert host_cuda.take_log() == []


def test_auto_permutes_larger_molecules_on_the_cpu_and_says_so_once(couple, monkeypatch):
    monkeypatch.setattr(native, "_WARNED", set())
    # auto on a machine with CUDA kernels
    monkeypatch.setattr("tito_fast.ops.resolve.backend_problem", lambda *_: "")
    x_0, x_1, batch_ptr = make_case([4, 130, 2])
    with monkeypatch.context() as patch:
        patch.setattr("tito_fast.ops.cuda_call._is_cuda", lambda _: False)
        expected = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan="pr", backend="native")
    with pytest.warns(UserWarning, match=r"at most 128 atoms .* copied to the CPU .* use plan"):
        first = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan="pr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan="pr")
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)


def test_batch_ptr_is_checked_where_it_is_read(host_cuda):
    x_0, x_1, _ = make_case([9])
    for starts in ([0, 8], [0, 5, 4, 9], [1, 9]):
        with pytest.raises(ValueError, match="batch_ptr: expected non-decreasing starts from 0"):
            ot_couple(x_0, x_1, batch_ptr=torch.tensor(starts), plan="p", backend="native")
    assert host_cuda.take_log() == []


@pytest.mark.parametrize("plan", PLANS)
def test_empty_batches(host_cuda, plan):
    for sizes in ([], [0], [0, 0]):
        x_0, x_1, batch_ptr = make_case(sizes)
        coupled = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="native")
        assert coupled.shape == (0, 3)


@pytest.mark.parametrize("plan", PLANS)
def test_noncontiguous_and_offset_views(couple, plan):
    x_0, x_1, batch_ptr = make_case([4, 5])
    wide = torch.full((10, 12), torch.nan, dtype=torch.float64)
    wide[1:, :6:2], wide[1:, 7::2] = x_0, x_1
    strided = torch.stack([batch_ptr, batch_ptr], dim=1)[:, 0]
    views = wide[1:, :6:2], wide[1:, 7::2]
    assert not views[0].is_contiguous()
    assert not strided.is_contiguous()
    found, _ = couple(*views, strided, plan)
    _, expected = couple(x_0, x_1, batch_ptr, plan)
    assert found.is_contiguous()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("plan", ["none", "r", "pr"])
def test_opcheck(host_cuda, plan):
    torch.library.opcheck(torch.ops.tito_fast.ot_couple.default, (*make_case([4, 0, 5]), plan))


def test_failed_launch_names_kernel_and_sizes(host_cuda):
    for plan, kernel in (("r", "rotations"), ("p", "permutations")):
        host_cuda.fail_next_launch("cudaErrorInvalidValue, invalid argument")
        message = rf"ot_couple_fwd_{kernel}: .* 2 blocks of 32 threads.*n_atoms = 12.*invalid"
        x_0, x_1, batch_ptr = make_case([5, 7])
        with pytest.raises(RuntimeError, match=message):
            ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="native")


def test_python_and_kernels_agree_on_the_largest_molecule(host_cuda):
    function = host_cuda.ot_couple_fwd_permutations_cuda_float32
    arguments = [0, 0, 0, 0, 0, 0, True, False, False]
    function(*arguments, native.MAX_CUDA_ATOMS, 0, 0)
    message = f"max_atoms: expected at most {native.MAX_CUDA_ATOMS}, got "
    with pytest.raises(ValueError, match=re.escape(message)):
        function(*arguments, native.MAX_CUDA_ATOMS + 1, 0, 0)
