"""Which launch of a message kernel is fastest: every neighbor of the table's entry, one change or two at a time."""

import importlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from benchmarks.gpu_report_cases import Lab
from benchmarks.gpu_report_ops import PRECISIONS, OpRun, message_work
from tito_fast.ops.triton_launch import Launch, architecture

NUM_WARPS = (4, 8, 16)
NUM_STAGES = (1, 2, 3)
# Modules that hold launch tables of the message: all their tables are tried.
MODULES = (
    "tito_fast.ops.painn_message.triton_kernel",
    "tito_fast.ops.painn_message.triton_backward_kernel",
)


def tables() -> Iterator[tuple[str, dict[tuple[int, int, str], Launch]]]:
    """Yield the launch tables of the message with their names."""
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        for key, value in vars(module).items():
            if isinstance(value, dict) and value and isinstance(next(iter(value.values())), Launch):
                yield f"{name.rpartition('.')[2]}.{key}", value


def neighbors(launch: Launch) -> Iterator[Launch]:
    """Yield launches with sizes of the tile halved or doubled, flags turned, and other warps and stages."""
    options: list[list[Any]] = []
    for value in launch.tile.values():
        if isinstance(value, bool):
            options.append([value, not value])
        else:
            options.append([value, *(each for each in (value // 2, 2 * value) if each >= 1)])
    for values in itertools.product(*options):
        tile = dict(zip(launch.tile, values, strict=True))
        if sum(tile[name] != launch.tile[name] for name in tile) > 2:
            continue
        for num_warps, num_stages in itertools.product(NUM_WARPS, NUM_STAGES):
            yield replace(launch, tile=tile, num_warps=num_warps, num_stages=num_stages)


def tune(lab: Lab, say: Callable[[str], None], budget_s: float) -> list[dict[str, Any]]:
    """Return the time of every launch that compiles and gives a right result, fastest first, by table entry.

    The budget is shared equally by the entries; what is left out of an entry is counted in ``not_tried``.
    """
    size = (3, 2, 32) if lab.is_quick else (20, 1024, 64)
    here = architecture(lab.device)
    found = []
    entries = [
        (name, table, (max(key[0] for key in table if key[0] <= max(here, 80)), size[2], precision))
        for name, table in tables()
        for precision in PRECISIONS
    ]
    entries = [entry for entry in entries if entry[2] in entry[1]]
    if not entries:
        raise RuntimeError(f"launch tables: expected some in {', '.join(MODULES)}, found none")
    for name, table, key in entries:
        direction = "backward" if "backward" in name.lower() else "forward"
        run = OpRun(message_work, size, "triton", key[2], direction, keeps_expected=True)
        deadline = time.perf_counter() + budget_s / len(entries)
        rows = _try(lab, table, key, run, deadline, most=3 if lab.is_quick else None)
        say(f"{name}[{key}]")
        for row in rows["tried"][:5]:
            say(f"  {1e6 * row['median_s']:9.1f} us  {row['launch']}")
        say(f"  {len(rows['tried'])} right, {rows['not_right']} not, {rows['not_tried']} not tried")
        lab.kept.clear()
        found.append({"table": name, "key": list(key), **rows})
    return found


def _try(
    lab: Lab,
    table: dict[tuple[int, int, str], Launch],
    key: tuple[int, int, str],
    run: OpRun,
    deadline: float,
    *,
    most: int | None,
) -> dict[str, Any]:
    before, tried, not_right, not_tried = table[key], [], 0, 0
    candidates = [before, *(each for each in neighbors(before) if each != before)]
    try:
        for candidate in candidates[:most]:
            if time.perf_counter() > deadline:
                not_tried += 1
                continue
            table[key] = candidate
            try:
                result = run(lab)
            except Exception:  # noqa: BLE001  most neighbors do not compile or do not fit
                not_right += 1
                continue
            if not all(check.is_ok for check in result.checks):
                not_right += 1
                continue
            launch = {"tile": dict(candidate.tile), "num_warps": candidate.num_warps}
            launch |= {"num_stages": candidate.num_stages}
            tried.append({"launch": launch, "median_s": result.figures["median_s"]})
    finally:
        table[key] = before
    tried.sort(key=lambda row: row["median_s"])
    return {"tried": tried, "not_right": not_right, "not_tried": not_tried}
