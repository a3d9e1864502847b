import math

import pytest
import torch

from tito_fast.ops import philox_integers, philox_normal
from tito_fast.ops.philox_normal.reference import box_muller

N_UNIFORMS = 2**24


def draw(keys, replicas, counts, *, device, step=3, evaluation=5, backend="triton", n_total=None):
    rows = [torch.tensor(row, dtype=torch.int64) for row in (keys, replicas, counts)]
    return philox_normal(
        *[row.to(device) for row in rows],
        rollout_step=step,
        stream_evaluation=evaluation,
        n_total=sum(counts) if n_total is None else n_total,
        backend=backend,
    )


def draw_at(keys, replicas, counts, step, *, device, rows=None):
    """With the step on the device."""
    from tito_fast.ops.philox_normal.triton_op import philox_normal_triton  # noqa: PLC0415  optional

    given = [
        torch.tensor(row, dtype=torch.int64, device=device) for row in (keys, replicas, counts)
    ]
    step = torch.tensor([step], device=device)
    return philox_normal_triton(*given, step, 5, sum(counts), rows=rows)


def ulps_apart(a, b):
    """Distance in units in the last place; of both signs, through zero."""
    assert a.isfinite().all()
    ordered = []
    for values in (a, b):
        bits = values.cpu().view(torch.int32).to(torch.int64)
        ordered.append(torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits))
    return (ordered[0] - ordered[1]).abs()


