"""What an evaluation leaves on disk."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tito_fast.analysis.evaluation import KIND, Evaluation
from tito_fast.data.writers.disk import PART_SUFFIX, replace_file

METRICS: Final = "metrics.json"
PANEL: Final = "panel.png"
REPORT: Final = "report.html"
AGGREGATE: Final = "aggregate.json"

_OURS: Final = {METRICS, PANEL, REPORT, AGGREGATE}
_ADVICE: Final = "choose another --out"


def check_out(path: Path, *, names: Sequence[str]) -> None:
    """Check that ``path`` can take an evaluation: it is new, empty, or holds an earlier one.

    Parameters
    ----------
    path : path
    names : sequence of str
        Of the runs; with several each has a sub-directory.

    Raises
    ------
    ValueError
        If it is a file, or holds something else.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"out: expected a directory, got the file {path}; {_ADVICE}")
    if not path.is_dir():
        return
    folders = set(names) if len(names) > 1 else set()
    for entry in sorted(path.iterdir()):
        name = entry.name.removesuffix(PART_SUFFIX)
        if name in folders and entry.is_dir():
            check_out(entry, names=[name])
        elif name not in _OURS and not _is_evaluation(entry):
            raise ValueError(
                f"out: expected an empty directory or an earlier evaluation, got {path} with {entry.name}; "
                f"{_ADVICE}"
            )
    for name in (METRICS, AGGREGATE):
        if (path / name).is_file() and not _is_ours(path / name):
            raise ValueError(
                f"out: expected {path / name} to be of an earlier evaluation, got another file; {_ADVICE}"
            )


def write_one(evaluation: Evaluation, path: Path) -> None:
    """Write ``metrics.json``, ``panel.png`` and ``report.html``, each whole or not at all."""
    from tito_fast.analysis.panel import panel_png  # noqa: PLC0415  imports matplotlib
    from tito_fast.analysis.report import report_html  # noqa: PLC0415  beside it

    path.mkdir(parents=True, exist_ok=True)
    content = evaluation.to_dict()
    picture = panel_png(content)
    replace_file(path / METRICS, _json(content))
    replace_file(path / PANEL, picture)
    replace_file(path / REPORT, report_html(content, picture).encode())


def write_all(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Write ``aggregate.json`` and a ``report.html`` over all runs."""
    from tito_fast.analysis.aggregate import aggregate  # noqa: PLC0415  it needs Evaluation
    from tito_fast.analysis.report import aggregate_html  # noqa: PLC0415  beside it

    path.mkdir(parents=True, exist_ok=True)
    content = aggregate(evaluations)
    replace_file(path / AGGREGATE, _json(content))
    replace_file(path / REPORT, aggregate_html(content).encode())


def _is_evaluation(path: Path) -> bool:
    return path.is_dir() and (path / METRICS).is_file() and _is_ours(path / METRICS)


def _is_ours(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and str(content.get("kind", "")).startswith(KIND)


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
