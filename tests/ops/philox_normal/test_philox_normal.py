import math

import pytest
import torch

from tito_fast.ops import philox_integers, philox_normal

BACKENDS = ["native", "reference"]


def words(text):
    return [int(word, 16) for word in text.split()]


# Known answers of the Random123 distribution for philox4x32-10: counter, key, result.
KNOWN_ANSWERS = [
    ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def draw(keys, replicas, counts, *, step=3, evaluation=5, backend="auto", n_total=None):
    return philox_normal(
        torch.tensor(keys, dtype=torch.int64),
        torch.tensor(replicas, dtype=torch.int64),
        torch.tensor(counts, dtype=torch.int64),
        rollout_step=step,
        stream_evaluation=evaluation,
        n_total=sum(counts) if n_total is None else n_total,
        backend=backend,
    )


def ulps_apart(a, b):
    """Both of one sign, or next to zero: distance in units in the last place."""
    ordered = []
    for values in (a, b):
        bits = values.view(torch.int32).to(torch.int64)
        ordered.append(torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits))
    return (ordered[0] - ordered[1]).abs()


@pytest.mark.parametrize("backend", BACKENDS)
def test_integers_match_known_answers(backend):
    counters = torch.tensor([words(counter) for counter, _, _ in KNOWN_ANSWERS])
    keys = torch.tensor([words(key) for _, key, _ in KNOWN_ANSWERS])
    expected = torch.tensor([words(result) for _, _, result in KNOWN_ANSWERS])
    assert torch.equal(philox_integers(counters, keys, backend=backend), expected)


def test_integers_are_equal_on_every_backend():
    generator = torch.Generator().manual_seed(2)
    counters = torch.randint(0, 2**32, (1000, 4), generator=generator)
    keys = torch.randint(0, 2**32, (1000, 2), generator=generator)
    assert torch.equal(
        philox_integers(counters, keys, backend="native"),
        philox_integers(counters, keys, backend="reference"),
    )


def test_matches_reference():
    keys, replicas = [0, -1, 2**63 - 1, -(2**63), 12345], [0, 1, 2**32 - 1, 7, 8]
    counts = [1, 63, 129, 0, 40001]
    native = draw(keys, replicas, counts, backend="native")
    reference = draw(keys, replicas, counts, backend="reference")
    # Rounded once from double: another logarithm or sine moves a value by an ulp at most.
    assert ulps_apart(native, reference).max() <= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_normals_are_box_muller_of_the_counter_words(backend):
    key, replica, step, evaluation, count = -987654321, 11, 4, 2**28 + 6, 11
    values = draw(
        [key], [replica], [count], step=step, evaluation=evaluation, backend=backend
    ).tolist()
    key_words = torch.tensor([[key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF]])
    expected = []
    for block in range(3):
        counter = torch.tensor([[block, step, replica, evaluation]])
        (cipher,) = philox_integers(counter, key_words, backend="reference").tolist()
        for pair in (0, 2):
            u1, u2 = ((cipher[pair] >> 8) + 1) / 2**24, (cipher[pair + 1] >> 8) / 2**24
            radius = math.sqrt(-2 * math.log(u1))
            expected += [radius * math.cos(2 * math.pi * u2), radius * math.sin(2 * math.pi * u2)]
    assert values == pytest.approx(expected[:count], rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_distribution_is_standard_normal(backend):
    n_rows, count = 64, 4097
    values = draw(range(n_rows), [1] * n_rows, [count] * n_rows, backend=backend).double()
    n = values.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(values.pow(power).mean() - moment) < 4.5 * math.sqrt(variance / n)
    # Kolmogorov-Smirnov, 1.95 / sqrt(n): exceeded once in a thousand.
    ordered = torch.special.ndtr(values.sort().values)
    grid = torch.arange(1, n + 1, dtype=torch.float64) / n
    assert (ordered - grid).abs().max() < 1.95 / math.sqrt(n)
    rows = values.view(n_rows, count)
    assert abs((rows[:, 1:] * rows[:, :-1]).mean()) < 4.5 / math.sqrt(n)
    assert abs((rows[1:] * rows[:-1]).mean()) < 4.5 / math.sqrt(n)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_counter_word_and_key_word_matters(backend):
    base = draw([5], [6], [40], step=7, evaluation=8, backend=backend)
    others = [
        draw([5 + 2**32], [6], [40], step=7, evaluation=8, backend=backend),
        draw([4], [6], [40], step=7, evaluation=8, backend=backend),
        draw([5], [7], [40], step=7, evaluation=8, backend=backend),
        draw([5], [6], [40], step=8, evaluation=8, backend=backend),
        draw([5], [6], [40], step=7, evaluation=9, backend=backend),
    ]
    for other in others:
        assert not (base == other).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_and_tiny(backend):
    assert draw([], [], [], backend=backend).shape == (0,)
    assert draw([1, 2], [0, 0], [0, 0], backend=backend).shape == (0,)
    assert draw([1], [0], [1], backend=backend).isfinite().all()
    assert draw([1, 9, 1], [0, 0, 0], [2, 0, 3], backend=backend).isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_noncontiguous_and_offset_views(backend):
    table = torch.tensor([[9, 9, 9], [5, 1, 3], [6, 2, 7], [7, 0, 2]])[1:]
    numbers = {"rollout_step": 1, "stream_evaluation": 2, "n_total": 12, "backend": backend}
    views = table.unbind(1)
    assert not views[0].is_contiguous()
    copies = [view.contiguous() for view in views]
    assert torch.equal(philox_normal(*views, **numbers), philox_normal(*copies, **numbers))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"replicas": [-1, 0]}, r"replicas: expected 0 to 2\*\*32 - 1, got -1"),
        ({"replicas": [0, 2**32]}, r"replicas: expected 0 to 2\*\*32 - 1, got 4294967296"),
        ({"replicas": [0]}, r"replicas: expected shape \(2,\), got \(1,\)"),
        ({"counts": [3, -1], "n_total": 2}, "counts: expected 0 to n_total = 2 normals .* got 3"),
        ({"counts": [1, -1], "n_total": 2}, "counts: expected 0 to n_total = 2 normals .* got -1"),
        ({"n_total": 6}, "counts: expected a sum of n_total = 6, got 7"),
        ({"n_total": 8}, "counts: expected a sum of n_total = 8, got 7"),
        ({"n_total": -1}, "n_total: expected at least 0, got -1"),
        ({"step": -1}, r"rollout_step: expected 0 to 2\*\*32 - 1, got -1"),
        ({"evaluation": 2**32}, r"stream_evaluation: expected 0 to 2\*\*32 - 1, got 4294967296"),
    ],
)
def test_invalid_inputs(change, match, backend):
    given = {"keys": [1, 2], "replicas": [0, 0], "counts": [3, 4]} | change
    with pytest.raises(ValueError, match=match):
        draw(**given, backend=backend)