def normals_of(words, device):
    """Normals (n, 2) of int64 words (n, 2), by the kernel's function and by the reference's."""
    import triton  # noqa: PLC0415  optional
    import triton.language as tl  # noqa: PLC0415  optional

    from tito_fast.ops.philox_normal import triton_kernel  # noqa: PLC0415  optional

    @triton.jit
    def kernel(words, normals, n, function: tl.constexpr, tile: tl.constexpr):
        g = tl.program_id(0) * tile + tl.arange(0, tile)
        first = tl.load(words + 2 * g, g < n, 0).to(tl.uint32)
        second = tl.load(words + 2 * g + 1, g < n, 0).to(tl.uint32)
        cosine, sine = function(first, second)
        tl.store(normals + 2 * g, cosine, g < n)
        tl.store(normals + 2 * g + 1, sine, g < n)

    normals = torch.full(words.shape, torch.nan, device=device)
    tile = 2**16 if device.type == "cpu" else 256
    kernel[-(-len(words) // tile),](
        words.contiguous().to(device),
        normals,
        len(words),
        function=triton_kernel.box_muller,
        tile=tile,
        enable_fp_fusion=False,
    )
    expected = box_muller(words[:, :1], words[:, 1:], is_second=torch.tensor([False, True]))
    return normals.cpu(), expected


def test_integers_match_reference(triton_device):
    generator = torch.Generator().manual_seed(2)
    counters = torch.randint(0, 2**32, (131, 4), generator=generator)
    keys = torch.randint(0, 2**32, (131, 2), generator=generator)
    counters[:3] = torch.tensor([0, 2**32 - 1, 2**31])[:, None]
    found = philox_integers(counters.to(triton_device), keys.to(triton_device), backend="triton")
    assert torch.equal(found.cpu(), philox_integers(counters, keys, backend="reference"))


def test_matches_reference(triton_device):
    keys, replicas = [0, -1, 2**63 - 1, -(2**63), 12345, 9], [0, 1, 2**32 - 1, 7, 8, 2**31]
    counts = [1, 63, 129, 0, 4001, 4]
    numbers = {"step": 2**32 - 1, "evaluation": 2**31 + 7}
    found = draw(keys, replicas, counts, device=triton_device, **numbers)
    expected = draw(keys, replicas, counts, device="cpu", backend="reference", **numbers)
    assert ulps_apart(found, expected).max() <= 4


@pytest.mark.parametrize("seed", range(2))
def test_radii_and_angles_are_within_four_ulps(triton_device, seed):
    # An eighth of all radii, of all magnitudes, each with another angle; the low byte must not matter.
    radius = torch.cat([torch.arange(2**16), torch.arange(seed, N_UNIFORMS, 16)])
    angle = (radius * 0x9E3779 + 12345 * seed) % N_UNIFORMS
    words = torch.stack((radius, angle), dim=1) * 256 + (radius % 251)[:, None]
    found, expected = normals_of(words, triton_device)
    assert ulps_apart(found, expected).max() <= 4


def test_extreme_words_and_angles_next_to_quarter_turns_are_within_four_ulps(triton_device):
    near = torch.arange(-100, 101)
    angles = torch.cat([near + quarter * (N_UNIFORMS // 4) for quarter in range(5)])
    angles = torch.cat([angles, near + N_UNIFORMS // 8])
    angles = angles[(angles >= 0) & (angles < N_UNIFORMS)]
    powers = 2 ** torch.arange(25)
    radii = torch.cat([powers - 2, powers - 1, powers, (powers * 2**0.5).long()])
    radii = radii[(radii >= 0) & (radii < N_UNIFORMS)].unique()
    words = torch.cartesian_prod(256 * radii, 256 * angles)
    words = torch.cat([words, words + 255])
    for extreme in (0, 0xFFFFFFFF):
        assert (words == extreme).any(dim=0).all()
    found, expected = normals_of(words, triton_device)
    assert ulps_apart(found, expected).max() <= 4


def test_distribution_is_standard_normal(triton_device):
    values = draw(range(16), [1] * 16, [4097] * 16, device=triton_device).double().cpu()
    n = values.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(values.pow(power).mean() - moment) < 4.5 * math.sqrt(variance / n)


def test_every_counter_word_and_key_word_matters(triton_device):
    base = draw([5], [6], [40], step=7, evaluation=8, device=triton_device)
    others = [
        draw([5 + 2**32], [6], [40], step=7, evaluation=8, device=triton_device),
        draw([4], [6], [40], step=7, evaluation=8, device=triton_device),
        draw([5], [7], [40], step=7, evaluation=8, device=triton_device),
        draw([5], [6], [40], step=8, evaluation=8, device=triton_device),
        draw([5], [6], [40], step=7, evaluation=9, device=triton_device),
    ]
    for other in others:
        assert not (base == other).any()


@pytest.mark.parametrize("step", [0, 1, 3, 2**31, 2**32 - 1])
def test_a_step_on_the_device_gives_the_same_bits(triton_device, step):
    from tito_fast.ops.philox_normal.triton_op import philox_rows  # noqa: PLC0415  optional

    rows = [3, 1, -4], [2, 7, 1], [5, 0, 66]
    expected = draw(*rows, step=step, device=triton_device)
    assert torch.equal(draw_at(*rows, step, device=triton_device), expected)
    known = philox_rows(torch.tensor(rows[2], device=triton_device))
    assert torch.equal(draw_at(*rows, step, device=triton_device, rows=known), expected)


def test_empty_and_tiny(triton_device):
    assert draw([], [], [], device=triton_device).shape == (0,)
    assert draw([1, 2], [0, 0], [0, 0], device=triton_device).shape == (0,)
    assert draw([1], [0], [1], device=triton_device).isfinite().all()
    assert draw([1, 9, 1], [0, 0, 0], [2, 0, 3], device=triton_device).isfinite().all()
    none = torch.zeros(0, 4, dtype=torch.int64, device=triton_device)
    assert philox_integers(none, none[:, :2], backend="triton").shape == (0, 4)


def test_noncontiguous_and_offset_views(triton_device):
    table = torch.tensor([[9, 9, 9], [5, 1, 3], [6, 2, 7], [7, 0, 2]], device=triton_device)[1:]
    numbers = {"rollout_step": 1, "stream_evaluation": 2, "n_total": 12, "backend": "triton"}
    views = table.unbind(1)
    assert not views[0].is_contiguous()
    copies = [view.contiguous() for view in views]
    assert torch.equal(philox_normal(*views, **numbers), philox_normal(*copies, **numbers))
    counters = torch.arange(24, device=triton_device).view(4, 6).T
    found = philox_integers(counters, counters[:, :2], backend="triton")
    copies = counters.contiguous(), counters[:, :2].contiguous()
    assert torch.equal(found, philox_integers(*copies, backend="triton"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"replicas": [0]}, r"replicas: expected shape \(2,\), got \(1,\)"),
        ({"n_total": -1}, "n_total: expected at least 0, got -1"),
        ({"step": -1}, r"rollout_step: expected 0 to 2\*\*32 - 1, got -1"),
        ({"evaluation": 2**32}, r"stream_evaluation: expected 0 to 2\*\*32 - 1, got 4294967296"),
    ],
)
def test_invalid_inputs(triton_device, change, match):
    given = {"keys": [1, 2], "replicas": [0, 0], "counts": [3, 4]} | change
    with pytest.raises(ValueError, match=match):
        draw(**given, device=triton_device)


def test_wrong_contents_are_refused_on_a_cpu(triton_device):
    if triton_device.type != "cpu":
        pytest.skip("on a GPU this would wait for the device")
    with pytest.raises(ValueError, match=r"replicas: expected 0 to 2\*\*32 - 1, got -1"):
        draw([1], [-1], [3], device=triton_device)
    with pytest.raises(ValueError, match="counts: expected a sum of n_total = 6, got 3"):
        draw([1], [1], [3], n_total=6, device=triton_device)


def test_deterministic(triton_device):
    rows = [5, -6, 7], [1, 2, 3], [63, 0, 401]
    assert torch.equal(draw(*rows, device=triton_device), draw(*rows, device=triton_device))


def test_opcheck(triton_device):
    ones = torch.ones(3, dtype=torch.int64, device=triton_device)
    draw([1], [1], [1], device=triton_device)
    ops = torch.ops.tito_fast
    torch.library.opcheck(ops.philox_normal_triton.default, (ones, ones, 5 * ones, 1, 2, 15))
    rows = torch.tensor([[0, 5, 10], [2, 4, 6]], device=triton_device)
    torch.library.opcheck(
        ops.philox_normal_triton_at.default, (ones, ones, 5 * ones, rows, ones[:1], 2, 15)
    )
    words = torch.ones(3, 4, dtype=torch.int64, device=triton_device)
    torch.library.opcheck(ops.philox_integers_triton.default, (words, words[:, :2].clone()))


def test_batch_equals_loop(triton_device):
    keys, replicas, counts = [3, 1, 4, 1, 5], [2, 7, 1, 8, 2], [10, 63, 129, 1201, 7]
    together = draw(keys, replicas, counts, device=triton_device)
    rows = together.split(counts)
    for key, replica, count, row in zip(keys, replicas, counts, rows, strict=True):
        assert torch.equal(draw([key], [replica], [count], device=triton_device), row)
        shorter = max(count - 2, 1)
        assert torch.equal(draw([key], [replica], [shorter], device=triton_device), row[:shorter])


@pytest.mark.gpu
def test_a_captured_graph_draws_for_the_step_it_finds():
    rows = [torch.tensor(row).cuda() for row in ([5, -6, 7], [1, 2, 3], [63, 0, 401])]
    from tito_fast.ops.philox_normal.triton_op import philox_normal_triton  # noqa: PLC0415  optional

    step = torch.zeros(1, dtype=torch.int64, device="cuda")
    philox_normal_triton(*rows, step, 4, 464)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        normals = philox_normal_triton(*rows, step, 4, 464)
    for number in (3, 11):
        step.fill_(number)
        graph.replay()
        expected = philox_normal(
            *rows, rollout_step=number, stream_evaluation=4, n_total=464, backend="triton"
        )
        assert torch.equal(normals, expected)
