"""The panel: a run beside its reference at the width of one printed column."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tito_fast.data.molecule import FloatArray
from tito_fast.units import TIME_UNITS_PS, format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure, SubFigure

MAX_TORSIONS: Final = 4
"""Torsions drawn; of more, those that differ most."""

# From the palette of Okabe and Ito, which people with any color vision can tell apart.
_REFERENCE: Final = "#000000"
_RUN: Final = "#D55E00"
_PAIRS: Final = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#999999",
    "#F0E442",
    "#000000",
)
_GREY: Final = "0.55"

_WIDTH_IN: Final = 3.4
_DPI: Final = 400
_FONT: Final = 7.0
_SMALL: Final = 6.0
_MAX_KT: Final = 7.0
_MAX_LAGS: Final = 10
_NARROW: Final = 40
# What figures are made and drawn with.
STYLE: Final[Any] = {
    "font.size": _FONT,
    "axes.titlesize": _FONT,
    "axes.labelsize": _FONT,
    "xtick.labelsize": _SMALL,
    "ytick.labelsize": _SMALL,
    "legend.fontsize": _SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0.3,
}


def panel_png(content: Mapping[str, Any]) -> bytes:
    """Return the panel as the content of a PNG file.

    Parameters
    ----------
    content : mapping
        Of ``metrics.json``.
    """
    import matplotlib as mpl  # noqa: PLC0415  slow to import

    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        draw_panel(content).savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def draw_panel(content: Mapping[str, Any]) -> "Figure":
    """Return the panel as a figure.

    With a reference: free energies in the plane of the slow coordinates on common axes and colors,
    torsions, implied time scales with intervals, decorrelation, bond lengths. Without: torsions,
    decorrelation, R-hat, bond lengths.

    Parameters
    ----------
    content : mapping
        Of ``metrics.json``.

    Notes
    -----
    Call it, and save the figure, within ``matplotlib.rc_context(STYLE)``.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415  slow to import

    arrays = content["arrays"]
    torsions = _chosen(arrays.get("torsions") or [])
    n_rows = max(1, -(-len(torsions) // 2))
    has_map = arrays.get("free_energy") is not None
    parts = [("map", 1.75)] if has_map else []
    parts += [("torsions", 0.35 + 0.85 * n_rows), ("kinetics", 1.6), ("bonds", 1.45)]
    heights = [height for _, height in parts]
    # Not by pyplot: that would pick a display and keep the figure.
    figure = Figure(
        figsize=(_WIDTH_IN, sum(heights) + 0.35),
        layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.02, wspace=0.05),
    )
    figure.suptitle(_title(content), fontsize=_FONT)
    rows = dict(
        zip(
            [name for name, _ in parts],
            _flat(figure.subfigures(len(parts), 1, height_ratios=heights)),
            strict=True,
        )
    )
    if has_map:
        _draw_map(rows["map"], content)
    _draw_torsions(
        rows["torsions"],
        torsions,
        n_all=len(arrays.get("torsions") or []),
        name=_run_name(content),
    )
    left, right = rows["kinetics"].subplots(1, 2)
    if arrays.get("timescales_ps") is not None:
        _draw_timescales(left, content)
    elif content["summary"]["reference"] is None:
        _draw_rhat(left, arrays["convergence"])
    else:
        _say(left, "too few pairs of frames\nfor time scales")
    _draw_decorrelation(right, content)
    _draw_bonds(rows["bonds"].subplots(), arrays["bond_length_histograms"], name=_run_name(content))
    return figure


def _flat(subfigures: Any) -> list["SubFigure"]:  # noqa: ANN401  matplotlib says one or an array
    return list(np.ravel(subfigures))


def _chosen(torsions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the torsions that differ most, in the order of the molecule."""
    if len(torsions) <= MAX_TORSIONS:
        return list(torsions)
    if "jsd" not in torsions[0]:
        return list(torsions[:MAX_TORSIONS])
    order = sorted(range(len(torsions)), key=lambda row: -(torsions[row]["jsd"]["value"] or 0.0))
    return [torsions[row] for row in sorted(order[:MAX_TORSIONS])]


def _title(content: Mapping[str, Any]) -> str:
    run = content["summary"]["run"]
    name = _short(content["molecule"], 34)
    lag = "" if run["lag_ps"] is None else f", lag {format_time(run['lag_ps'])}"
    return f"{name}{lag}, {run['n_replicas']} × {run['n_frames'] // run['n_replicas']} frames"


def _run_name(content: Mapping[str, Any]) -> str:
    return "model" if content["summary"]["run"]["kind"] in {"rollout", "relaxation"} else "run"


def _short(text: str, n: int) -> str:
    # A $ would start a formula.
    return (text if len(text) <= n else text[: n - 1] + "…").replace("$", r"\$")


def _draw_map(part: "SubFigure", content: Mapping[str, Any]) -> None:
    section = content["arrays"]["free_energy"]
    edges = [np.array(section[f"edges_{axis}"]) for axis in (1, 2)]
    energies = [
        np.array([[np.nan if value is None else value for value in row] for row in section[side]])
        for side in ("reference", "run")
    ]
    highest = min(_MAX_KT, max(np.nanmax(energy) for energy in energies))
    both = part.subplots(1, 2, sharex=True, sharey=True)
    jsd = content["jsd_tica"]["value"]
    name = _run_name(content)
    titles = ("MD", name if jsd is None else f"{name} (JSD {jsd:.2f})")
    mesh: Any = None
    for axes, energy, title in zip(both, energies, titles, strict=True):
        mesh = axes.pcolormesh(
            *edges, energy.T, cmap="viridis", vmin=0.0, vmax=max(highest, 1.0), rasterized=True
        )
        axes.set_title(title)
        axes.set_xlabel("TIC 1")
        axes.locator_params(nbins=4)
    both[0].set_ylabel("TIC 2")
    bar = part.colorbar(
        mesh, ax=list(both), aspect=18, pad=0.02, extend="max" if highest == _MAX_KT else "neither"
    )
    bar.set_label("free energy / kT")
    bar.ax.tick_params(width=0.6)
    bar.outline.set_linewidth(0.6)


def _draw_torsions(
    part: "SubFigure", torsions: Sequence[Mapping[str, Any]], *, n_all: int, name: str
) -> None:
    if not torsions:
        _say(part.subplots(), "no torsions")
        return
    n_columns = min(2, len(torsions))
    n_rows = -(-len(torsions) // n_columns)
    grid = part.subplots(n_rows, n_columns, sharex=True, squeeze=False)
    for position, axes in enumerate(grid.ravel()):
        if position >= len(torsions):
            axes.axis("off")
            continue
        torsion = torsions[position]
        share = np.array(torsion["share_run"])
        edges = np.linspace(-180, 180, len(share) + 1)
        per_degree = len(share) / 360
        if torsion["share_reference"] is not None:
            axes.stairs(
                100 * per_degree * np.array(torsion["share_reference"]),
                edges,
                fill=True,
                color=_REFERENCE,
                alpha=0.25,
                lw=0,
                label="MD",
            )
        axes.stairs(100 * per_degree * share, edges, color=_RUN, lw=1.0, label=name)
        axes.set_title(_short(torsion["name"], 26), pad=2.5)
        axes.set_xlim(-180, 180)
        axes.set_xticks([-180, -90, 0, 90, 180])
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", nbins=3)
        if position == 0:
            # Room for the legend above the peaks.
            axes.set_ylim(top=1.35 * axes.get_ylim()[1])
            axes.legend(loc="upper center", ncols=2, columnspacing=0.8)
    more = f" ({len(torsions)} of {n_all}, those that differ most)" if n_all > len(torsions) else ""
    part.supxlabel(f"torsion / °{more}", fontsize=_FONT)
    part.supylabel("density / % per °", fontsize=_FONT)


def _draw_timescales(axes: "Axes", content: Mapping[str, Any]) -> None:
    scales = content["arrays"]["timescales_ps"]
    lag_ps = content["summary"]["run"]["lag_ps"]
    longest = max(
        each[key]
        for side in scales.values()
        for each in side
        for key in ("value", "high")
        if each[key] is not None
    )
    unit, factor = _unit(max(longest, lag_ps))
    n_shown = 0
    for side, offset, color, marker, label in (
        ("reference", -0.15, _REFERENCE, "o", "MD"),
        ("run", 0.15, _RUN, "s", _run_name(content)),
    ):
        known = [(k, each) for k, each in enumerate(scales[side], 1) if each["value"] is not None]
        n_shown = max([n_shown, *(k for k, _ in known)])
        values = np.array([each["value"] for _, each in known]) / factor
        ends = [
            np.array([np.nan if each[end] is None else each[end] for _, each in known]) / factor
            for end in ("low", "high")
        ]
        errors = np.nan_to_num(np.stack([values - ends[0], ends[1] - values])).clip(min=0.0)
        # A bar to zero has no place on a logarithmic axis.
        errors[0] = np.minimum(errors[0], 0.999 * values)
        axes.errorbar(
            [k + offset for k, _ in known],
            values,
            yerr=errors,
            fmt=marker,
            ms=2.6,
            lw=0.8,
            color=color,
            label=label,
        )
    axes.set_yscale("log")
    _label_decades(axes.yaxis, subs=(1.0, 2.0, 5.0))
    low, high = lag_ps / factor / 8, 2.5 * max(longest, lag_ps) / factor
    axes.set_ylim(low, high)
    axes.axhspan(low, lag_ps / factor, color="0.9", lw=0, zorder=0)
    # Where the slow processes are above it.
    axes.text(
        0.04, low * 1.12, "below the lag", va="bottom", fontsize=_SMALL, color="0.35",
        transform=axes.get_yaxis_transform(),
    )  # fmt: skip
    axes.set_xlim(0.4, max(n_shown, 1) + 0.6)
    axes.set_xticks(range(1, n_shown + 1, 1 if n_shown <= 6 else 3))
    axes.set_xlabel("process")
    axes.set_ylabel(f"implied time scale / {unit}")
    axes.legend(loc="upper right")


def _draw_decorrelation(axes: "Axes", content: Mapping[str, Any]) -> None:
    arrays = content["arrays"]
    section = arrays.get("correlations")
    found = None if section is None else _function(section, arrays.get("torsions") or [])
    if section is None or found is None:
        _say(axes, "nothing decorrelates")
        return
    functions, what = found
    times = section["times_ps"]
    longest = times["run"][min(len(times["run"]) - 1, _MAX_LAGS)]
    unit, factor = _unit(longest)
    for side, color, marker, label in (
        ("reference", _REFERENCE, "", "MD"),
        ("run", _RUN, "s", _run_name(content)),
    ):
        function = functions.get(side)
        if function is None or times[side] is None:
            continue
        shown = slice(1, int(np.searchsorted(times[side], longest * 1.001)))
        x = np.array(times[side])[shown] / factor
        values = _numbers(function["value"])[shown]
        axes.plot(
            x,
            values,
            color=color,
            marker=marker,
            ms=2.2,
            lw=1.0 if side == "reference" else 0.7,
            label=label,
        )
        if "low" in function:
            low, high = (_numbers(function[end])[shown] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    axes.axhline(0.0, color=_GREY, lw=0.5, zorder=0)
    axes.set_xscale("log")
    shortest = min(each[1] for each in times.values() if each is not None and len(each) > 1)
    is_narrow = longest < _NARROW * shortest
    _label_decades(axes.xaxis, subs=(1.0, 2.0, 5.0) if is_narrow else (1.0,))
    axes.set_ylim(-0.25, 1.05)
    axes.set_xlabel(f"time / {unit}")
    axes.set_title(what, pad=2.5)
    axes.set_ylabel("correlation")
    axes.legend(loc="best")


def _function(
    section: Mapping[str, Any], torsions: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], str] | None:
    """Return the functions to draw: of TIC 1, otherwise of the torsion that is slowest in the run."""
    if section["tica_1"] is not None and section["tica_1"]["run"] is not None:
        return section["tica_1"], "TIC 1"
    known = [
        (row, each)
        for row, each in enumerate(section["torsions"])
        if each["run"] is not None and len(each["run"]["value"]) > 1
    ]
    if not known:
        return None
    row, slowest = max(
        known, key=lambda pair: float(np.nansum(_numbers(pair[1]["run"]["value"][1:4])))
    )
    return slowest, _short(torsions[row]["name"], 26)


def _draw_rhat(axes: "Axes", convergence: Sequence[Mapping[str, Any]]) -> None:
    known = [(row["name"], row["rhat"]) for row in convergence if row["rhat"] is not None]
    if not known:
        _say(axes, "too few frames for R-hat")
        return
    shown = sorted(known, key=lambda pair: -pair[1])[:6][::-1]
    axes.plot([value for _, value in shown], range(len(shown)), "s", color=_RUN, ms=3)
    axes.axvline(1.01, color=_GREY, lw=0.8, ls="--")
    axes.set_yticks(range(len(shown)), [_short(name, 14) for name, _ in shown])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0.995, max(1.03, 1.05 * max(value for _, value in shown) - 0.05))
    axes.locator_params(axis="x", nbins=3)
    axes.set_xlabel("split R-hat (aim: 1.01)")


def _draw_bonds(axes: "Axes", section: Mapping[str, Any], *, name: str) -> None:
    edges = np.array(section["edges_nm"])
    width = edges[1] - edges[0]
    filled = []
    for color, (kind, shares) in zip(
        _PAIRS * (len(section["pairs"]) // len(_PAIRS) + 1), section["pairs"].items(), strict=False
    ):
        run = np.array(shares["run"])
        filled.append(run)
        if shares["reference"] is not None:
            reference = np.array(shares["reference"])
            filled.append(reference)
            axes.stairs(reference / width, edges, fill=True, color=color, alpha=0.3, lw=0)
        axes.stairs(run / width, edges, color=color, lw=0.9, label=kind)
    if not filled:
        _say(axes, "no bonds")
        return
    visible = np.flatnonzero(np.max(filled, axis=0) > 2e-3)
    axes.set_xlim(edges[visible[0]] - 4 * width, edges[visible[-1] + 1] + 4 * width)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=4)
    axes.set_xlabel("bond length / nm")
    axes.set_ylabel("density / nm$^{-1}$")
    title = (
        f"filled MD\nline {name}"
        if any(each["reference"] is not None for each in section["pairs"].values())
        else None
    )
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.05), title=title,
        title_fontsize=_SMALL,
    )  # fmt: skip


def _unit(longest_ps: float) -> tuple[str, float]:
    for unit in ("ms", "us", "ns"):
        if longest_ps >= 2 * TIME_UNITS_PS[unit]:
            return unit.replace("us", "µs"), TIME_UNITS_PS[unit]
    return "ps", 1.0


def _label_decades(axis: "Axis", *, subs: Sequence[float]) -> None:
    """Write the ticks of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415  slow to import

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _numbers(values: Sequence[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color=_GREY, transform=axes.transAxes)
    axes.axis("off")
