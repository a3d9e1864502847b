"""The goals of the CPU kernels beside what was measured, as a table.

Where a goal was set for a machine whose sgemm does so many GFLOP/s, it is scaled to the sgemm of the run. A share above
one says that the kernel's products run faster than those of PyTorch's library at the same shape.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

Rows = list[dict[str, Any]]

# Rate of sgemm, GFLOP/s, that the goals in µs and transitions/s were set for.
SGEMM_OF_ONE_THREAD = 95.0
SGEMM_OF_TWO_THREADS = 190.0


class Target(NamedTuple):
    """One line of the table."""

    what: str
    conditions: str
    wanted: str
    measured: str
    is_met: bool


def targets(rows: Rows) -> list[str]:
    """Return the table of the goals that ``rows``, the joined results, can say something of."""
    makers = (_message, _velocity, _ratios, _rollout, _threads, _training, _radius_graph)
    found = [target for maker in makers for target in maker(rows)]
    lines = [
        "| goal (float32, one thread, F = 64, unless said) | conditions | wanted | measured | met |",
        "|--|--|--|--|--|",
    ]
    for target in found:
        met = "yes" if target.is_met else "no"
        cells = (target.what, target.conditions, target.wanted, target.measured, met)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _row(
    rows: Rows, test: str, size: tuple[int, int], backend: str = "native", n_threads: int = 1
) -> dict[str, Any] | None:
    """Return the row of a benchmark of the network at 64 features, if it was run."""
    wanted = (*size, 64, backend, n_threads)
    names = ("n_atoms", "n_replicas", "n_features", "backend", "n_threads")
    for row in rows:
        if row["name"].startswith(test + "[") and tuple(row.get(name) for name in names) == wanted:
            return row
    return None


def _both(rows: Rows, test: str, size: tuple[int, int], one: Any, other: Any) -> Any:
    """Return two rows, each given as (backend, n_threads), or None."""
    pair = _row(rows, test, size, *one), _row(rows, test, size, *other)
    return None if None in pair else pair


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]} atoms x {size[1]}"


def _message(rows: Rows) -> Iterator[Target]:
    for row in rows:
        size = row["name"].removeprefix("test_painn_message[").split("-")
        if size[0] == "native" and size[2:] == ["64", "forward]"] and row["threads"] == 1:
            share = row["share_of_sgemm"]
            what = "message layer forward, share of the sgemm rate (exact filter)"
            yield Target(what, size[1], "0.60", f"{share:.2f}", share >= 0.6)
    for size in ((18, 16), (68, 8)):
        row = _row(rows, "test_velocity", size)
        if row is not None:
            share = row["share_of_sgemm"]
            what = "whole velocity, share of the sgemm rate (counted products)"
            yield Target(what, _name(size), "0.60", f"{share:.2f}", share >= 0.6)


def _velocity(rows: Rows) -> Iterator[Target]:
    for size in ((18, 16), (68, 8)):
        row = _row(rows, "test_velocity", size)
        if row is None:
            continue
        scale = SGEMM_OF_ONE_THREAD / row["sgemm_gflops"]
        for kind, limit in (("limit", 5.5), ("aim", 3.4)):
            wanted = f"{limit * scale:.2f} ({limit} at {SGEMM_OF_ONE_THREAD:.0f} GFLOP/s)"
            yield Target(
                f"velocity, µs per directed edge, {kind}",
                f"{_name(size)}, sgemm {row['sgemm_gflops']:.0f} GFLOP/s",
                wanted,
                f"{row['us_per_edge']:.2f}",
                row["us_per_edge"] <= limit * scale,
            )


def _ratios(rows: Rows) -> Iterator[Target]:
    for size, other, wanted in (
        ((18, 16), "eager", 2.0),
        ((68, 8), "eager", 2.0),
        ((18, 16), "reference", 8.0),
        ((68, 8), "reference", 12.0),
    ):
        pair = _both(rows, "test_velocity", size, ("native", 1), (other, 1))
        if pair is not None:
            ratio = pair[1]["min"] / pair[0]["min"]
            what = f"velocity, times as fast as `{other}`"
            yield Target(what, _name(size), f"{wanted:.0f}", f"{ratio:.1f}", ratio >= wanted)


def _rollout(rows: Rows) -> Iterator[Target]:
    pair = _both(rows, "test_rollout_step", (18, 64), ("native", 1), ("native", 2))
    if pair is not None:
        # Twice the rate of one thread: the product is small, and two threads gain little on it.
        sgemm, row = 2 * pair[0]["sgemm_gflops"], pair[1]
        wanted = 60 * sgemm / SGEMM_OF_TWO_THREADS
        yield Target(
            "rollout, 20 Euler steps, transitions/s",
            f"18 atoms x 64, 2 threads, sgemm 2 x {sgemm / 2:.0f} GFLOP/s",
            f"{wanted:.0f} (60 at {SGEMM_OF_TWO_THREADS:.0f} GFLOP/s)",
            f"{row['transitions_per_s']:.0f}",
            row["transitions_per_s"] >= wanted,
        )
    pair = _both(rows, "test_rollout_step", (18, 64), ("native", 2), ("native-bf16", 2))
    if pair is not None:
        ratio = pair[0]["min"] / pair[1]["min"]
        what = "rollout in bf16, times as fast as in float32"
        yield Target(what, "18 atoms x 64, 2 threads", "1.6", f"{ratio:.2f}", ratio >= 1.6)


def _threads(rows: Rows) -> Iterator[Target]:
    for test, name in (("test_rollout_step", "rollout"), ("test_training_step", "training step")):
        pair = _both(rows, test, (18, 64), ("native", 1), ("native", 2))
        if pair is not None:
            ratio = pair[0]["min"] / pair[1]["min"]
            what = f"{name}, two threads against one"
            yield Target(what, "18 atoms x 64", "1.8", f"{ratio:.2f}", ratio >= 1.8)


def _training(rows: Rows) -> Iterator[Target]:
    test = "test_training_step"
    for size in ((18, 16), (18, 64), (68, 8), (166, 1)):
        pair = _both(rows, test, size, ("native", 1), ("eager", 1))
        if pair is None:
            continue
        native, eager = pair
        ratio = eager["min"] / native["min"]
        what = "training step, times as fast as `eager`"
        yield Target(what, _name(size), "3", f"{ratio:.2f}", ratio >= 3)
        if "peak_mb" in native and "peak_mb" in eager:
            share = native["peak_mb"] / eager["peak_mb"]
            measured = f"{share:.2f} ({native['peak_mb']:.0f} of {eager['peak_mb']:.0f} MB)"
            what = "training step, peak memory over that of `eager`"
            yield Target(what, _name(size), "0.20", measured, share <= 0.2)
        kept = native["saved_bytes_per_edge_layer"]
        what = "bytes kept for the backward per edge and layer"
        yield Target(what, _name(size), "300", f"{kept:.0f}", kept <= 300)


def _radius_graph(rows: Rows) -> Iterator[Target]:
    found = {
        row["name"].removeprefix("test_radius_graph[16 x 70-").removesuffix("]"): row["min"]
        for row in rows
        if row["name"].startswith("test_radius_graph[16 x 70-") and row["threads"] == 1
    }
    if "native" not in found:
        return
    native, conditions = found.pop("native"), "16 x 70 atoms, 0.5 nm"
    measured = f"{native * 1e3:.3f}"
    yield Target("radius graph, ms", conditions, "0.100", measured, native <= 1e-4)
    if found:
        peer = min(found, key=lambda name: found[name])
        ratio = found[peer] / native
        what = f"radius graph, times as fast as the fastest other ({peer})"
        yield Target(what, conditions, "1", f"{ratio:.1f}", ratio > 1)
