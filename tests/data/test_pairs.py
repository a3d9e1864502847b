import numpy as np
import pytest
import torch

from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.convert.writer import Frames, StoreWriter
from tito_fast.data.molecule import Molecule
from tito_fast.data.pairs import LAG_LAWS, PairSampler, draw_lag_steps, lagged_windows
from tito_fast.data.store import open_store

# The first forty of 300 lags that the released code drew with numpy's seed 5 and a largest lag of 20.
RELEASED_LAGS = {
    "uniform": (
        "4 15 16 7 17 10 9 5 8 17 17 8 13 16 18 8 17 13 14 12 "
        "2 16 19 10 11 10 10 2 19 8 17 15 6 1 17 5 15 5 10 20"
    ),
    "log_uniform": (
        "1 14 1 16 4 6 10 4 2 1 1 9 3 1 14 2 3 2 6 5 6 2 2 2 2 1 1 18 18 1 1 1 8 10 1 5 1 4 7 20"
    ),
    "fixed": " ".join(["20"] * 40),
}


def chain(n_atoms, *, name):
    """Return a chain of carbon atoms with alternating single and double bonds."""
    first = np.arange(n_atoms - 1)
    kind = 1 + first % 2
    return Molecule(
        name=name,
        atomic_numbers=np.full(n_atoms, 6) + np.arange(n_atoms) % 3,
        bond_index=np.stack([np.append(first, first + 1), np.append(first + 1, first)]),
        bond_type=np.append(kind, kind),
        positions=np.zeros((n_atoms, 3)),
        atom_names=("C",) * n_atoms,
        residue_names=("UNL",) * n_atoms,
        residue_numbers=(1,) * n_atoms,
        chain_ids=("A",) * n_atoms,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "store"
    rng = np.random.default_rng(0)
    with StoreWriter(path, converter="test", source_name="test") as writer:
        sizes = (5, 1, 9)
        for size in sizes:
            writer.add_molecule(chain(size, name=f"chain{size}"))
        # Two trajectories of one molecule, other intervals, and another split between them.
        for molecule, n_frames, interval_ps, split in (
            (0, 40, 1.0, "train"),
            (2, 25, 2.0, "train"),
            (1, 30, 0.1, "val"),
            (1, 60, 0.5, "train"),
            (0, 33, 1.0, "train"),
        ):
            writer.add_trajectory(
                molecule,
                [Frames(positions=rng.normal(size=(n_frames, sizes[molecule], 3)))],
                name="t",
                split=split,
                frame_interval_ps=interval_ps,
            )
    return open_store(path)


def draw(store, *, n_pairs=2000, seed=0, split="train", max_lag_ps=10.0, lag_law="uniform"):
    sampler = PairSampler(store, split=split, max_lag_ps=max_lag_ps, lag_law=lag_law)
    return sampler.draw(n_pairs, np.random.default_rng(seed))


def test_a_pair_is_two_frames_of_one_trajectory_the_lag_apart(store):
    pairs = draw(store, n_pairs=500)
    ptr = pairs.batch.batch_ptr.tolist()
    for pair in range(pairs.n_pairs):
        idx = int(pairs.trajectory_idx[pair])
        row = store.trajectories[idx]
        frames = store.trajectory_positions(idx)
        start, lag = int(pairs.start_frame[pair]), int(pairs.lag_steps[pair])
        atoms = slice(ptr[pair], ptr[pair + 1])
        np.testing.assert_array_equal(pairs.current_positions[atoms], frames[start])
        np.testing.assert_array_equal(pairs.next_positions[atoms], frames[start + lag])
        assert pairs.molecule_idx[pair] == row.molecule_idx
        assert pairs.lag_time_ps[pair] == np.float32(lag * row.frame_interval_ps)


@pytest.mark.parametrize("lag_law", LAG_LAWS)
def test_no_pair_crosses_the_end_of_a_trajectory(store, lag_law):
    pairs = draw(store, lag_law=lag_law)
    n_frames = np.array([row.n_frames for row in store.trajectories])[pairs.trajectory_idx]
    interval = np.array([row.frame_interval_ps for row in store.trajectories])[pairs.trajectory_idx]
    largest = np.maximum((10.0 / interval).astype(int), 1)
    assert (pairs.start_frame.numpy() >= 0).all()
    assert (pairs.start_frame.numpy() <= n_frames - largest - 1).all()
    assert (pairs.lag_steps.numpy() >= 1).all()
    assert (pairs.lag_steps.numpy() <= largest).all()
    assert (pairs.lag_time_ps <= 10.0).all()
    if lag_law == "fixed":
        assert (pairs.lag_time_ps == 10.0).all()


def test_only_the_split_is_drawn_from(store):
    assert set(draw(store).trajectory_idx.tolist()) == {0, 1, 3, 4}
    assert set(draw(store, split="val", max_lag_ps=1.0).trajectory_idx.tolist()) == {2}


@pytest.mark.parametrize("split", ["train", "val"])
def test_positions_held_on_a_device_give_the_pairs_of_the_map(store, split):
    sampler = PairSampler(store, split=split, max_lag_ps=2.0)
    held = sampler.positions_on(torch.device("cpu"))
    assert held.positions.numel() * 4 == sampler.n_bytes
    indices = sampler.draw_indices(200, np.random.default_rng(1))
    mapped = sampler.draw(200, np.random.default_rng(1))
    for rows in (slice(0, 200), slice(7, 50)):
        found = sampler.gather(indices.part(rows), source=held)
        ptr = mapped.batch.batch_ptr
        atoms = slice(ptr[rows.start], ptr[rows.stop])
        for name in ("current_positions", "next_positions"):
            assert torch.equal(getattr(found, name), getattr(mapped, name)[atoms])
        assert torch.equal(found.lag_time_ps, mapped.lag_time_ps[rows])
        assert found.batch.n_atoms == indices.part(rows).n_atoms


def test_every_window_is_equally_likely(store):
    sampler = PairSampler(store, split="train", max_lag_ps=10.0)
    # 40 - 10, 25 - 5, 60 - 20 and 33 - 10 windows.
    assert sampler.n_windows == 30 + 20 + 40 + 23
    n_pairs = 113_000
    pairs = sampler.draw(n_pairs, np.random.default_rng(3))
    code = pairs.trajectory_idx * 1000 + pairs.start_frame
    _, counts = np.unique(code.numpy(), return_counts=True)
    assert counts.shape == (113,)
    # Binomial: 1000 expected, standard deviation 31.5.
    assert np.abs(counts - 1000).max() < 5 * 31.5


def test_the_batch_is_that_of_the_molecules(store):
    pairs = draw(store, n_pairs=64)
    expected = MoleculeBatch.from_molecules(
        [store.molecules[idx] for idx in pairs.molecule_idx.tolist()]
    )
    for name in ("atomic_numbers", "batch_ptr", "bond_index", "bond_type"):
        found = getattr(pairs.batch, name)
        assert found.dtype == torch.int64
        assert torch.equal(found, getattr(expected, name))
    assert pairs.batch.sizes == expected.sizes
    assert all(type(size) is int for size in pairs.batch.sizes)


def test_positions_are_float32_and_centered(store):
    pairs = draw(store, n_pairs=64)
    for positions in (pairs.current_positions, pairs.next_positions):
        assert positions.dtype == torch.float32
        sums = torch.zeros(64, 3).index_add(0, pairs.batch.batch_idx, positions)
        assert sums.abs().max() < 1e-5
    assert pairs.current_positions.abs().max() > 0.5


def test_a_batch_of_one_atom_and_one_pair_is_drawn(store):
    pairs = draw(store, n_pairs=1, split="val", max_lag_ps=1.0)
    assert pairs.batch.sizes == (1,)
    assert pairs.batch.bond_index.shape == (2, 0)
    assert torch.equal(pairs.current_positions, torch.zeros(1, 3))


def test_equal_generators_draw_equal_pairs(store):
    first, same, other = draw(store), draw(store), draw(store, seed=1)
    assert torch.equal(first.next_positions, same.next_positions)
    assert torch.equal(first.lag_time_ps, same.lag_time_ps)
    assert not torch.equal(first.lag_time_ps, other.lag_time_ps)


def test_a_batch_moves_to_a_device_as_a_whole(store):
    moved = draw(store, n_pairs=8).to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 7
    assert {value.device.type for value in [*tensors, moved.batch.bond_index]} == {"meta"}


@pytest.mark.parametrize("law", LAG_LAWS)
def test_the_released_draws_are_reproduced(law):
    released = np.random.RandomState(5)
    lags = draw_lag_steps(released, np.full(40, 20), law=law)
    assert lags.tolist() == [int(lag) for lag in RELEASED_LAGS[law].split()]


def test_lag_laws_have_their_probabilities():
    n_draws, largest = 200_000, 12
    steps = np.arange(1, largest + 1)
    expected = {
        "uniform": np.full(largest, 1 / largest),
        "log_uniform": np.log((steps + 1) / steps) / np.log(largest + 1),
        "fixed": (steps == largest).astype(float),
    }
    for law, probability in expected.items():
        lags = draw_lag_steps(np.random.default_rng(1), np.full(n_draws, largest), law=law)
        share = np.bincount(lags, minlength=largest + 1)[1:] / n_draws
        assert lags.dtype == np.int64
        assert np.abs(share - probability).max() < 5 * np.sqrt(0.25 / n_draws)


@pytest.mark.parametrize("law", LAG_LAWS)
def test_lags_differ_in_range_from_pair_to_pair(law):
    limit = np.tile([1, 3, 50], 4000)
    lags = draw_lag_steps(np.random.default_rng(0), limit, law=law).reshape(-1, 3)
    assert lags.min(axis=0).tolist() == ([1, 3, 50] if law == "fixed" else [1, 1, 1])
    assert lags.max(axis=0).tolist() == [1, 3, 50]


@pytest.mark.parametrize("largest", [20, np.array([20, 100, 5, 33])])
def test_windows_leave_out_the_last_frames_of_each_trajectory(largest):
    lengths = np.array([50, 70, 10, 270])
    windows = lagged_windows(lengths, largest)
    limits = np.broadcast_to(largest, lengths.shape)
    first = np.concatenate([[0], np.cumsum(lengths)])
    frames = [
        (int(first[k]) + start, int(limits[k]))
        for k in range(4)
        for start in range(int(lengths[k]))
        if start + limits[k] <= lengths[k] - 1
    ]
    assert windows.first_frames().tolist() == [frame for frame, _ in frames]
    assert windows.window_max_lag_steps().tolist() == [limit for _, limit in frames]
    # As recorded from the released code for these lengths.
    recorded = [0, 30, 80, 80, 330] if np.ndim(largest) == 0 else [0, 30, 30, 35, 272]
    assert windows.window_ptr.tolist() == recorded
    assert windows.frame_ptr.tolist() == [0, 50, 120, 130, 400]


def test_an_interval_that_divides_the_lag_counts_every_step(store):
    # 0.3 / 0.1 is 2.999… in binary.
    sampler = PairSampler(store, split="val", max_lag_ps=0.3)
    assert sampler.windows.max_lag_steps.tolist() == [3]


def test_a_lag_below_the_interval_draws_neighbors_and_warns(store):
    with pytest.warns(UserWarning, match=r"max_lag_ps: 1 ps is shorter than the frame interval"):
        sampler = PairSampler(store, split="train", max_lag_ps=1.0)
    assert sampler.windows.max_lag_steps.tolist() == [1, 1, 2, 1]


def test_trajectories_that_are_too_short_are_named(store):
    with pytest.warns(UserWarning, match=r"max_lag_ps: 2 of 4 trajectories in split 'train'"):
        sampler = PairSampler(store, split="train", max_lag_ps=35.0)
    pairs = sampler.draw(500, np.random.default_rng(0))
    assert set(pairs.trajectory_idx.tolist()) == {0, 1}
    with pytest.raises(ValueError, match=r"expected at most 48 ps, the longest .* got 100"):
        PairSampler(store, split="train", max_lag_ps=100.0)


def test_bad_arguments_are_refused(store):
    with pytest.raises(ValueError, match=r"split: expected one of train, val, got 'test'"):
        PairSampler(store, split="test", max_lag_ps=1.0)
    with pytest.raises(ValueError, match=r"max_lag_ps: expected a value above zero, got 0 ps"):
        PairSampler(store, split="train", max_lag_ps=0.0)
    with pytest.raises(ValueError, match=r"max_lag_ps: expected a value above zero, got nan ps"):
        PairSampler(store, split="train", max_lag_ps=float("nan"))
    with pytest.raises(ValueError, match=r"lag_law: expected one of uniform, .* got 'linear'"):
        PairSampler(store, split="train", max_lag_ps=5.0, lag_law="linear")
    with pytest.raises(ValueError, match=r"n_pairs: expected at least 1, got 0"):
        draw(store, n_pairs=0)
    with pytest.raises(ValueError, match=r"law: expected one of uniform, .* got 'linear'"):
        draw_lag_steps(np.random.default_rng(0), np.array([3]), law="linear")
    with pytest.raises(ValueError, match=r"max_lag_steps: expected at least 1, got 0"):
        draw_lag_steps(np.random.default_rng(0), np.array([3, 0]))
    with pytest.raises(ValueError, match=r"max_lag_steps: expected at least 1, got 0"):
        lagged_windows(np.array([5]), 0)
    with pytest.raises(ValueError, match=r"max_lag_steps: expected one lag or shape \(1,\)"):
        lagged_windows(np.array([5]), np.array([1, 2]))
