"""The CUDA kernels of ``philox_normal``, run on the host; their bits are those of the C++ kernels."""

import pytest
import torch

from tito_fast._extension import native_module
from tito_fast.ops import philox_integers, philox_normal, philox_normal_at, philox_rows
from tito_fast.ops.cuda_call import call_cuda

N_UNIFORMS = 2**24
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
COUNTS = [
    [0],
    [1],
    [2],
    [3],
    [4],
    [5],
    [1000],
    [4000],
    [1, 2, 3, 0, 4, 5, 0, 0, 1000, 7],
    [0, 0, 3, 129],
    [3] * 300,
    [0] * 40 + [1] * 200,
    [0] * 5,
    [],
]


def words(text):
    return [int(word, 16) for word in text.split()]


def make_rows(counts):
    generator = torch.Generator().manual_seed(len(counts))
    keys = torch.randint(-(2**63), 2**63 - 1, (len(counts),), generator=generator)
    replicas = torch.randint(0, 2**32, (len(counts),), generator=generator)
    return keys, replicas, torch.tensor(counts, dtype=torch.int64)


def draw(rows, *, step=3, evaluation=2**28 + 5, n_total=None):
    return philox_normal(
        *rows,
        rollout_step=step,
        stream_evaluation=evaluation,
        n_total=int(rows[2].sum()) if n_total is None else n_total,
        backend="native",
    )


def host_box_muller(module, words):
    """Normals (n, 4) of int64 words (n, 4) by the CUDA kernel, on the host, and by the C++ kernel."""
    as_int32 = torch.where(words < 2**31, words, words - 2**32).to(torch.int32).contiguous()
    found, expected = (torch.full(words.shape, torch.nan) for _ in range(2))
    module.box_muller_cuda(as_int32.data_ptr(), found.data_ptr(), len(words), 0, 0)
    native_module().box_muller_cpu(as_int32.data_ptr(), expected.data_ptr(), len(words))
    return found, expected


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def test_integers_match_known_answers(host_cuda):
    counters = torch.tensor([words(counter) for counter, _, _ in KNOWN_ANSWERS])
    keys = torch.tensor([words(key) for _, key, _ in KNOWN_ANSWERS])
    expected = torch.tensor([words(result) for _, _, result in KNOWN_ANSWERS])
    assert torch.equal(philox_integers(counters, keys, backend="native"), expected)
    assert host_cuda.take_log() == ["philox_integers_fwd"]


@pytest.mark.parametrize("n", [0, 1, 127, 128, 129, 1000])
def test_integers_are_those_of_the_reference(host_cuda, n):
    generator = torch.Generator().manual_seed(n)
    counters = torch.randint(0, 2**32, (n, 4), generator=generator)
    keys = torch.randint(0, 2**32, (n, 2), generator=generator)
    found = philox_integers(counters, keys, backend="native")
    assert torch.equal(found, philox_integers(counters, keys, backend="reference"))


@pytest.mark.parametrize("counts", COUNTS, ids=lambda counts: f"{len(counts)}rows{sum(counts)}")
def test_normals_are_the_cpu_kernels_bitwise_in_any_order_of_threads(
    host_cuda, monkeypatch, counts
):
    rows = make_rows(counts)
    found = []
    for seed in range(3):
        host_cuda.set_seed(seed)
        found.append(draw(rows))
        assert host_cuda.take_log() == (["philox_normal_fwd"] if sum(counts) else [])
    monkeypatch.undo()
    expected = draw(rows)
    assert all(same_bits(each, expected) for each in found)


@pytest.mark.parametrize("seed", range(4))
def test_normals_of_random_rows_are_the_cpu_kernels_bitwise(host_cuda, monkeypatch, seed):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 12, (500,), generator=generator).tolist()
    rows = make_rows(counts)
    found = draw(rows, step=2**32 - 1, evaluation=2**32 - 1)
    monkeypatch.undo()
    assert same_bits(found, draw(rows, step=2**32 - 1, evaluation=2**32 - 1))


@pytest.mark.parametrize("step", [0, 3, 2**31, 2**32 - 1, 2**32 + 3, -1])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_step_on_the_device_gives_the_same_bits(host_cuda, backend, step):
    rows = make_rows([5, 0, 66, 1])
    numbers = {"stream_evaluation": 7, "n_total": 72, "backend": backend}
    found = philox_normal_at(
        *rows, rows=philox_rows(rows[2]), rollout_step=torch.tensor([step]), **numbers
    )
    assert host_cuda.take_log() == (["philox_normal_fwd"] if backend == "native" else [])
    assert same_bits(found, philox_normal(*rows, rollout_step=step % 2**32, **numbers))


def test_a_step_in_a_tensor_gives_the_same_bits_on_the_cpu():
    rows = make_rows([5, 0, 66, 1])
    numbers = {"stream_evaluation": 7, "n_total": 72, "backend": "native"}
    found = philox_normal_at(
        *rows, rows=philox_rows(rows[2]), rollout_step=torch.tensor([2**32 + 3]), **numbers
    )
    assert same_bits(found, philox_normal(*rows, rollout_step=3, **numbers))


