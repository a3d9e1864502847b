"""Reports as one HTML file each: numbers with a sentence each, the panel, where all came from."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from tito_fast.analysis.aggregate import TABLE
from tito_fast.analysis.descriptions import DESCRIPTIONS, HOW_TO_READ
from tito_fast.units import format_time

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .3rem .6rem; text-align: right; vertical-align: top;
border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; white-space: nowrap; }
td:first-child code { display: inline-block; } th:first-child { width: 50%; }
th { background: #f5f5f5; }
th:first-child, td:first-child, td.text, th.text { text-align: left; white-space: normal; }
td small { color: #666; display: block; }
img { max-width: 36rem; width: 100%; display: block; margin: 1rem auto; } code { word-break: break-all; }
.note { background: #fff7e0; padding: .4rem .8rem; margin: .4rem 0; } caption { caption-side: bottom; color: #666; }
"""


_LEAST: Final = 1e-3
"""Smaller numbers are written as powers of ten."""
_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def report_html(content: Mapping[str, Any], panel: bytes) -> str:
    """Return the report of one run, which needs no other file and no network.

    Parameters
    ----------
    content : mapping
        Of ``metrics.json``.
    panel : bytes
        Content of ``panel.png``.
    """
    image = base64.b64encode(panel).decode()
    parts = [
        f"<h1>{escape(content['name'])}</h1>",
        f"<p>{escape(_what(content))}</p>",
        *(f'<p class="note">{escape(_sentence(note))}</p>' for note in content["notes"]),
        f'<img alt="Panel of distributions and kinetics" src="data:image/png;base64,{image}">',
        "<h2>Metrics</h2>",
        f"<p>{escape(HOW_TO_READ)}</p>" if content["summary"]["reference"] is not None else "",
        *_metric_tables(content),
        _torsion_table(content),
        "<h2>Where this comes from</h2>",
        _provenance(content["provenance"]),
    ]
    return _page(content["name"], parts)


