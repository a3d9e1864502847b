"""Training of equilibrium flows: frames, loss, resuming."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tito_fast.data.store import open_store
from tito_fast.flows.flow_matching import flow_matching_loss, molecule_mean_loss
from tito_fast.models.equilibrium import equilibrium_field, load_equilibrium_model
from tito_fast.models.tbg.checkpoint import read_tbg_checkpoint, tbg_model_hash
from tito_fast.models.tbg.config import TbgConfig
from tito_fast.training import equilibrium
from tito_fast.training.config import OptimizerConfig
from tito_fast.training.equilibrium import EquilibriumConfig, train_equilibrium
from tito_fast.training.equilibrium_batches import FrameSampler, draw_batch, equilibrium_loss
from tito_fast.training.loop import train

SMALL = TbgConfig(encoding="element", n_features=8, n_layers=2, elements=(1, 6, 7, 8, 9, 16))


@pytest.fixture
def config(store_path, tmp_path):
    return EquilibriumConfig(
        store=str(store_path),
        out=str(tmp_path / "run"),
        model=SMALL,
        n_steps=6,
        batch_size=5,
        device="cpu",
        log_every=2,
        checkpoint_every=3,
        n_validation_frames=4,
        length_unit_nm=0.1,
    )


def test_frames_are_those_of_the_split_and_all_molecules_are_as_likely(store_path):
    store = open_store(store_path)
    sampler = FrameSampler(store, "train")
    molecules, positions = sampler.draw(600, np.random.default_rng(0))
    ptr = np.cumsum([0, *(molecule.n_atoms for molecule in molecules)])
    assert positions.shape == (ptr[-1], 3)
    known = {}
    for index in store.split_indices("train").tolist():
        row = store.trajectories[index]
        molecule = store.molecules[row.molecule_idx]
        known[molecule.name] = {f.tobytes() for f in store.trajectory_positions(index)}
    counts = dict.fromkeys(known, 0)
    for molecule, start, end in zip(molecules, ptr[:-1], ptr[1:], strict=True):
        assert positions[start:end].numpy().tobytes() in known[molecule.name]
        counts[molecule.name] += 1
    expected = 600 / len(counts)
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in counts.values())
    with pytest.raises(ValueError, match="split: expected one of train, val, got 'other'"):
        FrameSampler(store, "other")


def test_all_frames_of_several_trajectories_are_drawn(make_store):
    store = open_store(make_store("twice", sizes=(3,), splits=("train", "val", "train")))
    rows = store.split_indices("train").tolist()
    frames = [frame.tobytes() for index in rows for frame in store.trajectory_positions(index)]
    _, positions = FrameSampler(store, "train").draw(40 * len(frames), np.random.default_rng(1))
    drawn = {part.numpy().tobytes() for part in positions.view(-1, 3, 3)}
    assert len(rows) == 2
    assert drawn == set(frames)


def test_every_molecule_weighs_the_same_in_the_loss():
    generator = torch.Generator().manual_seed(0)
    velocity, x_0, x_1 = torch.randn(3, 9, 3, generator=generator).unbind(0)
    ptr = torch.tensor([0, 2, 9])
    parts = [(velocity - (x_1 - x_0))[start:end].square().mean() for start, end in ((0, 2), (2, 9))]
    found = molecule_mean_loss(velocity, x_0, x_1, batch_ptr=ptr)
    torch.testing.assert_close(found, (parts[0] + parts[1]) / 2)
    single = molecule_mean_loss(velocity, x_0, x_1, batch_ptr=torch.tensor([0, 9]))
    torch.testing.assert_close(3 * single, flow_matching_loss(velocity, x_0, x_1))


def test_a_batch_follows_from_its_step_and_is_mean_free(store_path):
    store = open_store(store_path)
    sampler, model = (
        FrameSampler(store, "train"),
        equilibrium.TbgModel.create(
            SMALL, equilibrium.ModelInfo(length_unit_nm=0.1, coupling="none"), seed=0
        ),
    )
    first = draw_batch(sampler, model, 6, seed=1, use=0, step=3)
    again = draw_batch(sampler, model, 6, seed=1, use=0, step=3)
    other = draw_batch(sampler, model, 6, seed=1, use=0, step=4)
    for name in ("x_0", "x_1", "epsilon", "flow_time"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.flow_time, other.flow_time)
    for values in (first.x_0, first.x_1):
        for start, end in zip(first.batch_ptr[:-1], first.batch_ptr[1:], strict=True):
            assert values[start:end].mean(dim=0).abs().max() < 1e-5
    assert 0.7 < first.x_0.std() < 1.3


def test_training_learns_and_leaves_a_model(config):
    told = []
    config = replace(
        config,
        n_steps=40,
        batch_size=16,
        log_every=20,
        optimizer=OptimizerConfig(learning_rate=1e-2, n_warmup_steps=0, ema_decay=0.9),
    )
    model = train_equilibrium(config, on_log=told.append)
    assert [progress.step for progress in told] == [20, 40]
    store = open_store(config.store)
    drawn = draw_batch(FrameSampler(store, "train"), model, 300, seed=9, use=0, step=0)
    fresh = equilibrium.TbgModel.create(SMALL, model.info, seed=config.seed)
    with torch.no_grad():
        before, after = (
            float(equilibrium_loss(each, drawn, sigma=0.01)) for each in (fresh, model)
        )
    assert after < 0.8 * before, (before, after)
    found = read_tbg_checkpoint(f"{config.out}/last.safetensors")
    assert tbg_model_hash(found) == tbg_model_hash(model)
    assert (found.info.coupling, found.info.flow_sigma, found.info.temperature_k) == (
        "none",
        0.01,
        300.0,
    )
    with Path(config.out, "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["20", "40"]


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(config, tmp_path, monkeypatch):
    whole = train_equilibrium(config)
    config = replace(config, out=str(tmp_path / "stopped"))
    steps = []

    class Stops(equilibrium.StopRequest):
        @property
        def is_set(self):
            steps.append(1)
            return len(steps) >= 4

        @is_set.setter
        def is_set(self, value):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(equilibrium, "StopRequest", Stops)
        with pytest.raises(KeyboardInterrupt, match="step 4 is saved in"):
            train_equilibrium(config)
    assert tbg_model_hash(train_equilibrium(config)) == tbg_model_hash(whole)
    steps = [
        line.partition(",")[0] for line in Path(config.out, "log.csv").read_text().splitlines()
    ]
    assert steps == ["step", "2", "4", "6"]
    with pytest.raises(ValueError, match="batch_size: expected 5, as the run in"):
        train_equilibrium(replace(config, batch_size=6))


def test_what_cannot_be_trained_is_refused(config, tmp_path):
    with pytest.raises(ValueError, match="atomic_numbers: expected those of the encoding"):
        train_equilibrium(replace(config, model=replace(SMALL, elements=(1,))))
    # Nothing was trained, so other settings are no contradiction.
    train_equilibrium(replace(config, n_steps=1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="out: expected an empty directory or a training run"):
        train_equilibrium(replace(config, out=str(tmp_path / "full")))
    with pytest.raises(ValueError, match="n_steps: expected at least 1"):
        replace(config, n_steps=0)
    with pytest.raises(ValueError, match="flow_sigma: expected zero or more"):
        replace(config, flow_sigma=-1.0)
    with pytest.raises(ValueError, match="seed: expected 0 to"):
        replace(config, seed=-1)
    optimizer = OptimizerConfig(learning_rate=1e30, n_warmup_steps=0, gradient_clip=0)
    with pytest.raises(equilibrium.NonFiniteError, match="expected finite values"):
        train_equilibrium(replace(config, out=str(tmp_path / "lost"), optimizer=optimizer))


def test_titos_network_without_a_condition_is_trained_by_the_other_trainer(make_config):
    shape = {
        "n_embedding_layers": 0,
        "is_conditional": False,
        "vector_start": "zeros",
        "max_lag_ps": 1.0,
    }
    result = train(make_config(n_steps=2, model=shape, data={"coupling": "none"}))
    model = load_equilibrium_model(result.model_path)
    assert (model.config.is_conditional, model.info.coupling) == (False, "none")
    store = open_store(make_config().data.store)
    field = equilibrium_field(model, store.molecules[:1])
    n_atoms = store.molecules[0].n_atoms
    velocity = field(torch.randn(n_atoms, 3), torch.tensor([0.5]))
    assert velocity.shape == (n_atoms, 3)
    assert velocity.mean(dim=0).abs().max() < 1e-5
