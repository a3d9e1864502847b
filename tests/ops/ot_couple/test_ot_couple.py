from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import ot_couple
from tito_fast.testing.tolerance import check_against_reference

BACKENDS = ["native", "eager", "reference"]
PLANS = ["none", "r", "released", "p", "pr", "rp"]
SIZES = [[1], [63], [129], [3, 0, 1, 2, 18, 0, 5]]


def make_case(sizes, *, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x_0, x_1 = torch.randn(2, sum(sizes), 3, generator=generator, dtype=torch.float64).to(dtype)
    return x_0, x_1, torch.tensor([0, *sizes]).cumsum(0)


def couple_one(x_0, x_1, *, plan="r", backend="native"):
    return ot_couple(x_0, x_1, batch_ptr=torch.tensor([0, len(x_0)]), plan=plan, backend=backend)


def cost(x_0, x_1):
    return float((x_0 - x_1).square().sum())


def rotation_of(before, after):
    """The linear map that took one set of points to the other; the points span space."""
    return torch.linalg.lstsq(before, after).solution.T


def random_rotation(generator):
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    q[:, 0] *= torch.linalg.det(q).sign()
    return q


@pytest.mark.parametrize("backend", ["native", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference(sizes, plan, dtype, backend):
    x_0, x_1, batch_ptr = make_case(sizes, dtype=dtype)
    check_against_reference(
        ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend=backend),
        ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend="reference"),
        ot_couple(x_0.double(), x_1.double(), batch_ptr=batch_ptr, plan=plan, backend="reference"),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("plan", ["r", "released"])
@pytest.mark.parametrize("case", ["n18_0", "n18_1", "n18_2"])
def test_rotation_reproduces_the_released_code(case, plan, backend):
    recorded = np.load(Path(__file__).with_name("released_coupling.npz"))
    x_0, x_1 = (torch.from_numpy(recorded[f"{case}_{name}"]) for name in ("base", "target"))
    coupled = couple_one(x_0.double(), x_1.double(), plan=plan, backend=backend)
    for name in ("r_float64", "pr_float64"):
        error = (coupled - torch.from_numpy(recorded[f"{case}_{name}"])).abs().max()
        assert error <= 1e-10
    in_float32 = couple_one(x_0, x_1, plan=plan, backend=backend)
    torch.testing.assert_close(
        in_float32, torch.from_numpy(recorded[f"{case}_r"]), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(20))
def test_rotation_is_proper_and_best(seed, backend):
    x_0, x_1, _ = make_case([6], seed=seed)
    coupled = couple_one(x_0, x_1, backend=backend)
    rotation = rotation_of(x_0, coupled)
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(rotation @ rotation.T, identity, rtol=0, atol=1e-12)
    assert torch.linalg.det(rotation) > 0
    generator = torch.Generator().manual_seed(seed)
    best = cost(coupled, x_1)
    for scale in (1e-3, 1e-1, None):
        other = random_rotation(generator)
        if scale is not None:
            skew = scale * torch.randn(3, 3, generator=generator, dtype=torch.float64)
            other = torch.linalg.matrix_exp(skew - skew.T)
        assert cost(coupled @ other.T, x_1) >= best - 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mirror", [False, True])
def test_a_rotated_copy_comes_back_and_its_mirror_image_does_not(mirror, backend):
    x_1, _, _ = make_case([9])
    x_0 = x_1 @ random_rotation(torch.Generator().manual_seed(4)).T
    if mirror:
        x_0 = x_0 * torch.tensor([1.0, 1.0, -1.0])
    coupled = couple_one(x_0, x_1, backend=backend)
    assert (cost(coupled, x_1) < 1e-20) != mirror


def flattened(points, rank):
    return points * torch.tensor([1.0, float(rank > 1), float(rank > 2)], dtype=points.dtype)


@pytest.mark.parametrize("backend", ["native", "eager"])
@pytest.mark.parametrize("rank_0", [1, 2, 3])
@pytest.mark.parametrize("rank_1", [1, 2, 3])
@pytest.mark.parametrize("n_atoms", [1, 2, 3, 7])
def test_degenerate_shapes_cost_the_same_as_the_reference(n_atoms, rank_0, rank_1, backend):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        x_0, x_1, _ = make_case([n_atoms], seed=seed)
        x_0 = flattened(x_0, rank_0) @ random_rotation(generator).T
        x_1 = flattened(x_1, rank_1) @ random_rotation(generator).T
        found = couple_one(x_0, x_1, backend=backend)
        reference = couple_one(x_0, x_1, backend="reference")
        assert cost(found, x_1) == pytest.approx(cost(reference, x_1), rel=1e-12, abs=1e-20)
        lengths = x_0 @ x_0.T
        torch.testing.assert_close(found @ found.T, lengths, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e150])
def test_rotation_does_not_depend_on_the_scale(scale):
    x_0, x_1, _ = make_case([7])
    expected = couple_one(x_0, x_1)
    torch.testing.assert_close(couple_one(x_0, scale * x_1), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("backend", ["native", "eager"])
@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3, 1e-5, 1e-8])
def test_nearly_undetermined_rotations_stay_rotations_and_best(gap, backend):
    # Singular values 1, s, -s + gap: the sum of the last two decides how well R is determined.
    points = torch.diag(torch.tensor([1.0, 0.5, -0.5 + gap], dtype=torch.float64))
    generator = torch.Generator().manual_seed(6)
    left, right = random_rotation(generator), random_rotation(generator)
    x_1, x_0 = points @ left.T, right.T.contiguous()
    coupled = couple_one(x_0, x_1, backend=backend)
    rotation = rotation_of(x_0, coupled)
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(rotation @ rotation.T, identity, rtol=0, atol=1e-12)
    assert torch.linalg.det(rotation) > 0
    best = cost(left.T.contiguous(), x_1)
    assert cost(coupled, x_1) == pytest.approx(best, rel=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("x_1", "expected"),
    [
        ([[0.0, 2.0, 0.0], [0.0, -2.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]),
        ([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
        ([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]], [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]),
        ([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]),
    ],
)
def test_two_atoms_turn_onto_the_line_of_the_target(x_1, expected, backend):
    x_0 = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], dtype=torch.float64)
    target = torch.tensor(x_1, dtype=torch.float64)
    coupled = couple_one(x_0, target, backend=backend)
    torch.testing.assert_close(
        coupled, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("n_atoms", [1, 2, 3, 5, 18, 63, 129])
def test_permutation_is_a_best_assignment(n_atoms):
    for seed in range(30 if n_atoms < 60 else 4):
        x_0, x_1, _ = make_case([n_atoms], seed=seed)
        coupled = couple_one(x_0, x_1, plan="p")
        rows = [tuple(row) for row in coupled.tolist()]
        assert sorted(rows) == sorted(tuple(row) for row in x_0.tolist())
        squared = torch.cdist(x_1, x_0, compute_mode="donot_use_mm_for_euclid_dist").square()
        chosen = linear_sum_assignment(squared.numpy())
        assert cost(coupled, x_1) == pytest.approx(float(squared[chosen].sum()), rel=1e-12)


@pytest.mark.parametrize("kind", ["all the same", "a grid", "few distinct"])
def test_permutation_with_ties_is_still_best(kind):
    generator = torch.Generator().manual_seed(3)
    for n_atoms in (2, 7, 27, 40):
        if kind == "all the same":
            x_0 = x_1 = torch.ones(n_atoms, 3, dtype=torch.float64)
        else:
            high = 2 if kind == "few distinct" else 4
            x_0, x_1 = torch.randint(0, high, (2, n_atoms, 3), generator=generator).double()
        coupled = couple_one(x_0, x_1, plan="p")
        best = couple_one(x_0, x_1, plan="p", backend="reference")
        assert cost(coupled, x_1) == cost(best, x_1)
        assert sorted(coupled.tolist()) == sorted(x_0.tolist())


def test_the_order_of_the_letters_is_the_order_of_the_steps():
    x_0, x_1, _ = make_case([8])
    permuted = couple_one(x_0, x_1, plan="p")
    rotated = couple_one(x_0, x_1, plan="r")
    both = couple_one(permuted, x_1, plan="r"), couple_one(rotated, x_1, plan="p")
    torch.testing.assert_close(couple_one(x_0, x_1, plan="pr"), both[0], rtol=0, atol=1e-14)
    torch.testing.assert_close(couple_one(x_0, x_1, plan="rp"), both[1], rtol=0, atol=1e-14)
    assert (both[0] - both[1]).abs().max() > 1e-3
    assert cost(both[0], x_1) < cost(permuted, x_1) < cost(x_0, x_1)
    assert cost(both[1], x_1) < cost(rotated, x_1) < cost(x_0, x_1)


def test_rotating_base_or_data_carries_over():
    x_0, x_1, _ = make_case([8])
    rotation = random_rotation(torch.Generator().manual_seed(9))
    coupled = couple_one(x_0, x_1)
    turned = {"rtol": 0, "atol": 1e-13}
    torch.testing.assert_close(couple_one(x_0 @ rotation.T, x_1), coupled, **turned)
    torch.testing.assert_close(couple_one(x_0, x_1 @ rotation.T), coupled @ rotation.T, **turned)
    centered = x_0 - x_0.mean(dim=0)
    torch.testing.assert_close(couple_one(centered, x_1 + 5.0), couple_one(centered, x_1), **turned)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(couple_one(x_0[order], x_1[order]), coupled[order], **turned)


def test_a_permutation_changes_the_law_of_labelled_atoms():
    # Two atoms on a line: as drawn the first is left of the second half of the time; after the
    # assignment to data with the first on the left, always. A rotation in space leaves one free too.
    n_pairs = 2000
    x_0 = torch.randn(2 * n_pairs, 3, generator=torch.Generator().manual_seed(0))
    x_0[:, 1:] = 0.0
    x_1 = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).repeat(n_pairs, 1)
    batch_ptr = torch.arange(0, 2 * n_pairs + 1, 2)

    def share_left(points):
        first, second = points.view(n_pairs, 2, 3)[..., 0].unbind(1)
        return float((first < second).float().mean())

    assert share_left(x_0) == pytest.approx(0.5, abs=0.05)
    assert share_left(ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan="p")) == 1.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("plan", PLANS)
