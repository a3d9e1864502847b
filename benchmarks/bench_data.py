"""What feeds a training step: pairs, base noise and coupling, in pairs per second.

Run with ``OMP_NUM_THREADS=2`` on a quiet machine; where another process runs, threads that spin at
barriers cost a factor of five, so add ``OMP_WAIT_POLICY=passive``. The targets, 200,000 pairs/s with
plan ``r`` and 80,000 with ``pr`` for 18 atoms on two cores, are recorded beside the rate reached.
"""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from benchmarks.systems import system
from tito_fast.data.convert.writer import Frames, StoreWriter
from tito_fast.data.pairs import PairSampler
from tito_fast.data.store import open_store
from tito_fast.ops import center, ot_couple, philox_normal
from tito_fast.units import LENGTH_UNITS_NM

N_PAIRS = 4096
N_TRAJECTORIES, N_FRAMES = 32, 2000
MAX_LAG_PS = 100.0
TARGETS = {"none": None, "r": 200_000, "pr": 80_000}
UNIT_NM = LENGTH_UNITS_NM["mdqm9"]


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """Return a sampler over trajectories of 18 atoms: a chain that shakes and tumbles."""
    path = tmp_path_factory.mktemp("bench_data") / "store"
    molecule = system("mdqm9-like", 1).molecule()
    rng = np.random.default_rng(0)
    with StoreWriter(path, converter="benchmark", source_name="benchmark") as writer:
        molecule_idx = writer.add_molecule(molecule)
        for number in range(N_TRAJECTORIES):
            rotations = np.linalg.qr(rng.normal(size=(N_FRAMES, 3, 3)))[0]
            positions = molecule.positions + rng.normal(scale=0.02, size=(N_FRAMES, 18, 3))
            writer.add_trajectory(
                molecule_idx,
                [Frames(positions=positions @ rotations)],
                name=str(number),
                split="train",
                frame_interval_ps=1.0,
            )
    return PairSampler(open_store(path), split="train", max_lag_ps=MAX_LAG_PS)


def draw(sampler, rng, step):
    """Return pairs, their scaled next positions, and centered base noise for them."""
    pairs = sampler.draw(N_PAIRS, rng)
    batch = pairs.batch
    noise = philox_normal(
        torch.full((N_PAIRS,), 5, dtype=torch.int64),
        torch.arange(N_PAIRS),
        torch.tensor(batch.sizes) * 3,
        rollout_step=step,
        stream_evaluation=0,
        n_total=3 * batch.n_atoms,
    )
    x_0 = center(noise.view(-1, 3), batch_ptr=batch.batch_ptr)
    return pairs, pairs.next_positions / UNIT_NM, x_0


def feed(sampler, rng, step, plan):
    pairs, x_1, x_0 = draw(sampler, rng, step)
    return pairs, x_1, x_0, ot_couple(x_0, x_1, batch_ptr=pairs.batch.batch_ptr, plan=plan)


def coupled_by_hand(x_0, x_1, plan):
    """Return one molecule's base sample, coupled with numpy and scipy in double precision."""
    if "p" in plan:
        cost = ((x_1[:, None] - x_0[None]) ** 2).sum(axis=-1)
        x_0 = x_0[linear_sum_assignment(cost)[1]]
    if "r" in plan:
        left, _, right = np.linalg.svd(x_0.T @ x_1)
        sign = np.sign(np.linalg.det(left @ right))
        x_0 = x_0 @ (left * [1.0, 1.0, sign]) @ right
    return x_0


@pytest.mark.parametrize("plan", TARGETS)
def test_pairs_and_coupling(benchmark, sampler, plan):
    rng = np.random.default_rng(1)
    step = iter(range(10**9))
    pairs, x_1, x_0, coupled = benchmark(lambda: feed(sampler, rng, next(step), plan))
    for pair in range(0, N_PAIRS, N_PAIRS // 16):
        atoms = slice(18 * pair, 18 * pair + 18)
        expected = coupled_by_hand(x_0[atoms].double().numpy(), x_1[atoms].double().numpy(), plan)
        assert np.abs(coupled[atoms].numpy() - expected).max() < 1e-5
    assert pairs.batch.batch_ptr.tolist() == list(range(0, 18 * N_PAIRS + 1, 18))
    assert (pairs.lag_time_ps == pairs.lag_steps).all()
    assert pairs.lag_time_ps.max() <= MAX_LAG_PS
    record(benchmark, target=TARGETS[plan])


def test_pairs_alone(benchmark, sampler):
    rng = np.random.default_rng(1)
    pairs = benchmark(lambda: sampler.draw(N_PAIRS, rng))
    assert pairs.n_pairs == N_PAIRS
    record(benchmark, target=None)


def record(benchmark, *, target):
    benchmark.extra_info.update(
        device="cpu", n_atoms=18, n_pairs=N_PAIRS, n_threads=torch.get_num_threads()
    )
    if benchmark.enabled:
        benchmark.extra_info["pairs_per_second"] = round(N_PAIRS / benchmark.stats["min"])
        benchmark.extra_info["pairs_per_second_median"] = round(N_PAIRS / benchmark.stats["median"])
        benchmark.extra_info["target_pairs_per_second"] = target
