import pytest
import torch

from tito_fast.data.pairs import PairSampler
from tito_fast.data.store import open_store
from tito_fast.models.tito.config import ModelInfo
from tito_fast.models.tito.model import TitoModel
from tito_fast.training.batches import (
    TRAIN_USE,
    VALIDATION_USE,
    BatchSource,
    _lies_on_device,
    batch_loss,
    pair_range,
)

N_PAIRS = 7
PER_ATOM = ("scaled_current", "x_0", "x_1", "epsilon", "vectors")
PER_PAIR = ("flow_time", "lag_time_ps")


@pytest.fixture
def make_source(make_config):
    def make(*, use=TRAIN_USE, dtype=torch.float32, **settings):
        config = make_config(**settings)
        store = open_store(config.data.store)
        sampler = PairSampler(store, split="train", max_lag_ps=config.model.max_lag_ps)
        info = ModelInfo(length_unit_nm=0.2)
        model = TitoModel.create(config.model, info, seed=0).to(config.device, dtype)
        return BatchSource(store, sampler, model, config=config, use=use), model

    return make


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 7])
def test_shares_together_are_the_batch_bitwise(make_source, n_ranks):
    source, _ = make_source()
    whole = source.draw(N_PAIRS, step=3)
    parts = [
        source.draw(N_PAIRS, step=3, part=pair_range(N_PAIRS, rank=rank, n_ranks=n_ranks))
        for rank in range(n_ranks)
    ]
    for name in PER_ATOM + PER_PAIR:
        together = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(together, getattr(whole, name)), name
    assert sum((part.batch.sizes for part in parts), ()) == whole.batch.sizes
    starts = torch.tensor([0, *(part.batch.n_atoms for part in parts)]).cumsum(0)
    bonds = torch.cat([p.batch.bond_index + s for p, s in zip(parts, starts, strict=False)], dim=1)
    assert torch.equal(bonds, whole.batch.bond_index)
    for part in parts:
        assert part.batch.batch_ptr.diff().tolist() == list(part.batch.sizes)
        assert part.batch.batch_ptr[0] == 0
    assert sum(part.share for part in parts) == pytest.approx(1.0)


def test_losses_and_gradients_of_shares_add_up_to_the_mean_over_all_atoms(make_source):
    source, model = make_source(dtype=torch.float64)
    whole = source.draw(N_PAIRS, step=0)
    loss = batch_loss(model, whole, sigma=0.1)
    loss.backward()
    expected = {
        n: p.grad.clone() for n, p in model.network.named_parameters() if p.grad is not None
    }
    model.network.zero_grad()
    total = 0.0
    for rank in range(3):
        part = pair_range(N_PAIRS, rank=rank, n_ranks=3)
        share = batch_loss(model, source.draw(N_PAIRS, step=0, part=part), sigma=0.1)
        share.backward()
        total += share.item()
    assert total == pytest.approx(loss.item(), rel=1e-12)
    assert len(set(whole.batch.sizes)) > 1  # else weighing by atoms and by pairs were the same
    for name, parameter in model.network.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-13)


def test_backends_agree_on_loss_and_gradients(make_source):
    source, model = make_source(dtype=torch.float64)
    drawn = source.draw(N_PAIRS, step=0)
    results = []
    for backend in ("reference", "eager", "native"):
        model.network.zero_grad()
        loss = batch_loss(model, drawn, sigma=0.001, backend=backend)
        loss.backward()
        norms = [
            p.grad.norm().item() if p.grad is not None else 0.0 for p in model.network.parameters()
        ]
        results.append((loss.item(), norms))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-9, abs=1e-12)


def test_a_step_repeats_and_other_steps_uses_and_seeds_differ(make_source):
    source, _ = make_source()
    again, _ = make_source()
    other_use, _ = make_source(use=VALIDATION_USE)
    other_seed, _ = make_source(seed=1)
    first = source.draw(N_PAIRS, step=5)
    for name in PER_ATOM + PER_PAIR:
        assert torch.equal(getattr(again.draw(N_PAIRS, step=5), name), getattr(first, name))
    for other in (
        source.draw(N_PAIRS, step=6),
        other_use.draw(N_PAIRS, step=5),
        other_seed.draw(N_PAIRS, step=5),
    ):
        n = min(other.batch.n_atoms, first.batch.n_atoms)
        assert not torch.equal(other.flow_time, first.flow_time)
        for name in ("epsilon", "vectors"):
            # Compared value by value: streams that overlap would be seen as equal entries.
            ours, theirs = getattr(first, name)[:n], getattr(other, name)[:n]
            assert (ours == theirs).float().mean() < 0.01