def test_empty_and_tiny(plan, backend):
    for sizes in ([], [0], [0, 1, 0, 2, 0]):
        x_0, x_1, batch_ptr = make_case(sizes)
        coupled = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend=backend)
        assert coupled.shape == x_0.shape
        assert coupled.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_noncontiguous_and_offset_views(backend):
    x_0, x_1, batch_ptr = make_case([4, 5])
    wide = torch.full((10, 12), torch.nan, dtype=torch.float64)
    wide[1:, :6:2], wide[1:, 7::2] = x_0, x_1
    views = wide[1:, :6:2], wide[1:, 7::2]
    assert not views[0].is_contiguous()
    for plan in PLANS:
        assert torch.equal(
            ot_couple(*views, batch_ptr=batch_ptr, plan=plan, backend=backend),
            ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend=backend),
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("plan", ["r", "p", "pr"])
def test_coordinates_that_are_not_finite_are_refused(plan, bad, backend):
    for which in (0, 1):
        x_0, x_1, batch_ptr = make_case([4, 5])
        (x_0, x_1)[which][6, 1] = bad
        with pytest.raises(ValueError, match=r"expected finite coordinates, .* in molecule 1"):
            ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"x_0": torch.zeros(9, 2)}, ValueError, "x_0: expected shape"),
        ({"x_0": torch.zeros(9, 3).long()}, TypeError, "x_0: expected dtype float32 or float64"),
        ({"x_1": torch.zeros(8, 3).double()}, ValueError, r"x_1: expected shape \(9, 3\)"),
        ({"x_1": torch.zeros(9, 3)}, TypeError, "x_1: expected dtype float64, got float32"),
        ({"batch_ptr": torch.tensor([0, 8])}, ValueError, "batch_ptr: expected non-decreasing"),
        ({"batch_ptr": torch.tensor([0, 9]).int()}, TypeError, "batch_ptr: expected dtype int64"),
        ({"batch_ptr": torch.tensor(9)}, ValueError, "batch_ptr: expected shape"),
        ({"plan": "q"}, ValueError, "plan: expected one of none, r, released"),
    ],
)
def test_invalid_inputs(change, error, match, backend):
    x_0, x_1, batch_ptr = make_case([4, 5])
    given = {"x_0": x_0, "x_1": x_1, "batch_ptr": batch_ptr} | change
    data = given.pop("x_0"), given.pop("x_1")
    with pytest.raises(error, match=match):
        ot_couple(*data, **given, backend=backend)


