import contextlib
import csv
import math
import os
import signal

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tito_fast.errors import NonFiniteError
from tito_fast.models.load import load_model, save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.training import loop
from tito_fast.training.loop import train


def read_log(config):
    with open(f"{config.out}/log.csv", newline="") as file:  # noqa: PTH123
        return list(csv.DictReader(file))


def losses(config):
    names = ("step", "train_loss", "validation_loss", "learning_rate", "gradient_norm")
    return [[line[name] for name in names] for line in read_log(config)]


def read_state(config):
    return torch.load(f"{config.out}/state.pt", weights_only=True)


def same_tree(one, other):
    """Tell whether two states are equal bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_tree(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_tree, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def assert_same_run(one, other):
    assert losses(one) == losses(other)
    assert same_tree(read_state(one), read_state(other))


def test_training_lowers_the_loss_on_the_validation_pairs(make_config):
    config = make_config(
        n_steps=80,
        batch_size=8,
        validate_every=10,
        n_validation_pairs=64,
        optimizer={"learning_rate": 5e-3, "ema_decay": 0.9},
    )
    result = train(config)
    first = float(read_log(config)[9]["validation_loss"])
    assert result.best_validation_loss < 0.75 * first
    assert result.step == 80


def test_the_same_seed_gives_the_same_losses_bitwise_and_another_does_not(make_config, tmp_path):
    one, two, other = (
        make_config(out=str(tmp_path / name), seed=seed)
        for name, seed in (("one", 0), ("two", 0), ("other", 1))
    )
    for config in (one, two, other):
        train(config)
    assert_same_run(one, two)
    assert losses(one) != losses(other)


def test_a_run_that_is_prolonged_equals_one_in_one_piece(make_config, tmp_path):
    constant = {"schedule": "constant"}
    whole = make_config(optimizer=constant)
    train(whole)
    out = str(tmp_path / "pieces")
    train(make_config(out=out, n_steps=4, validate_every=100, optimizer=constant))
    pieces = make_config(out=out, optimizer=constant)
    train(pieces)
    assert same_tree(read_state(whole)["network"], read_state(pieces)["network"])
    assert same_tree(read_state(whole)["average"], read_state(pieces)["average"])


def test_a_finished_run_is_left_as_it_is(make_config):
    config = make_config()
    first = train(config)
    log, state = losses(config), read_state(config)
    assert train(config) == first
    assert losses(config) == log
    assert same_tree(read_state(config), state)


def test_models_hold_the_averaged_weights_and_the_facts_of_the_data(make_config):
    config = make_config(optimizer={"learning_rate": 1e-2, "ema_decay": 0.9})
    result = train(config)
    model, state = load_model(result.model_path), read_state(config)
    average = {n.removeprefix("weights."): w for n, w in state["average"].items()}
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, average[name])
    assert not torch.equal(
        average["velocity.readout.v.weight"], state["network"]["velocity.readout.v.weight"]
    )
    assert model.config == config.model.network
    info = model.info
    assert info.elements is not None
    assert set(info.elements) <= {1, 6, 7, 8, 9}
    assert info.bond_types[0] == 0
    assert (info.coupling, info.min_lag_ps, info.temperature_k) == ("r", 1.0, 300.0)
    assert info.training_set == "store"
    assert len(info.training_set_hash) == 64
    assert 0.05 < info.length_unit_nm < 0.4


def test_best_is_the_model_with_the_lowest_validation_loss(make_config, monkeypatch):
    found = iter([3.0, 1.0, 2.0])
    sums = {}
    true_loss = loop.batch_loss

    def batch_loss(model, drawn, **options):
        loss = true_loss(model, drawn, **options)
        if torch.is_grad_enabled() or model.network is sums.get("training"):
            sums["training"] = model.network
            return loss
        sums.setdefault("weights", []).append(
            {n: w.clone() for n, w in model.network.state_dict().items()}
        )
        return torch.full_like(loss, next(found))

    monkeypatch.setattr(loop, "batch_loss", batch_loss)
    config = make_config(validate_every=2, n_validation_pairs=4)
    result = train(config)
    assert (result.best_validation_loss, result.validation_loss) == (1.0, 2.0)
    best = load_model(f"{config.out}/best.safetensors").network.state_dict()
    assert same_tree(dict(best), sums["weights"][1])


def test_without_a_validation_split_there_is_no_best_model(make_config, tmp_path):
    result = train(make_config(data={"validation_split": ""}))
    assert result.validation_loss is None
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert result.model_path.is_file()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp64"])
def test_every_precision_trains_to_about_the_same_loss(make_config, precision):
    exact = train(make_config(precision="fp64")).train_loss
    found = train(make_config(precision=precision), overwrite=True).train_loss
    assert found == pytest.approx(exact, rel=2e-2 if precision == "bf16" else 1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"has_temperature": True}},
        {"model": {"vector_start": "zeros"}},
        {"model": {"n_reduced_features": 4}},
        {"model": {"scaled_cutoff": 1.5}},
        {"data": {"coupling": "none", "lag_law": "fixed"}},
        {"data": {"lag_law": "log_uniform"}, "optimizer": {"weight_decay": 0.1}},
        {"optimizer": {"gradient_clip": 0.0, "ema_decay": 0.0, "n_warmup_steps": 0}},
    ],
    ids=str,
)
def test_variants_train(make_config, settings):
    result = train(make_config(n_steps=3, **settings))
    assert math.isfinite(result.train_loss)
    assert math.isfinite(result.validation_loss)


def test_progress_is_told_of_every_step(make_config):
    seen = []
    train(make_config(), on_step=seen.append)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[1].validation_loss is None
    assert seen[2].validation_loss == seen[3].validation_loss
    assert all(progress.samples_per_s > 0 for progress in seen)
    assert seen[-1].remaining_s == 0
    assert seen[0].remaining_s > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_its_state_and_goes_on_exactly(make_config, tmp_path, number):
    whole, stopped = make_config(), make_config(out=str(tmp_path / "stopped"))
    train(whole)
    before = signal.getsignal(number)

    def interrupt(progress):
        if progress.step == 1:
            os.kill(os.getpid(), number)

    with pytest.raises(
        KeyboardInterrupt, match=r"after step 2 of 6; the state is saved in .* same command again"
    ):
        train(stopped, on_step=interrupt)
    assert signal.getsignal(number) is before
    assert read_state(stopped)["step"] == 2
    train(stopped)
    assert_same_run(whole, stopped)


def test_a_second_interrupt_stops_at_once(make_config):
    def interrupt(progress):
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    config = make_config()
    with pytest.raises(KeyboardInterrupt):
        train(config, on_step=interrupt)
    assert read_state(config)["step"] == 3


def test_a_diverging_run_stops_keeps_its_state_and_goes_on_at_a_lower_rate(make_config, tmp_path):
    def config(out, rate, n_steps):
        optimizer = {"learning_rate": rate, "schedule": "constant", "n_warmup_steps": 0}
        return make_config(
            out=str(tmp_path / out), n_steps=n_steps, validate_every=100, optimizer=optimizer
        )

    for n_steps in (3, 6):
        train(config("whole", 1e-3, n_steps))
    train(config("broken", 1e-3, 3))
    model = (tmp_path / "broken" / "last.safetensors").read_bytes()
    with pytest.raises(
        NonFiniteError,
        match=r"training stopped at step 4: loss nan.*last good state, of step 3, is kept.*lower",
    ):
        train(config("broken", 1e30, 6))
    assert read_state(config("broken", 1e30, 6))["step"] == 3
    assert (tmp_path / "broken" / "last.safetensors").read_bytes() == model
    train(config("broken", 1e-3, 6))
    assert_same_run(config("whole", 1e-3, 6), config("broken", 1e-3, 6))


def test_a_state_whose_next_step_fails_is_not_saved(make_config, tmp_path):
    optimizer = {"learning_rate": 1e30, "n_warmup_steps": 0}
    with pytest.raises(
        NonFiniteError, match="stopped at step 1: the next loss is nan; nothing was"
    ):
        train(make_config(checkpoint_every=1, optimizer=optimizer))
    assert not (tmp_path / "run" / "state.pt").exists()


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(make_config, monkeypatch):
    true_loss, calls = loop.batch_loss, []

    def batch_loss(model, drawn, **options):
        loss = true_loss(model, drawn, **options)
        calls.append(torch.is_grad_enabled())
        if sum(calls) == 5:
            weight = next(model.network.parameters())
            # Zero, with a gradient of infinity.
            loss = loss + (weight - weight.detach()).abs().sqrt().sum()
        return loss

    monkeypatch.setattr(loop, "batch_loss", batch_loss)
    config = make_config()
    with pytest.raises(NonFiniteError, match=r"at step 4: loss \d.*, gradient norm (nan|inf)"):
        train(config)
    assert read_state(config)["step"] == 3


def test_a_validation_loss_that_is_not_finite_stops_the_run(make_config, monkeypatch):
    true_loss = loop.batch_loss

    def batch_loss(model, drawn, **options):
        loss = true_loss(model, drawn, **options)
        return loss if torch.is_grad_enabled() else loss * math.nan

    monkeypatch.setattr(loop, "batch_loss", batch_loss)
    with pytest.raises(NonFiniteError, match="at step 3: validation loss nan"):
        train(make_config())


def test_a_full_disk_stops_the_run_and_it_goes_on_from_the_last_state(
    make_config, tmp_path, file_size_limit
):
    whole, config = make_config(), make_config(out=str(tmp_path / "full"))
    train(whole)
    with contextlib.ExitStack() as stack:

        def fill(progress):
            if progress.step == 4:
                stack.enter_context(file_size_limit(4000))

        with pytest.raises(OSError, match=r"cannot be written: .*state, of step 3, is kept"):
            train(config, on_step=fill)
    assert read_state(config)["step"] == 3
    assert load_model(f"{config.out}/last.safetensors").config == config.model.network
    train(config)
    assert_same_run(whole, config)


def test_tensorboard_gets_what_the_log_has(make_config, tmp_path):
    config = make_config(tensorboard=True)
    train(config)
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    logged = {int(line["step"]): float(line["train_loss"]) for line in read_log(config)}
    found = {event.step: event.value for event in events.Scalars("train_loss")}
    assert found == pytest.approx(logged)
    assert [event.step for event in events.Scalars("validation_loss")] == [3, 6]


def test_a_missing_tensorboard_is_told_with_its_extra(make_config, monkeypatch, tmp_path):
    monkeypatch.setattr("tito_fast.training.event_log.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"tensorboard: .*install tito_fast\[train\]"):
        train(make_config(tensorboard=True))
    assert not (tmp_path / "run").exists()


def test_fine_tuning_starts_from_the_weights_and_facts_of_a_model(make_config, tmp_path):
    info = ModelInfo(length_unit_nm=0.3, elements=(6, 17), bond_types=(0, 1), formal_charges=(1,))
    config = make_config(n_steps=1, init_from=str(tmp_path / "start.safetensors"))
    start = TitoModel.create(config.model.network, info, seed=9)
    save_model(start, config.init_from)
    tiny = make_config(n_steps=1, init_from=config.init_from, optimizer={"learning_rate": 1e-12})
    model = load_model(train(tiny).model_path)
    for name, weight in model.network.state_dict().items():
        torch.testing.assert_close(weight, start.network.state_dict()[name], rtol=0, atol=1e-7)
    assert model.info.length_unit_nm == 0.3
    assert {6, 17} <= set(model.info.elements)
    assert {0, 1} <= set(model.info.bond_types)
    assert {0, 1} <= set(model.info.formal_charges)
    assert model.info.description == "fine-tuned from start.safetensors"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"n_features": 10}}, "model.n_features: expected 8, as .* has it, got 10"),
        ({"data": {"length_unit_nm": 0.2}}, "data.length_unit_nm: expected 0.3 nm, .* got 0.2 nm"),
    ],
)
def test_fine_tuning_another_model_is_refused(make_config, tmp_path, settings, message):
    path = str(tmp_path / "start.safetensors")
    model = TitoModel.create(make_config().model.network, ModelInfo(length_unit_nm=0.3), seed=0)
    save_model(model, path)
    with pytest.raises(ValueError, match=message):
        train(make_config(init_from=path, **settings))


def test_a_missing_start_is_refused(make_config, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"init_from: .*none.safetensors.*tito-fast convert"
    ):
        train(make_config(init_from=str(tmp_path / "none.safetensors")))


@pytest.mark.parametrize("coupling", ["p", "pr", "rp"])
def test_coupling_by_permutation_warns(make_config, coupling):
    with pytest.warns(UserWarning, match=f"data.coupling: {coupling} permutes base atoms"):
        train(make_config(n_steps=1, data={"coupling": coupling}))


def test_one_embedding_layer_warns(make_config):
    with pytest.warns(UserWarning, match="n_embedding_layers: with 1 .* mirror images"):
        train(make_config(n_steps=1, model={"n_embedding_layers": 1}))


def test_a_largest_lag_below_the_frame_interval_warns(make_config):
    with pytest.warns(UserWarning, match="max_lag_ps: 0.5 ps is shorter than the frame interval"):
        train(make_config(n_steps=1, model={"max_lag_ps": 0.5}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out": ""}, "out: expected a directory, got none"),
        ({"data": {"store": ""}}, "data.store: expected a directory, got none"),
        ({"data": {"store": "/nowhere"}}, "store: expected a directory with manifest.json"),
        ({"data": {"train_split": "x"}}, "data.train_split: expected one of train, val, got 'x'$"),
        ({"data": {"validation_split": "x"}}, "got 'x'; set it to \"\" to train without"),
        ({"model": {"max_lag_ps": 99.0}}, "max_lag_ps: expected at most 39 ps"),
        ({"device": "tpu"}, "device: expected auto, cpu, cuda or cuda:i, got 'tpu'"),
    ],
)
def test_bad_settings_leave_an_earlier_run_alone(make_config, tmp_path, settings, message):
    train(make_config(n_steps=1))
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "run").iterdir())
    with pytest.raises(ValueError, match=message):
        train(make_config(**settings), overwrite=True)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "run").iterdir()) == before


def test_other_data_under_the_same_settings_are_refused(make_config, make_store):
    train(make_config(n_steps=3))
    other = make_store("other", sizes=(3, 4))
    with pytest.raises(ValueError, match=r"data.store: expected the data that the run in .*hash"):
        train(make_config(data={"store": str(other)}))


def test_a_state_of_another_network_is_refused(make_config, tmp_path):
    config = make_config(n_steps=3)
    train(config)
    state = read_state(config)
    model = TitoModel.create(TitoConfig(n_features=4), ModelInfo(length_unit_nm=1.0), seed=0)
    torch.save({**state, "network": model.network.state_dict()}, tmp_path / "run" / "state.pt")
    with pytest.raises(ValueError, match=r"expected the state of the model in its config.yaml"):
        train(config)


def test_backends_train_alike_and_one_that_cannot_run_leaves_a_run_alone(make_config, tmp_path):
    results = [
        train(make_config(out=str(tmp_path / name), precision="fp64", backend=name))
        for name in ("reference", "eager", "native")
    ]
    for result in results[1:]:
        assert result.train_loss == pytest.approx(results[0].train_loss, rel=1e-6)
    before = (tmp_path / "native" / "config.yaml").read_bytes()
    with pytest.raises(RuntimeError, match="triton"):
        train(make_config(out=str(tmp_path / "native"), precision="fp64", backend="triton"))
    assert (tmp_path / "native" / "config.yaml").read_bytes() == before


def test_positions_on_the_device_change_no_bit_of_a_run(make_config, tmp_path):
    mapped = make_config(out=str(tmp_path / "mapped"), data={"on_device": False})
    held = make_config(out=str(tmp_path / "held"), data={"on_device": True})
    train(mapped)
    train(held)
    assert_same_run(mapped, held)
