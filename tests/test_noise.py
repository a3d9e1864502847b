"""Noise sources: what a value depends on, and what it does not."""

import pytest
import torch

from tito_fast.noise import CounterNoise, RecordedNoise


def noise(hashes, replicas, sizes, *, seed=5, n_features=4, **kwargs):
    return CounterNoise(seed, hashes, replicas, sizes=sizes, n_features=n_features, **kwargs)


def test_a_row_does_not_depend_on_what_is_beside_it():
    together = noise([11, 22, 11], [0, 0, 7], [3, 5, 3])
    alone = noise([11], [7], [3])
    assert torch.equal(together.base(4)[8:], alone.base(4))
    assert torch.equal(together.vector_start(4, 2)[8:], alone.vector_start(4, 2))
    assert torch.equal(together.diffusion(4, 2)[8:], alone.diffusion(4, 2))


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 6},
        {"hashes": [12]},
        {"replicas": [1]},
    ],
)
def test_seed_molecule_and_replica_change_every_value(changed):
    arguments = {"hashes": [11], "replicas": [0], "sizes": [30], "seed": 5} | changed
    assert not (noise([11], [0], [30]).base(0) == noise(**arguments).base(0)).any()


def test_steps_evaluations_and_streams_are_distinct():
    source = noise([11], [0], [30], n_features=1)
    draws = [
        source.base(0),
        source.base(1),
        source.vector_start(0, 0).squeeze(-1),
        source.vector_start(0, 1).squeeze(-1),
        source.vector_start(1, 0).squeeze(-1),
        source.diffusion(0, 0),
        source.diffusion(0, 1),
    ]
    for index, first in enumerate(draws):
        for second in draws[index + 1 :]:
            assert not (first == second).any()


def test_a_repeat_is_the_same_and_float64_holds_the_float32_values():
    source = noise([2**64 - 1], [3], [17], seed=2**64 - 1)
    assert torch.equal(source.base(9), source.base(9))
    wide = noise([2**64 - 1], [3], [17], seed=2**64 - 1, dtype=torch.float64)
    assert torch.equal(wide.base(9).float(), source.base(9))


def test_values_are_standard_normal():
    values = noise([1], [0], [40_000]).base(0)
    assert values.mean().abs() < 0.01
    assert (values.std() - 1).abs() < 0.01
    assert (values.pow(4).mean() - 3).abs() < 0.1


def test_recorded_noise_gives_back_what_was_recorded():
    base, vectors = torch.randn(2, 5, 3), torch.randn(2, 3, 5, 3, 4)
    source = RecordedNoise(base, vectors)
    assert torch.equal(source.base(1), base[1])
    assert torch.equal(source.vector_start(0, 2), vectors[0, 2])
    with pytest.raises(ValueError, match="diffusion_noise: expected recorded noise to sample with"):
        source.diffusion(0, 2)
    assert torch.equal(
        RecordedNoise(base, vectors, vectors[..., 0]).diffusion(0, 2), vectors[0, 2, ..., 0]
    )


def test_bad_seeds_and_evaluations_are_refused():
    with pytest.raises(ValueError, match=r"seed: expected 0 to 2\*\*64 - 1, got -1"):
        noise([1], [0], [3], seed=-1)
    with pytest.raises(ValueError, match="evaluation: expected 0 to 268435455, got 268435456"):
        noise([1], [0], [3]).vector_start(0, 2**28)
