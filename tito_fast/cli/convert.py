"""``tito-fast convert``: a released checkpoint becomes a model file of ours."""

from pathlib import Path
from typing import Annotated, cast

import typer

from tito_fast.validation import check_choice


def convert(
    source: Annotated[Path, typer.Argument(help="Released Lightning checkpoint (.ckpt).")],
    destination: Annotated[Path, typer.Argument(help="File to write (.safetensors).")],
    units: Annotated[
        str,
        typer.Option(
            help="mdqm9 or timewarp (length unit and vocabulary), or the nm in one model unit."
        ),
    ],
    elements: Annotated[
        str | None,
        typer.Option(help="With units in nm: elements it was trained on, as H,C,N. Default: any."),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(help="Of a BoPITO checkpoint with both networks: dynamic or equilibrium."),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(help="Of a checkpoint of ITO or BoPITO: average (moving average) or last."),
    ] = "average",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace DESTINATION if it is there.")
    ] = False,
) -> None:
    """Convert a checkpoint of TITO's, ITO's or BoPITO's code to safetensors with all that is needed to use it."""
    # Here, for torch takes seconds to import and --help should not.
    from tito_fast.models.checkpoint import model_hash  # noqa: PLC0415
    from tito_fast.models.diffusion_checkpoint import PARTS, WEIGHTS, Part, Weights  # noqa: PLC0415
    from tito_fast.models.load import is_released_format, load_model, save_model  # noqa: PLC0415
    from tito_fast.models.tito.network import count_parameters  # noqa: PLC0415

    if destination.exists() and source.exists() and destination.samefile(source):
        raise ValueError(f"destination: expected another file than the source, got {destination}")
    if destination.exists() and not overwrite:
        raise ValueError(
            f"destination: expected a new file, got {destination}, which exists; add --overwrite"
        )
    if source.is_file() and not is_released_format(source):
        raise ValueError(
            f"source: expected a released checkpoint, got {source}, which needs no conversion"
        )
    check_choice("weights", weights, WEIGHTS)
    if part is not None:
        check_choice("part", part, PARTS)
    symbols = None if elements is None else [symbol.strip() for symbol in elements.split(",")]
    model = load_model(
        source,
        units=units,
        elements=symbols,
        part=cast("Part | None", part),
        weights=cast("Weights", weights),
    )
    save_model(model, destination)
    config, info = model.config, model.info
    typer.echo(
        f"{destination}: {count_parameters(model.network)} parameters, F = {config.n_features}, "
        f"{config.n_embedding_layers} + {config.n_model_layers} layers, "
        f"lags up to {config.max_lag_ps:g} ps, {info.length_unit_nm:g} nm per model unit, "
        f"elements {'any' if info.elements is None else ' '.join(map(str, info.elements))}"
    )
    typer.echo(f"sha256 of the model {model_hash(model)}")
