"""The vectorised kernel: every uniform, every tail, every instruction set."""

import math
import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch

from tito_fast._extension import native_module
from tito_fast.ops.philox_normal import philox_normal
from tito_fast.ops.philox_normal.reference import box_muller

ISAS = ["baseline", "avx2", "avx512", "avx512bf16"]
N_UNIFORMS = 2**24


def native_box_muller(words):
    """Normals (n, 4) of int64 words (n, 4), each of 32 bits."""
    as_int32 = torch.where(words < 2**31, words, words - 2**32).to(torch.int32).contiguous()
    normals = torch.full(words.shape, torch.nan)
    native_module().box_muller_cpu(as_int32.data_ptr(), normals.data_ptr(), len(words))
    return normals


def reference_box_muller(words):
    first, second = words[:, 0::2, None], words[:, 1::2, None]
    return box_muller(first, second, is_second=torch.tensor([False, True])).flatten(1)


def largest_distance_in_ulps(a, b):
    assert a.isfinite().all()
    ordered = []
    for values in (a, b):
        bits = values.view(torch.int32).to(torch.int64)
        ordered.append(torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits))
    return int((ordered[0] - ordered[1]).abs().max())


def native_row(key, replica, step, evaluation, first, end):
    normals = torch.full((end - first + 8,), -99.0)
    native_module().philox_normal_row_cpu(
        key, replica, step, evaluation, first, end, normals[4:].data_ptr()
    )
    assert torch.equal(normals[:4], torch.full((4,), -99.0))
    assert torch.equal(normals[4 + end - first :], torch.full((4,), -99.0))
    return normals[4 : 4 + end - first]


@pytest.mark.parametrize("part", range(4))
def test_every_radius_and_every_angle_is_within_an_ulp(part):
    n = N_UNIFORMS // 4
    radius = torch.arange(part * n, (part + 1) * n)
    # An odd multiplier permutes the angles; the low byte must not matter.
    angle = (radius * 0x9E3779 + 12345) % N_UNIFORMS
    words = torch.stack((radius, angle), dim=1) * 256 + (radius % 251)[:, None]
    words = words.view(-1, 4)
    assert largest_distance_in_ulps(native_box_muller(words), reference_box_muller(words)) <= 1


def test_extreme_words_and_angles_next_to_quarter_turns_are_within_an_ulp():
    near = torch.arange(-300, 301)
    angles = torch.cat([near + quarter * (N_UNIFORMS // 4) for quarter in range(5)])
    angles = torch.cat([angles, near + N_UNIFORMS // 8])
    angles = angles[(angles >= 0) & (angles < N_UNIFORMS)]
    powers = 2 ** torch.arange(25)
    radii = torch.cat([powers - 2, powers - 1, powers, (powers * 2**0.5).long()])
    radii = radii[(radii >= 0) & (radii < N_UNIFORMS)].unique()
    words = torch.cartesian_prod(256 * radii, 256 * angles)
    words = torch.cat([words, words + 255]).view(-1, 4)
    for extreme in (0, 0xFFFFFFFF):
        assert (words == extreme).any(dim=0).all()
    assert largest_distance_in_ulps(native_box_muller(words), reference_box_muller(words)) <= 1


def test_the_largest_and_the_smallest_radius():
    tail, zero = native_box_muller(torch.tensor([[0, 0, 0xFFFFFFFF, 0x20000000]]))[0].split(2)
    assert torch.equal(tail, torch.tensor([math.sqrt(48 * math.log(2)), 0.0]))
    assert torch.equal(zero, torch.zeros(2))


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 4095])
def test_any_piece_of_a_row_is_that_piece(first):
    whole = native_row(77, 3, 4, 5, 0, 4400)
    for count in [*range(71), 129, 257]:
        piece = native_row(77, 3, 4, 5, first, first + count)
        assert torch.equal(piece, whole[first : first + count])


def test_a_row_may_end_at_its_last_counter():
    last = 4 * 2**32
    row = native_row(2**64 - 1, 2**32 - 1, 9, 2**32 - 1, last - 150, last)
    for pieces in ([0, 1, 150], [0, 7, 37, 102, 150]):
        parts = [
            native_row(2**64 - 1, 2**32 - 1, 9, 2**32 - 1, last - 150 + start, last - 150 + end)
            for start, end in pairwise(pieces)
        ]
        assert torch.equal(torch.cat(parts), row)
    assert not torch.equal(row[2:6], native_row(2**64 - 1, 2**32 - 1, 9, 2**32 - 1, 0, 4))


@pytest.mark.parametrize("count", [*range(1, 70), 4095, 4096, 4097])
def test_every_tail_matches_reference(count):
    rows = [torch.tensor([-(2**63) + count]), torch.tensor([count]), torch.tensor([count])]
    numbers = {"rollout_step": 2**32 - 1, "stream_evaluation": count, "n_total": count}
    native = philox_normal(*rows, **numbers, backend="native")
    reference = philox_normal(*rows, **numbers, backend="reference")
    assert largest_distance_in_ulps(native, reference) <= 1


# Without torch, which would take longer to import than all the rest.
BITS = """
import array, hashlib, importlib, random
native = importlib.import_module("tito_fast._C")
row = array.array("f", bytes(4 * 70001))
native.philox_normal_row_cpu(0x123456789ABCDEF0, 7, 8, 9, 5, 70006, row.buffer_info()[0])
draw = random.Random(1)
pick = lambda: draw.choice([0, 0xFFFFFFFF, 1 << 30, 1 << 31, 3 << 30, draw.getrandbits(32)])
words = array.array("I", [pick() for _ in range(40004)])
normals = array.array("f", bytes(4 * 40004))
native.box_muller_cpu(words.buffer_info()[0], normals.buffer_info()[0], 10001)
print(native.build_info()["isa"], hashlib.sha256(row.tobytes() + normals.tobytes()).hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits():
    best = native_module().build_info()["best_isa"]
    digests = {}
    for isa in ISAS[: ISAS.index(best) + 1]:
        done = subprocess.run(  # noqa: S603, our own interpreter and text
            [sys.executable, "-P", "-c", BITS],
            env=os.environ | {"TITO_FAST_ISA": isa},
            capture_output=True,
            text=True,
            check=True,
        )
        used, digest = done.stdout.split()
        assert used == isa
        digests[isa] = digest
    assert len(set(digests.values())) == 1, digests