def aggregate_html(content: Mapping[str, Any]) -> str:
    """Return the report over several runs.

    Parameters
    ----------
    content : mapping
        Of ``aggregate.json``.
    """
    rows = []
    for name, description in DESCRIPTIONS.items():
        row = content["metrics"].get(name)
        if row is None or not row["n"]:
            continue
        cells = [
            f"{_number(row[f'{part}mean'])} / {_number(row[f'{part}median'])}"
            for part in ("", "md_floor_", "ideal_")
        ]
        rows.append(
            f"<tr><td>{escape(description.title)}<small>{escape(description.meaning)}</small></td>"
            f"<td>{row['n']}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        )
    shown = [name for name in TABLE if content["metrics"].get(name, {}).get("n")]
    heads = "".join(f"<th>{escape(TABLE[name])}</th>" for name in shown)
    runs = []
    for run, values in content["runs"].items():
        cells = [_number(values[name]["value"]) if name in values else "–" for name in shown]
        runs.append(
            f'<tr><td><a href="{escape(run, quote=True)}/report.html">{escape(run)}</a></td>'
            f"<td>{'–' if values['lag_ps'] is None else escape(format_time(values['lag_ps']))}</td>"
            f"{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        )
    title = f"{content['n_runs']} runs of {content['n_molecules']} molecules"
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{escape(HOW_TO_READ)}</p>",
        "<h2>Mean and median</h2>",
        '<table><tr><th class="text">metric</th><th>runs</th><th>mean / median</th><th>md_floor</th>'
        f"<th>ideal</th></tr>{''.join(rows)}</table>",
        "<h2>Each run</h2>",
        f'<table><tr><th class="text">run</th><th>lag</th>{heads}</tr>{"".join(runs)}</table>',
        _lag_table(content["lag_comparisons"]),
    ]
    return _page(title, parts)


def _page(title: str, parts: Sequence[str]) -> str:
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _what(content: Mapping[str, Any]) -> str:
    summary = content["summary"]
    run, reference = summary["run"], summary["reference"]
    text = f"{content['molecule']}"
    if summary["smiles"] and summary["smiles"] != content["molecule"]:
        text += f" ({summary['smiles']})"
    replicas = _counted(run["n_replicas"], "replica", "replicas")
    text += f", {summary['n_atoms']} atoms. Run: {replicas}, {run['n_frames']:,} frames"
    if run["lag_ps"] is not None:
        text += f" {format_time(run['lag_ps'])} apart"
    text += f", {_counted(run['n_start_frames_dropped'], 'start frame', 'start frames')} left out."
    if reference is None:
        return f"{text} No reference was given: these numbers say whether frames are sound and replicas agree."
    return (
        f"{text} Reference: {_counted(reference['n_trajectories'], 'trajectory', 'trajectories')}, "
        f"{reference['n_frames']:,} frames {format_time(reference['interval_ps'])} apart; slow coordinates at a lag of "
        f"{format_time(reference['tica_lag_ps'])}."
    )


def _metric_tables(content: Mapping[str, Any]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name, description in DESCRIPTIONS.items():
        metric = content.get(name)
        if metric is None:
            continue
        interval = (
            ""
            if metric["low"] is None
            else f"<small>[{_number(metric['low'])}, {_number(metric['high'])}]</small>"
        )
        more = ""
        if metric.get("n_processes") is not None:
            more = f" Here: {_counted(metric['n_processes'], 'process', 'processes')}."
        groups.setdefault(description.group, []).append(
            f"<tr><td>{escape(description.title)} <code>{name}</code>"
            f"<small>{escape(description.meaning + more)}</small></td>"
            f"<td>{_number(metric['value'])}{interval}</td><td>{_number(metric['md_floor'])}</td>"
            f"<td>{_number(metric['ideal'])}</td><td>{escape(description.best)}</td></tr>"
        )
    head = (
        '<tr><th class="text">metric</th><th>value</th><th>md_floor</th><th>ideal</th>'
        "<th>perfect</th></tr>"
    )
    return [
        f"<h3>{escape(group)}</h3><table>{head}{''.join(rows)}</table>"
        for group, rows in groups.items()
    ]


def _torsion_table(content: Mapping[str, Any]) -> str:
    torsions = content["arrays"].get("torsions") or []
    convergence = {row["name"]: row for row in content["arrays"].get("convergence") or []}
    if not torsions:
        return ""
    rows = []
    for torsion in torsions:
        jsd = torsion.get("jsd", {})
        row = convergence.get(torsion["name"], {})
        cells = [
            *(jsd.get("value"), jsd.get("md_floor"), jsd.get("ideal")),
            *(row.get("jsd_replicas"), row.get("rhat"), row.get("effective_samples")),
        ]
        rows.append(
            f"<tr><td>{escape(torsion['name'])}</td>"
            f"{''.join(f'<td>{_number(cell)}</td>' for cell in cells)}</tr>"
        )
    return (
        '<h2>Torsions</h2><table><tr><th class="text">atoms</th><th>JSD</th><th>md_floor</th><th>ideal</th>'
        "<th>JSD between replicas</th><th>split R-hat</th><th>effective samples</th></tr>"
        f"{''.join(rows)}</table>"
    )


def _lag_table(comparisons: Sequence[Mapping[str, Any]]) -> str:
    if not comparisons:
        return ""
    rows = [
        f"<tr><td>{escape(each['long'])}, {escape(format_time(each['long_lag_ps']))}</td>"
        f'<td class="text">{escape(each["short"])}, {each["multiple"]} × '
        f"{escape(format_time(each['short_lag_ps']))}</td><td>{_number(each['distance'])}</td></tr>"
        for each in comparisons
    ]
    return (
        "<h2>One long step against several short ones</h2><p>Total variation between the rows of both "
        "transition matrices: 0 where the model agrees with itself.</p>"
        '<table><tr><th class="text">one step of</th><th class="text">several of</th><th>distance</th></tr>'
        f"{''.join(rows)}</table>"
    )


def _provenance(provenance: Mapping[str, Any]) -> str:
    rows = [("made", provenance["created"]), ("command", provenance["command"])]
    for side in ("run", "reference"):
        inputs = provenance[side]
        if inputs is None:
            continue
        rows.append((side, f"{inputs['source']} ({inputs['kind']})"))
        rows += [(f"{side}: {name}", value) for name, value in inputs["settings"].items()]
        files = list(inputs["sha256"].items())
        rows += [(file, f"sha256 {digest}") for file, digest in files]
    rows.append(("versions", ", ".join(f"{k} {v}" for k, v in provenance["versions"].items())))
    rows.append(("settings", ", ".join(f"{k} = {v}" for k, v in provenance["config"].items())))
    return (
        "<table>"
        + "".join(
            f'<tr><td>{escape(str(name))}</td><td class="text"><code>{escape(str(value))}</code></td></tr>'
            for name, value in rows
            if value is not None
        )
        + "</table>"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if value and abs(value) < _LEAST:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"
    return text.replace("-", "−")


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
