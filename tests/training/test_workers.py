import sys

import pytest
import torch
from torch import nn

from tito_fast.data.pairs import PairSampler
from tito_fast.data.store import open_store
from tito_fast.errors import ProcessLostError
from tito_fast.models.tito.config import ModelInfo
from tito_fast.models.tito.model import TitoModel
from tito_fast.training.batches import TRAIN_USE, BatchSource, batch_loss
from tito_fast.training.workers import Workers, start_workers


class TwinFabric:
    """Reduces as if another process had exactly the same values."""

    def all_reduce(self, values, *, reduce_op):
        assert reduce_op == "sum"
        return 2 * values


def test_one_process_needs_nothing_and_sums_nothing(make_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    workers = start_workers(make_config())
    assert (workers.rank, workers.n_ranks, workers.is_writer) == (0, 1, True)
    values = torch.ones(2)
    assert workers.sum(values) is values


def test_auto_is_one_process_on_a_cpu(make_config):
    assert start_workers(make_config(devices="auto")).n_ranks == 1


def test_gradients_are_summed_and_missing_ones_stay_missing():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].weight.grad = torch.arange(6.0).view(3, 2)
    network[1].bias.grad = torch.tensor([5.0])
    cpu = torch.device("cpu")
    Workers(rank=0, n_ranks=2, device=cpu, fabric=TwinFabric()).sum_gradients(network)
    assert torch.equal(network[0].weight.grad, 2 * torch.arange(6.0).view(3, 2))
    assert network[1].bias.grad.tolist() == [10.0]
    assert network[0].bias.grad is None
    assert network[1].weight.grad is None


def test_no_parameter_is_left_out_of_the_reduction(make_config):
    config = make_config()
    store = open_store(config.data.store)
    sampler = PairSampler(store, split="train", max_lag_ps=10.0)
    model = TitoModel.create(config.model, ModelInfo(length_unit_nm=0.2), seed=0)
    source = BatchSource(store, sampler, model, config=config, use=TRAIN_USE)
    batch_loss(model, source.draw(4, step=0), sigma=config.flow_sigma).backward()
    alone = {name: p.grad for name, p in model.network.named_parameters()}
    Workers(rank=0, n_ranks=2, device=torch.device("cpu"), fabric=TwinFabric()).sum_gradients(
        model.network
    )
    for name, parameter in model.network.named_parameters():
        if alone[name] is None:
            # The released network computes values that nothing reads; no process has a gradient for these.
            assert parameter.grad is None, name
        else:
            assert torch.equal(parameter.grad, 2 * alone[name]), name
    assert sum(gradient is not None for gradient in alone.values()) > 0.8 * len(alone)


class BrokenFabric:
    """Has lost its peers."""

    def all_reduce(self, *_, **__):
        raise RuntimeError("Connection closed by peer")

    barrier = all_reduce


def test_a_broken_connection_is_told_as_a_lost_process():
    cpu = torch.device("cpu")
    lost = Workers(
        rank=1, n_ranks=3, device=cpu, fabric=BrokenFabric(), lost=lambda: "process 2 was killed"
    )
    message = r"devices: process 2 was killed before training was done \(this is process 1 of 3\)"
    with pytest.raises(ProcessLostError, match=message):
        lost.sum(torch.ones(1))
    unknown = Workers(rank=1, n_ranks=3, device=cpu, fabric=BrokenFabric())
    with pytest.raises(ProcessLostError, match="devices: another process ended before training"):
        unknown.sum(torch.ones(1))


def test_a_missing_lightning_fabric_is_told_with_its_extra(make_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(ImportError, match=r"devices: 2 devices need .*install tito_fast\[train\]"):
        start_workers(make_config(devices=2))


def test_every_process_needs_a_pair(make_config):
    with pytest.raises(ValueError, match="batch_size: expected at least one pair for each of 10"):
        start_workers(make_config(devices=5, n_nodes=2))


def test_processes_that_the_config_does_not_know_of_are_refused(make_config, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"devices: expected devices x n_nodes = 4, .* got 1"):
        start_workers(make_config())
