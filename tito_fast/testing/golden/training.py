"""Replay of ``tito-golden-train-1``: the flow-matching loss, its gradients, and a few Adam steps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from tito_fast.flows import interpolate
from tito_fast.models.released_names import to_ours
from tito_fast.models.tito.model import TitoModel, check_model_backend
from tito_fast.testing.golden.comparison import (
    Line,
    Quantity,
    compare,
    compare_exactly,
    not_computed,
    relative_error,
    worst,
)
from tito_fast.testing.golden.recording import (
    DTYPES,
    ReplaySettings,
    Section,
    per_molecule,
    read_batch,
    read_model,
    read_temperature,
    read_vectors,
    recorded_dtypes,
)
from tito_fast.training.batches import TrainingBatch, batch_loss
from tito_fast.training.config import OptimizerConfig
from tito_fast.training.optimization import make_optimizer

_Value = TypeVar("_Value")

_TRAINED = re.compile(r"params_after_(\d+)_adam_steps")
_RELEASED_SIGMA = 0.001
_RELEASED_LEARNING_RATE = 1e-3


@dataclass
class _Run:
    """What the optimizer steps left behind."""

    losses: list[Tensor] = field(default_factory=list)
    gradients: dict[str, Tensor | None] = field(default_factory=dict)  # at the first step
    weights: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # by number of steps


def replay_training(recording: Section, settings: ReplaySettings) -> list[Line]:
    """Return the verdicts on a recording."""
    check_model_backend(settings.backend)
    lines = []
    for dtype in recorded_dtypes(recording, settings.dtypes):
        model = read_model(recording, dtype=dtype, device=settings.device)
        drawn = _read_drawn(recording, model, dtype=dtype, device=settings.device)
        lines += _lines(recording, model, drawn, dtype=dtype, settings=settings)
    return lines


def _read_drawn(
    recording: Section, model: TitoModel, *, dtype: str, device: torch.device
) -> TrainingBatch:
    inputs = recording.section("inputs")
    batch = read_batch(inputs)
    n_atoms, n_molecules = batch.n_atoms, batch.n_molecules

    def cast(values: Tensor) -> Tensor:
        return values.to(device, DTYPES[dtype])

    temperature_k = read_temperature(inputs, model, n_molecules)
    return TrainingBatch(
        batch=batch.to(device),
        scaled_current=cast(inputs.tensor("x_cond", n_atoms, 3)),
        x_0=cast(inputs.tensor("x_base", n_atoms, 3)),
        x_1=cast(inputs.tensor("x_target", n_atoms, 3)),
        flow_time=cast(per_molecule(inputs, "t", n_molecules)),
        lag_time_ps=cast(per_molecule(inputs, "lag", n_molecules)),
        temperature_k=None if temperature_k is None else cast(temperature_k),
        epsilon=cast(recording.tensor("epsilon", n_atoms, 3)),
        vectors=cast(read_vectors(recording, n_atoms, model.config.n_features, 3)),
        share=1.0,
    )


def _lines(
    recording: Section,
    model: TitoModel,
    drawn: TrainingBatch,
    *,
    dtype: str,
    settings: ReplaySettings,
) -> list[Line]:
    section = recording.section(dtype)
    sigma = recording.number("sigma", _RELEASED_SIGMA)
    run = _train(
        model,
        drawn,
        n_steps=_n_steps(section),
        sigma=sigma,
        learning_rate=recording.number("lr", _RELEASED_LEARNING_RATE),
        settings=settings,
    )
    lines = []
    for name in section:
        if name == "loss":
            loss = section.tensor(name).reshape(())
            lines.append(compare(name, run.losses[0], loss, dtype=dtype, quantity=Quantity.LOSS))
        elif name == "x_t":
            x_t = interpolate(
                drawn.x_0,
                drawn.x_1,
                drawn.flow_time,
                drawn.epsilon,
                batch_ptr=drawn.batch.batch_ptr,
                sigma=sigma,
            )
            recorded = section.tensor(name)
            lines.append(compare(name, x_t, recorded, dtype=dtype, quantity=Quantity.INTERMEDIATE))
        elif name == "adam_loss_curve":
            recorded = section.tensor(name, "n_steps")
            losses = torch.stack(run.losses)[: recorded.shape[0]]
            lines.append(compare(name, losses, recorded, dtype=dtype, quantity=Quantity.LOSS_CURVE))
        elif _TRAINED.fullmatch(name):
            lines.append(_trained_line(section, name, run, dtype=dtype))
        else:
            lines.append(_gradient_line(section, name, run.gradients, dtype=dtype))
    return lines


def _n_steps(section: Section) -> int:
    """Return how many losses are needed: before the first step, and before or after each recorded one."""
    n_losses = (
        section.tensor("adam_loss_curve", "n_steps").shape[0] if "adam_loss_curve" in section else 0
    )
    n_trained = [int(found[1]) for found in map(_TRAINED.fullmatch, section) if found]
    return max(1, n_losses, *n_trained)


def _train(
    model: TitoModel,
    drawn: TrainingBatch,
    *,
    n_steps: int,
    sigma: float,
    learning_rate: float,
    settings: ReplaySettings,
) -> _Run:
    """Take ``n_steps`` steps on the same batch and noise, through the loss and optimizer of training."""
    config = OptimizerConfig(learning_rate=learning_rate)
    optimizer = make_optimizer(config, model.network.parameters())
    run = _Run()
    for step in range(n_steps):
        optimizer.zero_grad()
        loss = batch_loss(model, drawn, sigma=sigma, backend=settings.backend)
        loss.backward()  # type: ignore[no-untyped-call]
        run.losses.append(loss.detach())
        if step == 0:
            run.gradients = _gradients(model.network)
        optimizer.step()
        run.weights[step + 1] = {
            name: weight.detach().clone() for name, weight in model.network.named_parameters()
        }
    return run


def _gradients(network: nn.Module) -> dict[str, Tensor | None]:
    return {
        name: None if parameter.grad is None else parameter.grad.detach().clone()
        for name, parameter in network.named_parameters()
    }


def _gradient_line(
    section: Section, name: str, gradients: dict[str, Tensor | None], *, dtype: str
) -> Line:
    if name == "grad_norm":
        return _grad_norm_line(section.section(name), gradients, dtype=dtype)
    if name == "grads":
        return _grads_line(section.tensors(name), gradients, dtype=dtype)
    if name == "total_grad_norm":
        squares = sum(_norm(gradient) ** 2 for gradient in gradients.values())
        total = torch.tensor(squares**0.5, dtype=torch.float64)
        recorded = torch.tensor(section.number(name), dtype=torch.float64)
        return compare(name, total, recorded, dtype=dtype, quantity=Quantity.GRADIENT)
    if name in ("no_grad_params", "zero_grad_params"):
        ours = [to_ours(str(released)) for released in section.raw(name)]
        n_different = sum(_norm(gradients.get(n)) > 0 for n in ours if n is not None)
        return compare_exactly(name, n_different, dtype=dtype, note="have a gradient here")
    return not_computed(name, dtype=dtype)


def _grad_norm_line(norms: Section, gradients: dict[str, Tensor | None], *, dtype: str) -> Line:
    """Compare each norm with its own recorded one; none at all (−1) and zero are the same."""
    errors: dict[str, float] = {}
    n_skipped = 0
    for released in norms:
        recorded = max(norms.number(released), 0.0)
        name = to_ours(released)
        if name is None and recorded == 0:
            n_skipped += 1
            continue
        computed = _norm(None if name is None else _of(gradients, name, released))
        # Where nothing was recorded nothing may come out, however small.
        errors[released] = (
            abs(computed - recorded) / recorded if recorded else (float("inf") if computed else 0.0)
        )
    return worst("grad_norm", errors, dtype=dtype, quantity=Quantity.GRADIENT, n_skipped=n_skipped)


def _grads_line(
    recorded: dict[str, Tensor], gradients: dict[str, Tensor | None], *, dtype: str
) -> Line:
    errors = {}
    n_skipped = 0
    for released, gradient in recorded.items():
        name = to_ours(released)
        if name is None:
            n_skipped += 1
            continue
        ours = _of(gradients, name, released)
        errors[released] = relative_error(
            torch.zeros_like(gradient) if ours is None else ours, gradient
        )
    return worst("grads", errors, dtype=dtype, quantity=Quantity.GRADIENT, n_skipped=n_skipped)


def _trained_line(section: Section, name: str, run: _Run, *, dtype: str) -> Line:
    found = _TRAINED.fullmatch(name)
    weights = run.weights[int(found[1])] if found else {}
    errors = {}
    n_skipped = 0
    for released, recorded in section.tensors(name).items():
        ours = to_ours(released)
        if ours is None:
            n_skipped += 1
            continue
        errors[released] = relative_error(_of(weights, ours, released), recorded)
    return worst(
        name, errors, dtype=dtype, quantity=Quantity.TRAINED_PARAMETERS, n_skipped=n_skipped
    )


def _of(values: Mapping[str, _Value], name: str, released: str) -> _Value:
    if name not in values:
        raise ValueError(
            f"{released}: expected a parameter of the recorded network, got none of this name"
        )
    return values[name]


def _norm(gradient: Tensor | None) -> float:
    if gradient is None:
        return 0.0
    return float(torch.linalg.vector_norm(gradient.to(torch.float64)))
