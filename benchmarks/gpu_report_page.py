"""The goals of the GPU kernels beside what was measured, and a page of the whole report."""

from collections.abc import Iterator
from typing import Any

from benchmarks.cpu_targets import Target

Rows = list[dict[str, Any]]

_STATUSES = {"skipped": "skipped", "failed": "failed", "wrong": "measured, but wrong"}
_NOT_MEASURED = "not measured"


def targets(rows: Rows) -> list[Target]:
    """Return the goals in their order; one that nothing was measured for is not met."""
    return [*_messages(rows), *_rollouts(rows), *_training(rows), *_graphs(rows)]


def _found(rows: Rows, kind: str, **about: Any) -> dict[str, Any] | None:
    """Return the row of a case that was run and is right."""
    for row in rows:
        is_it = row["kind"] == kind and all(
            row.get(name) == wanted for name, wanted in about.items()
        )
        if is_it and row["status"] == "ok":
            return row
    return None


def _size(n_atoms: int, n_replicas: int) -> dict[str, int]:
    return {"n_atoms": n_atoms, "n_replicas": n_replicas}


def _messages(rows: Rows) -> Iterator[Target]:
    for direction in ("forward", "backward"):
        row = _found(
            rows,
            "op",
            **_size(20, 1024),
            op="painn_message",
            direction=direction,
            n_features=64,
            backend="triton",
            precision="bf16",
        )
        share = row.get("share_of_floor") if row else None
        measured = _NOT_MEASURED if share is None else f"{share:.2f} (of {row['floor_of']})"
        what = f"message layer {direction}, share of its floor"
        yield Target(what, "20 atoms x 1024, bf16", "0.40", measured, (share or 0) >= 0.4)


def _rollouts(rows: Rows) -> Iterator[Target]:
    about = {"backend": "triton", "precision": "bf16"}
    row = _found(rows, "rollout", **_size(20, 1024), **about)
    rate = row["transitions_per_s"] if row else 0.0
    measured = f"{rate:,.0f}" if row else _NOT_MEASURED
    what = "rollout, 20 Euler steps, transitions/s"
    yield Target(what, "20 atoms x 1024, bf16", "60,000", measured, rate >= 60_000)
    row = _found(rows, "rollout", **_size(18, 1), **about)
    measured = f"{1e3 * row['median_s']:.2f}" if row else _NOT_MEASURED
    is_met = row is not None and row["median_s"] <= 2e-3
    yield Target("ms per transition of one molecule", "18 atoms x 1, bf16", "2", measured, is_met)


def _training(rows: Rows) -> Iterator[Target]:
    for precision in ("bf16", "fp32"):
        triton, compiled = (
            _found(rows, "training", **_size(18, 1024), backend=backend, precision=precision)
            for backend in ("triton", "compiled")
        )
        measured, is_met = _NOT_MEASURED, False
        if triton and compiled:
            ratio = compiled["median_s"] / triton["median_s"]
            measured, is_met = f"{ratio:.2f}", ratio >= 3
        what = "training step, times as fast as compiled `eager`"
        yield Target(what, f"18 atoms x 1024, {precision}", "3", measured, is_met)
        share = triton.get("share_of_reference_bytes") if triton else None
        measured = _NOT_MEASURED
        if share is not None:
            measured = f"{share:.3f} ({1e-9 * triton['peak_bytes_above_start']:.2f} GB)"
        yield Target(
            "training step, peak memory over what the released formulation keeps",
            f"18 atoms x 1024, {precision}",
            "0.05",
            measured,
            share is not None and share <= 0.05,
        )


def _graphs(rows: Rows) -> Iterator[Target]:
    # Ours, and what others publish for their own code: nvalchemi on an H100, tonari.
    for system, wanted_ms, whose in (
        ("64 x 64", 0.015, ""),
        ("64 x 64", 0.18, ", as nvalchemi's"),
        ("64 drug-like", 0.105, ", as tonari's"),
    ):
        code = "native, capacity"
        row = _found(rows, "kernel", op="radius_graph", conditions=system, code=code)
        is_captured = row is not None and "graph" in row["how"]
        measured = f"{1e3 * row['median_s']:.4f}" if row else _NOT_MEASURED
        is_met = is_captured and 1e3 * row["median_s"] <= wanted_ms
        what = f"radius graph with a capacity, captured, ms{whose}"
        yield Target(what, f"{system} atoms, 5 Å", f"{wanted_ms:g}", measured, is_met)


def goal_lines(rows: Rows) -> list[str]:
    """Return the goals as a table."""
    lines = ["| goal (F = 64) | conditions | wanted | measured | met |", "|--|--|--|--|--|"]
    for goal in targets(rows):
        cells = (goal.what, goal.conditions, goal.wanted, goal.measured)
        lines.append("| " + " | ".join((*cells, "yes" if goal.is_met else "no")) + " |")
    return lines