@pytest.mark.parametrize("part", range(2))
def test_radii_and_angles_are_the_cpu_kernels_bitwise(host_cuda_module, part):
    # A quarter of all radii, each with another angle: an odd multiplier permutes them.
    radius = torch.arange(part, N_UNIFORMS, 8)
    angle = (radius * 0x9E3779 + 12345) % N_UNIFORMS
    pairs = torch.stack((radius, angle), dim=1) * 256 + (radius % 251)[:, None]
    found, expected = host_box_muller(host_cuda_module, pairs.view(-1, 4))
    assert same_bits(found, expected)


def test_extreme_words_and_angles_next_to_quarter_turns_are_the_cpu_kernels_bitwise(
    host_cuda_module,
):
    near = torch.arange(-50, 51)
    angles = torch.cat([near + quarter * (N_UNIFORMS // 4) for quarter in range(5)])
    angles = torch.cat([angles, near + N_UNIFORMS // 8])
    angles = angles[(angles >= 0) & (angles < N_UNIFORMS)]
    powers = 2 ** torch.arange(25)
    radii = torch.cat([powers - 2, powers - 1, powers, (powers * 2**0.5).long()])
    radii = radii[(radii >= 0) & (radii < N_UNIFORMS)].unique()
    pairs = torch.cartesian_prod(256 * radii, 256 * angles)
    pairs = torch.cat([pairs, pairs + 255]).view(-1, 4)
    # The radius of the smallest uniform, 2^-24, and of 1; a turn of nothing and nearly a whole one.
    for extreme in (0, 0xFFFFFFFF):
        assert (pairs[:, ::2] == extreme).any()
        assert (pairs[:, 1::2] == extreme).any()
    found, expected = host_box_muller(host_cuda_module, pairs)
    assert same_bits(found, expected)


def test_noncontiguous_and_offset_views(host_cuda):
    table = torch.tensor([[9, 9, 9], [5, 1, 3], [6, 2, 7], [7, 0, 2]])[1:]
    views = table.unbind(1)
    assert not views[0].is_contiguous()
    assert torch.equal(draw(views), draw([view.contiguous() for view in views]))
    counters = torch.arange(24).view(4, 6).T
    found = philox_integers(counters, counters[:, :2], backend="native")
    assert torch.equal(found, philox_integers(counters, counters[:, :2], backend="reference"))


def test_counts_that_do_not_fit_write_nothing_outside(host_cuda):
    keys, replicas, _ = make_rows([0] * 4)
    for wrong in ([50, 3, -7, 60], [-50, 100, -3, 2], [2**62, 2**62, -(2**62), 5]):
        counts = torch.tensor(wrong)
        starts = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
        memory = torch.full((48,), -99.0)
        call_cuda(
            "philox_normal_fwd_cuda",
            keys,
            keys.data_ptr(),
            replicas.data_ptr(),
            counts.data_ptr(),
            starts.data_ptr(),
            0,
            memory[4:].data_ptr(),
            4,
            40,
            1,
            2,
        )
        assert (memory[:4] == -99.0).all()
        assert (memory[44:] == -99.0).all()


def test_opcheck():
    rows = make_rows([5, 5, 5])
    torch.library.opcheck(
        torch.ops.tito_fast.philox_normal_at.default,
        (*rows, philox_rows(rows[2]), torch.ones(1, dtype=torch.int64), 2, 15),
    )


def test_failed_launch_names_kernel_and_sizes(host_cuda):
    host_cuda.fail_next_launch("cudaErrorInvalidValue, invalid argument")
    with pytest.raises(RuntimeError, match=r"philox_normal_fwd: .*n_rows = 2, n_total = 7.*inv"):
        draw(make_rows([3, 4]))


@pytest.mark.gpu
def test_bits_on_a_gpu_are_those_of_the_cpu():
    counts = torch.randint(0, 12, (500,), generator=torch.Generator().manual_seed(0)).tolist()
    rows = make_rows(counts)
    on_device = [row.cuda() for row in rows]
    expected = draw(rows)
    found = draw(on_device, n_total=sum(counts))
    assert same_bits(found.cpu(), expected)
    at = philox_normal_at(
        *on_device,
        rows=philox_rows(on_device[2]),
        rollout_step=torch.tensor([3]).cuda(),
        stream_evaluation=2**28 + 5,
        n_total=sum(counts),
        backend="native",
    )
    assert same_bits(at.cpu(), expected)
    radius = torch.arange(N_UNIFORMS)
    pairs = torch.stack((radius, (radius * 0x9E3779 + 12345) % N_UNIFORMS), dim=1) * 256
    pairs = torch.where(pairs < 2**31, pairs, pairs - 2**32).to(torch.int32).view(-1, 4)
    normals, on_cpu = torch.empty(pairs.shape).cuda(), torch.empty(pairs.shape)
    pairs_on_device = pairs.cuda()
    call_cuda(
        "box_muller_cuda",
        normals,
        pairs_on_device.data_ptr(),
        normals.data_ptr(),
        len(pairs),
    )
    native_module().box_muller_cpu(pairs.data_ptr(), on_cpu.data_ptr(), len(pairs))
    assert same_bits(normals.cpu(), on_cpu)
