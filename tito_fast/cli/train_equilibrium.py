"""``tito-fast train-equilibrium``: train a Boltzmann generator with TBG's network on a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tito_fast.training.equilibrium import EquilibriumProgress


def train_equilibrium(
    store: Annotated[Path, typer.Argument(help="Directory of tito-fast data convert.")],
    out: Annotated[Path, typer.Option(help="Directory of the run.")],
    encoding: Annotated[
        str, typer.Option(help="What an atom is told apart by: element, backbone or full.")
    ] = "full",
    features: Annotated[int, typer.Option(help="Hidden width of the network.")] = 128,
    layers: Annotated[int, typer.Option(help="Layers of the network.")] = 9,
    elements: Annotated[
        str, typer.Option(help="Atomic numbers that element and backbone know.")
    ] = "1,6,7,8,16",
    steps: Annotated[int, typer.Option(help="Optimizer steps in all.")] = 10_000,
    batch_size: Annotated[int, typer.Option(help="Frames of each step.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, at its start.")] = 5e-4,
    ema_decay: Annotated[
        float, typer.Option(help="Of the average of the weights; 0 for none.")
    ] = 0.999,
    length_unit: Annotated[float, typer.Option(help="Nanometres in one model unit.")] = 1 / 30,
    train_split: Annotated[str, typer.Option(help="Split to learn from.")] = "train",
    validation_split: Annotated[
        str, typer.Option(help="Split to measure the loss on; empty for none.")
    ] = "val",
    log_every: Annotated[int, typer.Option(help="Steps between lines.")] = 100,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between saved states.")] = 1000,
    seed: Annotated[int, typer.Option(help="Weights, frames and noise follow from it.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
) -> None:
    """Train an equilibrium flow; the same command again goes on with a run that was stopped."""
    # Here, for torch takes seconds to import and --help should not.
    from tito_fast.models.tbg.config import TbgConfig  # noqa: PLC0415
    from tito_fast.training.config import OptimizerConfig  # noqa: PLC0415
    from tito_fast.training.equilibrium import MODEL, EquilibriumConfig  # noqa: PLC0415
    from tito_fast.training.equilibrium import train_equilibrium as train  # noqa: PLC0415

    config = EquilibriumConfig(
        store=str(store),
        out=str(out),
        model=TbgConfig.from_dict(
            {
                "encoding": encoding,
                "n_features": features,
                "n_layers": layers,
                "elements": _numbers(elements),
            }
        ),
        optimizer=OptimizerConfig(
            learning_rate=learning_rate, n_warmup_steps=0, ema_decay=ema_decay
        ),
        train_split=train_split,
        validation_split=validation_split,
        n_steps=steps,
        batch_size=batch_size,
        length_unit_nm=length_unit,
        seed=seed,
        device=device,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
    )
    train(config, on_log=_show)
    typer.echo(f"{out / MODEL}: {steps} steps")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"elements: expected atomic numbers such as 1,6,7,8, got {text!r}"
        ) from error


def _show(progress: "EquilibriumProgress") -> None:
    validation = progress.validation_loss
    parts = [f"step {progress.step} of {progress.n_steps}", f"loss {progress.train_loss:.5g}"]
    if validation is not None:
        parts.append(f"validation loss {validation:.5g}")
    typer.echo(", ".join([*parts, f"{progress.frames_per_s:.0f} frames/s"]), err=True)
