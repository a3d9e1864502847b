"""Measure the CPU: run the network's benchmarks with one and two threads, join their results, and make a page of them.

    python -m benchmarks.cpu_report --out docs/benchmarks/cpu.json --page docs/benchmarks/cpu.md

About thirteen minutes on a quiet machine with two cores; with ``--quick`` two, on one system. With ``--join`` files are
taken instead of measuring: JSON that pytest-benchmark wrote, or this program.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.cpu_targets import targets
from tito_fast._extension import build_info


class Part(NamedTuple):
    """One run of pytest."""

    file: str
    n_threads: int
    keyword: str


PARTS = (
    Part("bench_velocity.py", 1, "F64 or F128"),
    Part("bench_rollout.py", 1, "F64 or 18x16"),
    Part("bench_rollout.py", 2, "F64 and not compiled and not reference and (18x or 68x)"),
    Part("bench_training_step.py", 1, "not compiled and (F64 or 18x16)"),
    Part("bench_training_step.py", 2, "not compiled and not reference and F64 and (18x or 68x)"),
    Part("bench_painn_message.py", 1, "18 or 68"),
    Part("bench_radius_graph.py", 1, "16"),
)
QUICK_PARTS = (
    Part("bench_velocity.py", 1, "18x1-F64 and not compiled"),
    Part("bench_rollout.py", 1, "18x1-F64"),
    Part("bench_rollout.py", 2, "18x1-F64"),
    Part("bench_training_step.py", 1, "18x1-F64"),
)

TITLES = {
    "test_velocity": "One evaluation of the velocity (conditioning done before)",
    "test_rollout_step": "One rollout step (20 Euler steps, conditioning, noise)",
    "test_training_step": "One training step (forward, backward, clipping, Adam)",
}
COLUMNS = ("reference", "eager", "compiled-eager", "native", "native-bf16")
# What pytest-benchmark keeps of every round, and names of this machine.
_STATS = ("min", "median", "iqr", "rounds")


def measure(part: Part, folder: Path) -> Path:
    """Run one part in a process of its own; return its JSON file."""
    target = folder / f"{Path(part.file).stem}-{part.n_threads}.json"
    command = [sys.executable, "-m", "pytest", f"benchmarks/{part.file}", "--benchmark-only", "-q"]
    command += [f"--benchmark-json={target}", "-k", part.keyword]
    threads = {"OMP_NUM_THREADS": str(part.n_threads), "OMP_WAIT_POLICY": "passive"}
    subprocess.run(command, check=True, env=os.environ | threads)  # noqa: S603, own files
    return target


def join(files: list[Path]) -> dict[str, Any]:
    """Return the results of ``files`` without what identifies a machine or its user."""
    rows: list[dict[str, Any]] = []
    for file in files:
        report = json.loads(file.read_text())
        if "how" in report:
            rows += report["benchmarks"]
            continue
        rows += [
            {"name": row["name"]}
            | {name: row["stats"][name] for name in _STATS}
            | row["extra_info"]
            for row in report["benchmarks"]
        ]
    return {
        "device": f"{platform.machine()}, {build_info()['best_isa']}, {os.cpu_count()} cores",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "how": "python -m benchmarks.cpu_report; OMP_WAIT_POLICY=passive; times in s, best of the rounds",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "benchmarks": rows,
    }


def page(results: dict[str, Any], source: str) -> str:
    """Return the results as a Markdown page."""
    lines = [
        "# Measured on a CPU",
        "",
        f"{results['device']}, torch {results['versions']['torch']}, {results['date']}; made by "
        f"`python -m benchmarks.cpu_report` from [{source}]({source}).",
        "",
        "Microseconds per directed edge (and evaluation of the network); in brackets how many times faster than "
        "`eager`. Every timed result was compared with the reference. `sgemm` is the rate of PyTorch's float32 "
        "product in the same run, at the shape that the network has.",
        "",
        "## Goals",
        "",
        *targets(results["benchmarks"]),
    ]
    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for row in results["benchmarks"]:
        test = row["name"].split("[")[0]
        if test in TITLES:
            groups.setdefault((test, row["n_features"], row["n_threads"]), []).append(row)
    for (test, n_features, n_threads), rows in groups.items():
        threads = "one thread" if n_threads == 1 else f"{n_threads} threads"
        lines += ["", f"## {TITLES[test]}, F = {n_features}, {threads}", "", *_table(rows)]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    by_system: dict[tuple[int, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_system.setdefault((row["n_atoms"], row["n_replicas"]), {})[row["backend"]] = row
    columns = [name for name in COLUMNS if any(name in each for each in by_system.values())]
    rate = "pairs_per_s" if "pairs_per_s" in rows[0] else "transitions_per_s"
    has_rate = rate in rows[0]
    head = [
        "atoms x replicas",
        *columns,
        "sgemm GFLOP/s",
        *([f"native {rate}"] if has_rate else []),
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "--|" * len(head)]
    for (n_atoms, n_replicas), found in by_system.items():
        eager = found.get("eager", {}).get("us_per_edge")
        cells = [f"{n_atoms} x {n_replicas}"]
        for name in columns:
            own = found.get(name, {}).get("us_per_edge")
            faster = f" ({eager / own:.2f})" if eager and own and name != "eager" else ""
            cells.append("" if own is None else f"{own:.2f}{faster}")
        native = found.get("native", next(iter(found.values())))
        cells.append(f"{native['sgemm_gflops']:.0f}")
        if has_rate:
            cells.append(f"{native[rate]:.1f}" if "native" in found else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure, or join what was measured, and write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--page", type=Path, required=True, help="Markdown page to write")
    parser.add_argument("--join", type=Path, nargs="+", help="JSON files of earlier runs")
    parser.add_argument("--quick", action="store_true", help="measure one small system only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = QUICK_PARTS if arguments.quick else PARTS
        files = arguments.join or [measure(part, Path(folder)) for part in parts]
        results = join(files)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    arguments.page.write_text(page(results, arguments.out.name))


if __name__ == "__main__":
    main()