def test_noise_of_the_three_uses_is_standard_normal_and_independent(make_source):
    source, _ = make_source(data={"coupling": "none"}, model={"n_features": 2})
    drawn = source.draw(2000, step=0)
    x_0, epsilon, vectors = drawn.x_0, drawn.epsilon, drawn.vectors[:, :, 0]
    for values in (epsilon, vectors):
        assert values.mean().abs() < 0.05
        assert values.std().sub(1).abs() < 0.05
    for one, other in ((x_0, epsilon), (x_0, vectors), (epsilon, vectors)):
        assert (one * other).mean().abs() < 0.05
    assert 0 <= drawn.flow_time.min() < 0.01
    assert 0.99 < drawn.flow_time.max() < 1


def test_base_samples_are_centered_and_coupling_r_only_rotates_them(make_source):
    plain = make_source(data={"coupling": "none"})[0].draw(N_PAIRS, step=0)
    rotated = make_source(data={"coupling": "r"})[0].draw(N_PAIRS, step=0)
    start = 0
    for size in plain.batch.sizes:
        atoms = slice(start, start + size)
        start += size
        torch.testing.assert_close(plain.x_0[atoms].mean(0), torch.zeros(3), atol=1e-6, rtol=0)
        torch.testing.assert_close(
            torch.pdist(rotated.x_0[atoms]), torch.pdist(plain.x_0[atoms]), rtol=1e-4, atol=1e-5
        )
    before = (plain.x_0 - plain.x_1).square().sum()
    assert (rotated.x_0 - rotated.x_1).square().sum() < before


def test_vectors_start_at_zero_where_the_model_says_so(make_source):
    drawn = make_source(model={"vector_start": "zeros"})[0].draw(N_PAIRS, step=0)
    assert drawn.vectors.count_nonzero() == 0


def test_temperatures_come_from_the_trajectories(make_source, make_store):
    path = make_store("cold", temperature_k=250.0)
    source, model = make_source(data={"store": str(path)}, model={"has_temperature": True})
    drawn = source.draw(N_PAIRS, step=0, part=slice(2, 5))
    assert drawn.temperature_k.tolist() == [250.0] * 3
    assert batch_loss(model, drawn, sigma=0.0).isfinite()


def test_a_missing_temperature_is_refused(make_source, make_store):
    path = make_store("unknown", temperature_k=None)
    with pytest.raises(ValueError, match="has_temperature: expected a temperature for every"):
        make_source(data={"store": str(path)}, model={"has_temperature": True})


def test_every_rank_has_a_share_and_shares_are_even():
    for n_pairs, n_ranks in ((7, 3), (8, 8), (64, 5)):
        parts = [pair_range(n_pairs, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n_pairs))
        lengths = {part.stop - part.start for part in parts}
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("coupling", ["none", "r", "pr"])
@pytest.mark.parametrize("part", [None, slice(2, 5)])
def test_positions_on_the_device_give_the_same_batches_bitwise(make_source, part, coupling):
    model = {"has_temperature": True}
    mapped, _ = make_source(data={"on_device": False, "coupling": coupling}, model=model)
    held, _ = make_source(data={"on_device": True, "coupling": coupling}, model=model)
    assert mapped._on_device is None
    assert held._on_device is not None
    for step in range(3):
        expected = mapped.draw(N_PAIRS, step=step, part=part)
        found = held.draw(N_PAIRS, step=step, part=part)
        for name in (*PER_ATOM, *PER_PAIR, "temperature_k"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert found.batch.sizes == expected.batch.sizes
        assert torch.equal(found.batch.bond_index, expected.batch.bond_index)
        assert found.share == expected.share


def test_auto_leaves_positions_in_the_map_on_a_cpu_and_validation_always(make_source):
    assert make_source(data={"on_device": "auto"})[0]._on_device is None
    assert make_source(data={"on_device": True}, use=VALIDATION_USE)[0]._on_device is None


def test_positions_that_do_not_fit_stay_in_the_map_or_are_refused(make_source, monkeypatch):
    sampler = make_source()[0]._sampler
    cuda = torch.device("cuda")
    for free, fits in ((4 * sampler.n_bytes, True), (4 * sampler.n_bytes - 4, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, free))
        assert _lies_on_device("auto", sampler, cuda) == fits
        assert _lies_on_device(True, sampler, cuda)
        assert not _lies_on_device(False, sampler, cuda)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10, 10))
    with pytest.raises(ValueError, match=r"data.on_device: expected at most 0.0 GB of positions"):
        _lies_on_device(True, sampler, cuda)


@pytest.mark.gpu
def test_drawing_on_a_gpu_gives_the_pairs_of_the_cpu_and_reads_nothing_back(make_source):
    expected = make_source(data={"on_device": False})[0].draw(N_PAIRS, step=3)
    source, _ = make_source(device="cuda", data={"on_device": True})
    source.draw(N_PAIRS, step=2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = source.draw(N_PAIRS, step=3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name in PER_ATOM + PER_PAIR:
        torch.testing.assert_close(
            getattr(found, name).cpu(), getattr(expected, name), rtol=1e-5, atol=1e-5, msg=name
        )
