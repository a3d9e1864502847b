"""Training with the Triton backend, whose steps run at fixed addresses; on a GPU as captured graphs."""

import csv

import pytest
import torch

from tito_fast.training import loop
from tito_fast.training.config import TrainingConfig
from tito_fast.training.loop import train


@pytest.fixture
def make_config(make_config, make_store, triton_device):
    """Return a function that gives the settings of a run which the interpreter ends in seconds."""
    store = make_store("tiny", sizes=(2, 3), splits=("train",))

    def make(out, **settings) -> TrainingConfig:
        values = {
            "out": str(store.parent / out),
            "device": triton_device.type,
            "backend": "triton",
            "batch_size": 2,
            "n_steps": 2,
            "checkpoint_every": 100,
            "data": {"store": str(store), "validation_split": ""},
            "model": {"n_features": 32},
        }
        return make_config(**(values | settings))

    return make


def read_losses(config):
    with open(f"{config.out}/log.csv", newline="") as file:  # noqa: PTH123
        return [
            (float(row["train_loss"]), float(row["gradient_norm"])) for row in csv.DictReader(file)
        ]


def test_planned_steps_train_as_plain_ones(make_config, monkeypatch):
    planned, plain = make_config("planned"), make_config("plain")
    train(planned)
    monkeypatch.setattr(loop, "plans_problem", lambda _: "not wanted here")
    train(plain)
    for one, other in zip(read_losses(planned), read_losses(plain), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_planned_run_that_goes_on_equals_one_in_one_piece(make_config):
    constant = {"schedule": "constant"}
    whole = make_config("whole", optimizer=constant)
    train(whole)
    train(make_config("pieces", n_steps=1, optimizer=constant))
    pieces = make_config("pieces", optimizer=constant)
    train(pieces)
    one, other = (
        torch.load(f"{config.out}/state.pt", weights_only=True) for config in (whole, pieces)
    )
    assert read_losses(whole)[1:] == read_losses(pieces)[1:]
    for name, weight in one["network"].items():
        assert torch.equal(weight, other["network"][name]), name


def test_a_planned_run_goes_on_with_another_backend(make_config):
    first = make_config("run", n_steps=1)
    train(first)
    path = f"{first.out}/state.pt"
    state = torch.load(path, weights_only=True)
    for group in state["optimizer"]["param_groups"]:
        # As it is on a GPU.
        group |= {"capturable": True, "lr": torch.tensor(1e-3)}
    torch.save(state, path)
    assert train(make_config("run", backend="eager", device="cpu")).step == 2
