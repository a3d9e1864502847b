"""The figure of each experiment."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_ITO, _BOPITO, _GREY = "tab:orange", "tab:blue", "0.4"
_Draw = Callable[[dict[str, Any]], Figure]

_FLOOR: Final = 1e-4
"""Below every error that can be told apart from the noise of its estimate."""


def figure_of(experiment: str, results: dict[str, Any]) -> Figure:
    """Return the figure of an experiment's results."""
    draw: dict[str, _Draw] = {
        "prinz-bopito": _bopito,
        "prinz-data": _data,
        "prinz-interpolate": _interpolate,
        "ala2-bopito": _ala2,
    }
    return draw[experiment](results)


def _bopito(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    _errors_over_lag(axes[0, 0], results)
    _errors_over_data(axes[0, 1], results)
    _factors(axes[1, 0], results)
    _densities(axes[1, 1], results["equilibrium"])
    return figure


def _name_ticks(axis: Axes, values: Sequence[float]) -> None:
    """Mark these values on the logarithmic horizontal axis, and no others."""
    axis.set_xscale("log")
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.set_xticks([], minor=True)


def _errors_over_lag(axis: Axes, results: dict[str, Any]) -> None:
    exact = np.array(results["correlations"]["exact"])
    number = min(results["correlations"]["bopito"], key=int)
    shown = [("bopito", number, _BOPITO, "-")]
    shown += [
        ("ito", n, _ITO, style)
        for n, style in zip(
            [n for n in sorted(results["correlations"]["ito"], key=int) if int(n) >= int(number)],
            ("-", "--", "-.", ":"),
            strict=False,
        )
    ]
    for kind, n, color, style in shown:
        errors = np.abs(np.array(results["correlations"][kind][n]) - exact)
        name = "BoPITO" if kind == "bopito" else "ITO"
        axis.plot(
            results["lags_frames"],
            np.maximum(errors.mean(axis=0), _FLOOR),
            style,
            color=color,
            marker="o",
            markersize=3,
            label=f"{name}, {n} trajectories",
        )
    axis.set(yscale="log", xlabel="lag / frames", ylabel="|C - C exact|")
    # These two lie so close to their neighbors that the labels would meet.
    _name_ticks(axis, [lag for lag in results["lags_frames"] if lag not in {75, 750}])
    axis.set_title("Error over the lag, mean of seeds")
    axis.legend(fontsize=8)


def _errors_over_data(axis: Axes, results: dict[str, Any]) -> None:
    styles = dict(zip(("short", "medium", "long"), (":", "--", "-"), strict=True))
    for kind, color, label in (("ito", _ITO, "ITO"), ("bopito", _BOPITO, "BoPITO")):
        errors = results["mean_errors"][kind]
        numbers = sorted(map(int, errors))
        for name in results["ranges"]:
            per_seed = np.array([errors[str(n)][name] for n in numbers])
            axis.plot(
                numbers, per_seed.mean(axis=1), styles[name], color=color, label=f"{label}, {name}"
            )
            if name == "long":
                for seed in per_seed.T:
                    axis.plot(numbers, seed, ".", color=color, alpha=0.4, markersize=4)
    axis.set(yscale="log", xlabel="trajectories", ylabel="mean |C - C exact|")
    _name_ticks(axis, sorted(map(int, results["mean_errors"]["ito"])))
    axis.set_title("Error over the data; points: seeds, long lags")
    axis.legend(fontsize=8, ncols=2)


def _factors(axis: Axes, results: dict[str, Any]) -> None:
    colors = {"short": "0.65", "medium": "tab:green", "long": _BOPITO}
    for offset, (name, factors) in enumerate(results["factors"].items()):
        for factor in factors:
            x = factor["n_trajectories"] * 1.08 ** (offset - 1)
            low, best, high = (factor[key] for key in ("low", "k", "high"))
            text = factor["text"]
            top, bottom = factor["largest"], factor["smallest"]
            is_above = best is None and text.startswith(">")
            value = best if best is not None else top if is_above else bottom
            ends = (
                low if low is not None else top if is_above else bottom,
                high if high is not None else top,
            )
            axis.plot([x, x], ends, color=colors[name])
            marker = "o" if best is not None else "^" if is_above else "v"
            label = f"{name} lags" if factor is factors[0] else None
            axis.plot(x, value, marker, color=colors[name], label=label)
    axis.axhline(results["published_factor"], color=_GREY, linestyle="--", linewidth=1)
    axis.text(
        0.99, results["published_factor"], "published: 10", transform=axis.get_yaxis_transform(),
        ha="right", va="bottom", fontsize=8, color=_GREY,
    )  # fmt: skip
    axis.set(yscale="log", xlabel="n, trajectories of BoPITO", ylabel="k(n)")
    _name_ticks(axis, sorted(map(int, results["mean_errors"]["bopito"])))
    axis.set_title("ITO needs k·n trajectories (▲ more than measured, ▼ fewer)")
    axis.legend(fontsize=8)


def _densities(axis: Axes, equilibrium: dict[str, Any]) -> None:
    histogram = equilibrium["histogram"]
    centers = histogram["centers"]
    axis.fill_between(centers, histogram["exact"], color="0.85", step="mid", label="exact")
    axis.step(centers, histogram["prior"], where="mid", color="k", linewidth=0.8, label="prior")
    axis.step(
        centers,
        histogram["bopito"],
        where="mid",
        color=_BOPITO,
        linewidth=0.8,
        label=f"BoPITO, lag {equilibrium['lag_frames']}",
    )
    axis.set(xlabel="x", ylabel="density", ylim=(0, None))
    axis.set_title(
        f"KS to exact: BoPITO {np.mean(equilibrium['ks_bopito_to_exact']):.4f}, "
        f"prior {np.mean(equilibrium['ks_prior_to_exact']):.4f}"
    )
    axis.legend(fontsize=8)


def _data(results: dict[str, Any]) -> Figure:
    gaps = results["gap"]
    figure = Figure(figsize=(3.6 * len(gaps), 6), layout="constrained")
    axes = figure.subplots(2, len(gaps), squeeze=False, sharey="row", sharex=True)
    lags = results["lags_frames"]
    exact = np.array(results["correlations"]["exact"])
    names = (("generator", _BOPITO, "samples"), ("single", _ITO, f"x = {results['single_start']}"))
    for column, (number, gap) in enumerate(gaps.items()):
        top, bottom = axes[0, column], axes[1, column]
        top.plot(lags, exact, color="k", linewidth=1, label="exact")
        for name, color, label in names:
            found = np.array(results["correlations"][name][number])
            top.plot(lags, found.T, color=color, alpha=0.25, linewidth=0.8)
            top.plot(lags, found.mean(axis=0), color=color, label=f"starts: {label}")
        top.set_title(f"{number} trajectories")
        bottom.fill_between(lags, gap["low"], gap["high"], color=_GREY, alpha=0.3, linewidth=0)
        bottom.plot(lags, gap["mean"], color=_GREY, marker="o", markersize=3)
        bottom.axhline(0, color="k", linewidth=0.6)
        bottom.set(xlabel="lag / frames")
    axes[0, 0].set_ylabel("C")
    axes[1, 0].set_ylabel("error of one start\nless error of samples")
    axes[0, 0].legend(fontsize=8)
    return figure


def _interpolate(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9.5, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = np.array(results["grid_n_int"])
    curves = np.maximum(np.array(results["model_correlations"]), _FLOOR)
    left.plot(grid, results["exact_correlations"], color="k", label="exact, N")
    left.plot(grid, curves[1:].T, color=_BOPITO, alpha=0.2, linewidth=0.8)
    left.plot(grid, curves[0], color=_BOPITO, marker="o", markersize=3, label="model, N_int")
    left.axvline(results["max_lag_frames"], color=_GREY, linestyle="--", linewidth=1)
    left.text(
        results["max_lag_frames"], 0.02, " longest lag seen", transform=left.get_xaxis_transform(),
        fontsize=8, color=_GREY,
    )  # fmt: skip
    left.set(yscale="log", xlabel="N or N_int / frames", ylabel="C", ylim=(2e-3, 1))
    _name_ticks(left, results["max_lag_frames"] * np.array([0.5, 1, 2, 4, 8]))
    left.legend(fontsize=8)
    left.set_title("Correlation over the interpolation")
    held_back = np.array([fit["held_back"] for fit in results["fits"]])
    found = np.array([fit["n_int"] for fit in results["fits"]])
    ends = np.array([[fit["low"], fit["high"]] for fit in results["fits"]])
    bars = np.abs(ends.T - found)
    right.errorbar(held_back, found, bars, fmt="o", color=_BOPITO, capsize=3)
    span = [0.8 * held_back.min(), 1.2 * held_back.max()]
    right.plot(span, span, color="k", linewidth=0.8)
    right.set(xlabel="N held back / frames", ylabel="N_int found / frames")
    right.set_title("Lags found again from C alone, 95 %")
    return figure


def _ala2(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9.5, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    lags, md = results["lags_ps"], results["md"]
    left.fill_between(lags, md["low"], md["high"], color="0.85", label="MD, 95 %")
    left.plot(lags, md["correlation"], color="k", label="MD, held back")
    for kind, color, label in (("ito", _ITO, "ITO"), ("bopito", _BOPITO, "BoPITO")):
        of_kind = results["correlations"][kind]
        widths = np.linspace(0.6, 1.8, len(of_kind))
        for (number, values), width in zip(of_kind.items(), widths, strict=True):
            name = f"{label}, {number} trajectories"
            mean = np.mean(values, axis=0)
            left.plot(lags, mean, "o-", color=color, linewidth=width, markersize=3, label=name)
    left.set(xlabel="lag / ps", ylabel="C of phi")
    _name_ticks(left, lags)
    left.legend(fontsize=7)
    _errors_over_data(right, results)
    right.set(ylabel="mean |C MD - C|")
    return figure
