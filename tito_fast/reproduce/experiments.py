"""The experiments by name: run one, write its numbers and its figure, print its table."""

import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from tito_fast.data.writers.disk import replace_file
from tito_fast.reproduce.ala2_bopito import run_ala2_bopito
from tito_fast.reproduce.prinz import Say
from tito_fast.reproduce.prinz_bopito import run_prinz_bopito
from tito_fast.reproduce.prinz_data import run_prinz_data
from tito_fast.reproduce.prinz_interpolate import run_prinz_interpolate
from tito_fast.reproduce.scales import PRINZ_SCALES, SCALES, PrinzScale, Scale
from tito_fast.reproduce.scales_ala2 import ALA2_SCALES
from tito_fast.reproduce.tables import table_of
from tito_fast.validation import check_choice

Experiment = Literal["prinz-data", "prinz-bopito", "prinz-interpolate", "ala2-bopito"]
EXPERIMENTS: Final[tuple[Experiment, ...]] = get_args(Experiment)
RESULTS_VERSION: Final = 1
DEFAULT_SEEDS: Final = (0, 1, 2, 3, 4)

_DPI: Final = 150
_RUN: Final[dict[Experiment, Callable[[PrinzScale, Sequence[int], Say], dict[str, Any]]]] = {
    "prinz-bopito": run_prinz_bopito,
    "prinz-data": run_prinz_data,
    "prinz-interpolate": run_prinz_interpolate,
}


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What an experiment left.

    Parameters
    ----------
    numbers : dict
        As in the JSON file.
    numbers_path, figure_path : Path
    table : str
        A few lines for people.
    """

    numbers: dict[str, Any]
    numbers_path: Path
    figure_path: Path
    table: str


def reproduce(
    experiment: str,
    out: str | Path,
    *,
    scale: str = "default",
    seeds: Sequence[int] = DEFAULT_SEEDS,
    data: str | Path | None = None,
    say: Say | None = None,
) -> Reproduction:
    """Run a published experiment and write ``<experiment>.json`` and ``<experiment>.png`` into a folder.

    Parameters
    ----------
    experiment : "prinz-data" | "prinz-bopito" | "prinz-interpolate" | "ala2-bopito"
    out : path
        Made if it is not there; files of these names are replaced.
    scale : "quick" | "default" | "paper"
        Seconds, for tests; minutes on two cores; the published sizes, for days.
    seeds : sequence of int
        Zero or more, all different. Models of different seeds have data, starts and noise of their own.
    data : path or None
        Store with trajectories of alanine dipeptide, for ``ala2-bopito`` alone.
    say : callable or None
        Gets a sentence at each stage.

    Returns
    -------
    Reproduction

    Raises
    ------
    ValueError
        If the experiment or the scale is unknown, seeds repeat or are none, ``data`` is missing or not needed, or holds
        too little.
    OSError
        If the folder cannot be written.

    Notes
    -----
    The same numbers again from the same seeds, scale, machine and number of threads.

    References
    ----------
    BoPITO, arXiv:2410.10605.
    """
    check_choice("experiment", experiment, EXPERIMENTS)
    check_choice("scale", scale, SCALES)
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(
            f"seeds: expected different numbers of zero or more, got {', '.join(map(str, seeds)) or 'none'}"
        )
    name = next(known for known in EXPERIMENTS if known == experiment)
    size = next(known for known in SCALES if known == scale)
    if (data is None) == (name == "ala2-bopito"):
        wanted = "a store of alanine dipeptide" if data is None else "none"
        raise ValueError(f"data: expected {wanted} for {name}, got {data}; see --data")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    if data is not None:
        results = run_ala2_bopito(ALA2_SCALES[size], list(seeds), say or _silent, data)
    else:
        results = _RUN[name](PRINZ_SCALES[size], list(seeds), say or _silent)
    numbers = {
        "format_version": RESULTS_VERSION,
        "experiment": name,
        "scale": size,
        "seeds": list(seeds),
        "settings": _settings(name, size),
        "seconds": round(time.monotonic() - start, 1),
        "results": results,
    }
    numbers_path, figure_path = folder / f"{name}.json", folder / f"{name}.png"
    text = json.dumps(numbers, indent=1, allow_nan=False)
    replace_file(numbers_path, text.encode())
    draw_reproduction(numbers, figure_path)
    return Reproduction(
        numbers=numbers,
        numbers_path=numbers_path,
        figure_path=figure_path,
        table=table_of(name, results),
    )


def draw_reproduction(numbers: dict[str, Any], path: str | Path) -> None:
    """Draw the figure of an experiment's numbers, as in the JSON file, as a PNG.

    Raises
    ------
    ValueError
        If the numbers are of another version.
    OSError
        If the file cannot be written.
    """
    from tito_fast.reproduce.figures import figure_of  # noqa: PLC0415  imports matplotlib

    version = numbers.get("format_version")
    if version != RESULTS_VERSION:
        raise ValueError(f"numbers: expected format_version {RESULTS_VERSION}, got {version}")
    buffer = io.BytesIO()
    figure_of(numbers["experiment"], numbers["results"]).savefig(buffer, format="png", dpi=_DPI)
    replace_file(Path(path), buffer.getvalue())


def _settings(experiment: Experiment, scale: Scale) -> dict[str, Any]:
    if experiment == "ala2-bopito":
        return asdict(ALA2_SCALES[scale])
    sizes = PRINZ_SCALES[scale]
    own = {
        "prinz-bopito": asdict(sizes.bopito),
        "prinz-data": asdict(sizes.data),
        "prinz-interpolate": asdict(sizes.interpolate),
    }
    return {"network": asdict(sizes.network), "data": own[experiment]}


def _silent(_: str) -> None:
    pass