def test_missing_kernel_is_named():
    x_0, x_1, _ = make_case([4])
    with pytest.raises(BackendUnavailableError, match="ot_couple has no Triton kernel"):
        couple_one(x_0, x_1, backend="triton")


@pytest.mark.parametrize("backend", BACKENDS)
def test_result_is_detached_and_inputs_are_untouched(backend):
    x_0, x_1, _ = make_case([4])
    x_0.requires_grad_()
    before = x_0.detach().clone()
    for plan in PLANS:
        coupled = couple_one(x_0, x_1, plan=plan, backend=backend)
        assert not coupled.requires_grad
        assert coupled.data_ptr() != x_0.data_ptr()
    assert torch.equal(x_0, before)


def test_deterministic_with_any_number_of_threads(restore_threads):
    x_0, x_1, batch_ptr = make_case([1, 63, 18, 0] * 60, dtype=torch.float32)
    for plan in ("r", "pr"):
        torch.set_num_threads(1)
        one = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan)
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            assert torch.equal(ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan), one)


def test_opcheck():
    x_0, x_1, batch_ptr = make_case([4, 0, 5])
    torch.library.opcheck(torch.ops.tito_fast.ot_couple.default, (x_0, x_1, batch_ptr, "pr"))


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_equals_loop(backend, plan):
    x_0, x_1, batch_ptr = make_case([5, 1, 0, 18, 2])
    together = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend=backend)
    for start, end in zip(batch_ptr[:-1].tolist(), batch_ptr[1:].tolist(), strict=True):
        alone = couple_one(x_0[start:end], x_1[start:end], plan=plan, backend=backend)
        assert torch.equal(alone, together[start:end])


@pytest.mark.gpu
def test_rotations_on_a_device_read_nothing_back():
    x_0, x_1, batch_ptr = (each.to("cuda") for each in make_case([5, 1, 0, 18, 2]))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        coupled = ot_couple(x_0, x_1, batch_ptr=batch_ptr)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = ot_couple(x_0.cpu(), x_1.cpu(), batch_ptr=batch_ptr.cpu())
    torch.testing.assert_close(coupled.cpu(), expected, rtol=0, atol=1e-12)