def page(report: dict[str, Any], source: str) -> str:
    """Return the report as a Markdown page; ``source`` is the name of its JSON file beside the page."""
    about, rows = report["environment"], report["rows"]
    counts = {
        status: sum(row["status"] == status for row in rows)
        for status in ("ok", "wrong", "failed", "skipped")
    }
    lines = [
        "# Measured on a GPU",
        "",
        f"{about['device_name']}, driver {about['driver']}, torch {about['torch']}, Triton {about['triton']}, "
        f"{report['date']}; made by `python -m benchmarks.gpu_report` from [{source}]({source}) in "
        f"{report['took_s']:.0f} s. Of {len(rows)} cases {counts['ok']} are right, {counts['wrong']} wrong, "
        f"{counts['failed']} failed, {counts['skipped']} were skipped; see the end.",
        "",
        "Every timed result was compared with the reference in the same run: its error is at most three times that of "
        "plain PyTorch whose products have factors rounded the same way (ten times for autocast, which rounds "
        "more than factors). Times are medians.",
        "",
        "## Goals",
        "",
        *goal_lines(rows),
        "",
        "## Ceilings",
        "",
        *_ceilings(rows),
        "",
        "## Operations",
        "",
        "The *floor* of an operation is the longest of: what it must multiply at the rate of the matrix product in its "
        "precision, what it must move at the rate of the copy, and what it must compute element by element at 128 "
        "lanes of each multiprocessor at the highest clock. Message, per directed edge forward: 21 F² flop, "
        "the edge's features in and out (8 F bytes), 55 F lane instructions; backward three times that.",
        "",
        *_ops(rows),
        "",
        "## CUDA kernels",
        "",
        "*Captured*: a call within a CUDA graph of twenty; empty where the code waits for the device, so that it "
        "cannot be captured, or takes longer than a launch. Radius graphs: atoms at the density of a peptide, "
        "cutoff 5 Å; torch_cluster and nvalchemi return indices only, all others vectors and distances, too.",
        "",
        *_kernels(rows),
        *_models(rows, "rollout", "Rollout: one step of 20 Euler evaluations", "transitions_per_s"),
        *_models(
            rows, "training", "Training step: forward, backward, clipping, Adam", "pairs_per_s"
        ),
        "",
        "## Not measured, and wrong",
        "",
        *_others(rows),
    ]
    return "\n".join(lines) + "\n"


def _ceilings(rows: Rows) -> list[str]:
    row = next((row for row in rows if row["kind"] == "ceiling" and row["status"] == "ok"), None)
    if row is None:
        return [_NOT_MEASURED + "."]
    lines = [
        "| | |",
        "|--|--|",
        f"| copy, both directions | {1e-9 * row['bytes_per_s']:.0f} GB/s |",
    ]
    for precision in ("bf16", "tf32", "ieee"):
        rate = 1e-12 * row[f"{precision}_flop_per_s"]
        lines.append(f"| product of two 8192 x 8192 matrices, {precision} | {rate:.1f} TFLOP/s |")
    if "lanes_per_s" in row:
        lines.append(f"| element-wise instructions | {1e-12 * row['lanes_per_s']:.1f} T/s |")
    return lines


def _ops(rows: Rows) -> list[str]:
    lines = [
        "| operation | direction | atoms x molecules, F | backend | µs | GB/s | TFLOP/s | share of floor "
        "| error (allowed) |",
        "|--|--|--|--|--|--|--|--|--|",
    ]
    for row in rows:
        if row["kind"] != "op" or row["status"] not in ("ok", "wrong"):
            continue
        share = f"{row['share_of_floor']:.2f}" if "share_of_floor" in row else ""
        cells = (
            f"`{row['op']}`",
            row["direction"],
            f"{row['n_atoms']} x {row['n_replicas']}, {row['n_features']}",
            f"{row['backend']} {row['precision']}",
            f"{1e6 * row['median_s']:.1f}",
            f"{row['gb_per_s']:.0f}",
            f"{row['tflop_per_s']:.1f}",
            share,
            _errors(row),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _kernels(rows: Rows) -> list[str]:
    lines = [
        "| operation | conditions | code | µs captured | µs launched | error (allowed) |",
        "|--|--|--|--|--|--|",
    ]
    found = [row for row in rows if row["kind"] == "kernel" and row["status"] in ("ok", "wrong")]
    for row in sorted(found, key=lambda row: (row["op"], row["conditions"])):
        captured = f"{1e6 * row['median_s']:.1f}" if "graph" in row["how"] else ""
        cells = (
            f"`{row['op']}`",
            row["conditions"],
            row["code"],
            captured,
            f"{1e6 * row['launched_s']:.1f}",
            _errors(row),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _errors(row: dict[str, Any]) -> str:
    checks = [f"{check['error']:.1e} ({check['allowed']:.1e})" for check in row["checks"]]
    return "; ".join(checks) + (" **wrong**" if row["status"] == "wrong" else "")


def _models(rows: Rows, kind: str, title: str, rate: str) -> list[str]:
    unit = rate.removesuffix("_per_s") + "/s"
    lines = ["", f"## {title}", ""]
    lines += [
        f"| atoms x replicas | backend | precision | ms | {unit} | peak above start, MB | error (allowed) |",
        "|--|--|--|--|--|--|--|",
    ]
    found = [row for row in rows if row["kind"] == kind and row["status"] in ("ok", "wrong")]
    found.sort(key=lambda row: (row["n_atoms"], row["n_replicas"], row["median_s"]))
    for row in found:
        peak = row.get("peak_bytes_above_start")
        cells = (
            f"{row['n_atoms']} x {row['n_replicas']}",
            row["backend"],
            row["precision"],
            f"{1e3 * row['median_s']:.3f}",
            f"{row[rate]:,.0f}",
            "" if peak is None else f"{1e-6 * peak:.0f}",
            _errors(row),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _others(rows: Rows) -> list[str]:
    found = [row for row in rows if row["status"] != "ok"]
    if not found:
        return ["None."]
    lines = ["| case | | why |", "|--|--|--|"]
    for row in found:
        said = row["why"] if "why" in row else _errors(row)
        why = " ".join(said.split()).replace("|", "\\|")
        lines.append(f"| {row['name']} | {_STATUSES[row['status']]} | {why[:300]} |")
    return lines
