"""Many molecules in one table: means and medians, and runs of one molecule with different lags."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import numpy as np

from tito_fast.analysis.chapman_kolmogorov import compare_lags
from tito_fast.analysis.evaluation import FORMAT_VERSION, Evaluation
from tito_fast.analysis.resampling import Interval
from tito_fast.units import format_time

TABLE: Final = {
    "jsd_tica": "JSD, TIC 1–2",
    "jsd_tica_authors": "JSD, TIC 1–2, as published",
    "vamp2_gap": "VAMP-2 gap",
    "timescale_error_top10": "top-10 relative error",
    "jsd_torsions": "JSD, torsions",
    "coverage": "coverage",
    "precision": "precision",
}
"""Rows of the printed table: those of TITO, Fig. 2, first."""

_ALONE: Final = {
    "share_bonds_near_covalent": "sound bond lengths",
    "share_clash_frames": "frames with a clash",
    "jsd_replicas": "JSD between replicas",
    "rhat_max": "split R-hat, worst torsion",
    "effective_samples_min": "effective samples",
}
_WHOLE: Final = 1e-6


def aggregate(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return means and medians over evaluations: the content of ``aggregate.json``.

    Parameters
    ----------
    evaluations : sequence of Evaluation

    Returns
    -------
    dict
        ``metrics``: for each key ``n``, and ``mean`` and ``median`` of value, ``md_floor`` and ``ideal`` over
        those where it is defined. ``runs``: the values of each. ``lag_comparisons``: see
        :func:`lag_comparisons`.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not evaluations:
        raise ValueError("evaluations: expected at least one, got none")
    names = list(dict.fromkeys(name for one in evaluations for name in one.metrics))
    metrics = {}
    for name in names:
        found = [one.metrics[name] for one in evaluations if name in one.metrics]
        row: dict[str, Any] = {"n": sum(each.value is not None for each in found)}
        for key, values in (
            ("", [each.value for each in found]),
            ("md_floor_", [each.md_floor for each in found]),
            ("ideal_", [each.ideal for each in found]),
        ):
            known = [value for value in values if value is not None]
            row[f"{key}mean"] = float(np.mean(known)) if known else None
            row[f"{key}median"] = float(np.median(known)) if known else None
        metrics[name] = row
    return {
        "version": FORMAT_VERSION,
        "kind": "tito_fast evaluation, aggregate",
        "n_runs": len(evaluations),
        "n_molecules": len({(one.molecule_name, one.reference_key) for one in evaluations}),
        "metrics": metrics,
        "runs": {
            one.name: {
                "molecule": one.molecule_name,
                "lag_ps": one.summary["run"]["lag_ps"],
                **{name: metric.to_dict() for name, metric in one.metrics.items()},
            }
            for one in evaluations
        },
        "lag_comparisons": lag_comparisons(evaluations),
    }


def lag_comparisons(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Compare runs of one molecule with different lags: one step of k lag against k steps of lag.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        Runs count that share molecule and reference, of which one lag is a multiple of the other; the
        states are those of the reference.

    Returns
    -------
    list of dict
        ``short``, ``long`` (names), ``multiple``, ``distance`` between both transition matrices, and the
        probabilities to be in a state again: ``one_step``, ``many_steps``, ``predicted`` (value, low, high).
    """
    usable = [one for one in evaluations if one.states and one.has_reference]
    key = _identity
    found = []
    for _, group in groupby(sorted(usable, key=key), key=key):
        runs = sorted(group, key=lambda one: one.summary["run"]["lag_ps"])
        for index, short in enumerate(runs):
            for long in runs[index + 1 :]:
                comparison = _compared(short, long)
                if comparison is not None:
                    found.append(comparison)
    return found


def _identity(one: Evaluation) -> tuple[str, str]:
    return one.molecule_name, one.reference_key


def _compared(short: Evaluation, long: Evaluation) -> dict[str, Any] | None:
    ratio = long.summary["run"]["lag_ps"] / short.summary["run"]["lag_ps"]
    multiple = round(ratio)
    if multiple < 2 or abs(ratio - multiple) > _WHOLE * ratio:
        return None
    many, one = short.states or [], long.states or []
    if max(map(len, many)) <= multiple:
        return None
    n_states = len(short.arrays["transitions"]["centers"])
    result = compare_lags(many, one, n_states=n_states, multiple=multiple)
    return {
        "short": short.name,
        "long": long.name,
        "short_lag_ps": short.summary["run"]["lag_ps"],
        "long_lag_ps": long.summary["run"]["lag_ps"],
        "multiple": multiple,
        "distance": result.distance,
        "one_step": _listed(result.one_step),
        "many_steps": _listed(result.many_steps),
        "predicted": _listed(result.predicted),
    }


def _listed(interval: Interval) -> dict[str, list[float | None]]:
    return {
        name: [None if np.isnan(value) else value for value in getattr(interval, name).tolist()]
        for name in ("value", "low", "high")
    }


def table(content: dict[str, Any]) -> str:
    """Return the table of ``aggregate.json`` as text: mean / median over runs."""
    metrics = content["metrics"]
    rows = TABLE if any(metrics.get(name, {}).get("n") for name in TABLE) else _ALONE
    lines: list[tuple[str, ...]] = [("mean / median", "runs", "model", "md_floor", "ideal")]
    for name, title in rows.items():
        row = metrics.get(name)
        if row is None:
            continue
        cells = [
            f"{_number(row[f'{part}mean'])} / {_number(row[f'{part}median'])}"
            for part in ("", "md_floor_", "ideal_")
        ]
        lines.append((title, str(row["n"]), *cells))
    text = _aligned(lines)
    text += [
        f"one step of {format_time(each['long_lag_ps'])} ({each['long']}) against {each['multiple']} steps of "
        f"{format_time(each['short_lag_ps'])} ({each['short']}): transition matrices differ by "
        f"{each['distance']:.3f}"
        for each in content["lag_comparisons"]
    ]
    return "\n".join(text)


def one_run_table(evaluation: Evaluation) -> str:
    """Return the main metrics of one run as text."""
    rows = TABLE if evaluation.has_reference else _ALONE
    lines: list[tuple[str, ...]] = [("", "value", "95 % interval", "md_floor", "ideal")]
    for name, title in rows.items():
        metric = evaluation.metrics[name]
        interval = "–" if metric.low is None else f"{_number(metric.low)} to {_number(metric.high)}"
        lines.append(
            (
                title,
                _number(metric.value),
                interval,
                _number(metric.md_floor),
                _number(metric.ideal),
            )
        )
    return "\n".join(_aligned(lines))


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"
