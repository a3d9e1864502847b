"""Check and time everything on a GPU within nine minutes: ceilings, operations, rollout, training, memory.

    python -m benchmarks.gpu_report --out docs/benchmarks/gpu.json --page docs/benchmarks/gpu.md

Prints the goals. The exit status is 1 if a case failed or a timed result is not what the reference says; the report is
written all the same, and after every case. Cases that do not fit in the time or the memory are in it with the reason.
``--device cpu --quick`` runs the same code at tiny sizes, kernels interpreted (set ``TRITON_INTERPRET=1``).
``--tune`` tries launches of the message kernels instead, and prints the best.
"""

import argparse
import importlib.util
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_report_cases import Case, Lab, run_cases
from benchmarks.gpu_report_cuda import kernel_cases
from benchmarks.gpu_report_ops import ceiling_cases, op_cases
from benchmarks.gpu_report_page import goal_lines, page
from benchmarks.gpu_report_rollout import rollout_cases
from benchmarks.gpu_report_timing import Clock
from benchmarks.gpu_report_training import training_cases
from benchmarks.gpu_report_tune import tune

BUDGET_S = 500.0
SECONDS_OF_A_TIMING = 0.3
COMMAND = "python -m benchmarks.gpu_report"


def environment(device: torch.device) -> dict[str, Any]:
    """Return what the figures depend on, and nothing that names a machine or its user."""
    has_triton = importlib.util.find_spec("triton") is not None
    about: dict[str, Any] = {
        "device": device.type,
        "device_name": platform.machine(),
        "driver": "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": __import__("triton").__version__ if has_triton else "none",
        "cuda": torch.version.cuda,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about |= {
            "device_name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "n_multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "driver": _driver(),
        }
    return about


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.splitlines()[0].strip() if said.strip() else "unknown"


def cases_of(lab: Lab, only: str) -> list[Case]:
    """Return the cases whose names match; the ceilings always."""
    cases = [*op_cases(lab), *kernel_cases(lab), *rollout_cases(lab), *training_cases(lab)]
    return [*ceiling_cases(), *(case for case in cases if re.search(only, case.name))]


def measure(lab: Lab, cases: Sequence[Case], out: Path, *, budget_s: float) -> dict[str, Any]:
    """Run the cases, write the report after each, and return it."""
    start = time.perf_counter()
    report: dict[str, Any] = {
        "how": f"{COMMAND}; times in s, medians",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "is_quick": lab.is_quick,
        "environment": environment(lab.device),
        "rows": [],
    }
    for row in run_cases(cases, lab, budget_s=budget_s):
        report["rows"].append(row)
        report["took_s"] = round(time.perf_counter() - start, 1)
        out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        _say(f"{report['took_s']:6.1f} s  {row['status']:8}{row['name']}  {_short(row)}")
    return report


def _short(row: dict[str, Any]) -> str:
    if "median_s" in row:
        return f"{1e6 * row['median_s']:.1f} us" + (
            f", {row['share_of_floor']:.2f} of the floor" if "share_of_floor" in row else ""
        )
    return str(row.get("why", ""))[:200]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: says nothing of speed")
    parser.add_argument("--only", default="", help="regular expression that case names must match")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds")
    parser.add_argument("--tune", action="store_true", help="try launches of the message kernels")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device: expected a CUDA device, torch finds none; use --device cpu --quick")
    if device.type == "cpu" and not options.quick:
        parser.error("--device cpu: expected --quick, as kernels are interpreted there")
    if device.type == "cpu":
        # At these sizes threads cost more than they give.
        torch.set_num_threads(1)
    clock = Clock(device, seconds=0.0 if options.quick else SECONDS_OF_A_TIMING)
    lab = Lab(device=device, is_quick=options.quick, clock=clock)
    if options.tune:
        options.out.write_text(
            json.dumps(tune(lab, _say, options.budget), indent=1) + "\n", "utf-8"
        )
        return 0
    cases = cases_of(lab, options.only)
    report = measure(lab, cases, options.out, budget_s=options.budget)
    if options.page:
        options.page.write_text(page(report, options.out.name), "utf-8")
    for line in goal_lines(report["rows"]):
        _say(line)
    return int(any(row["status"] in ("wrong", "failed") for row in report["rows"]))


if __name__ == "__main__":
    sys.exit(main())