def test_wrong_dtypes_are_refused():
    ones = torch.ones(2, dtype=torch.int64)
    numbers = {"rollout_step": 0, "stream_evaluation": 0, "n_total": 2}
    with pytest.raises(TypeError, match="keys: expected dtype int64, got int32"):
        philox_normal(ones.int(), ones, ones, **numbers)
    with pytest.raises(TypeError, match="counts: expected dtype int64, got float32"):
        philox_normal(ones, ones, ones.float(), **numbers)
    with pytest.raises(ValueError, match=r"counters: expected shape \(n, 4\)"):
        philox_integers(ones, ones)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_are_independent_of_batch_and_threads(backend, restore_threads):
    keys, replicas = [3, 1, 4, 1, 5], [2, 7, 1, 8, 2]
    counts = [10, 63, 129, 20001, 7]
    torch.set_num_threads(1)
    together = draw(keys, replicas, counts, backend=backend)
    torch.set_num_threads(2)
    assert torch.equal(draw(keys, replicas, counts, backend=backend), together)
    rows = together.split(counts)
    for key, replica, count, row in zip(keys, replicas, counts, rows, strict=True):
        assert torch.equal(draw([key], [replica], [count], backend=backend), row)
        shorter = max(count - 2, 1)
        assert torch.equal(draw([key], [replica], [shorter], backend=backend), row[:shorter])
    order = [4, 0, 3, 2, 1]
    shuffled = draw(
        [keys[i] for i in order],
        [replicas[i] for i in order],
        [counts[i] for i in order],
        backend=backend,
    )
    assert torch.equal(shuffled, torch.cat([rows[i] for i in order]))


def test_opcheck():
    ones = torch.ones(3, dtype=torch.int64)
    torch.library.opcheck(
        torch.ops.tito_fast.philox_normal.default, (ones, ones, 5 * ones, 1, 2, 15)
    )
    torch.library.opcheck(
        torch.ops.tito_fast.philox_integers.default,
        (torch.ones(3, 4, dtype=torch.int64), torch.ones(3, 2, dtype=torch.int64)),
    )


@pytest.mark.gpu
def test_cuda_reference_matches_cpu():
    rows = [torch.tensor(row) for row in ([5, -6, 7], [1, 2, 3], [63, 0, 4001])]
    numbers = {"rollout_step": 1, "stream_evaluation": 2, "n_total": 4064}
    on_cpu = philox_normal(*rows, **numbers, backend="reference")
    on_device = philox_normal(*[row.cuda() for row in rows], **numbers).cpu()
    far = on_cpu.abs() > 1e-6
    assert ulps_apart(on_cpu, on_device)[far].max() <= 1
