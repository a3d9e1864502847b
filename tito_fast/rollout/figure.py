"""A picture of a rollout: which torsions it visits, how they move, whether its frames are sound."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.frame_flags import frame_flags, replica_times_ps
from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.run_directory import molecule_of_run, read_run, trajectory_files
from tito_fast.data.stereo import mol_with_stereo
from tito_fast.data.torsions import rotatable_torsions, torsion_angles, torsion_histograms
from tito_fast.data.validity import BOND_RANGE_NM
from tito_fast.data.writers import read_frames
from tito_fast.data.writers.disk import replace_file
from tito_fast.units import TIME_UNITS_PS, format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MAX_FRAMES: Final = 100_000
"""Frames drawn; of more, every n-th of each replica is taken."""

_MAX_MARGINALS, _MAX_SERIES = 6, 3
_DPI = 150
_GREY = "0.45"


@dataclass(frozen=True, eq=False, kw_only=True)
class RolloutData:
    """What is drawn of a rollout.

    Parameters
    ----------
    molecule : Molecule
    lag_times_ps : sequence of float
        The lags that the steps cycle through.
    positions : sequence of ndarray, shape (n_frames, n_atoms, 3), one per replica
        In nm.
    times_ps : sequence of ndarray, shape (n_frames,), one per replica
    n_frames : int
        Sampled; ``positions`` may hold fewer.
    validity : mapping or None
        As in ``validity.json``.
    """

    molecule: Molecule
    lag_times_ps: Sequence[float]
    positions: Sequence[NDArray[np.floating]]
    times_ps: Sequence[FloatArray]
    n_frames: int
    validity: Mapping[str, Any] | None = None


def rollout_figure(run: Path | str, path: Path | str) -> None:
    """Draw the rollout in the directory ``run`` as a PNG at ``path``.

    Needs no display. The file appears whole or not at all.

    Raises
    ------
    ValueError
        If ``run`` is not a rollout, or has no frames.
    OSError
        If a trajectory cannot be read or the picture not be written.
    """
    figure = draw_rollout(read_rollout(run))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    replace_file(Path(path), buffer.getvalue())


def read_rollout(run: Path | str, *, max_frames: int = MAX_FRAMES) -> RolloutData:
    """Return what is drawn of the rollout in the directory ``run``.

    Parameters
    ----------
    run : path
    max_frames : int
        Of more frames, every n-th is taken.

    Raises
    ------
    ValueError
        If ``run`` is not a rollout, or has no frames.
    """
    record = read_run(run)
    positions, times_ps = [], []
    n_frames = 0
    files = trajectory_files(run)
    for file in files:
        replica = int(file.stem[4:])
        exact_times_ps = replica_times_ps(run, replica, record=record)
        # Of a run that was killed while it dropped frames, times may be known of fewer.
        frames = read_frames(file).positions[: len(exact_times_ps)]
        n_frames += len(frames)
        if record["settings"].get("check") == "drop":
            n_frames += int(np.count_nonzero(frame_flags(run, replica)))
        # Whether a file is thinned follows from its own length, so that one pass is enough.
        stride = max(1, -(-len(frames) * len(files) // max_frames))
        positions.append(frames[::stride])
        times_ps.append(exact_times_ps[: len(frames)][::stride])
    if not n_frames:
        raise ValueError(f"run: expected a rollout with frames, got none in {str(run)!r}")
    validity_file = Path(run) / "validity.json"
    return RolloutData(
        molecule=molecule_of_run(run),
        lag_times_ps=record["settings"]["lag_times_ps"],
        positions=positions,
        times_ps=times_ps,
        n_frames=n_frames,
        validity=json.loads(validity_file.read_bytes()) if validity_file.is_file() else None,
    )


def draw_rollout(data: RolloutData) -> "Figure":
    """Return the figure: structure, torsion marginals, time series, bond lengths, validity."""
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import

    # Not by pyplot: that would pick a display and keep the figure.
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    figure.suptitle(_title(data), fontsize=12)
    torsions = rotatable_torsions(data.molecule)
    names = [_torsion_name(data.molecule, torsion) for torsion in torsions]
    top, middle, bottom = _parts(figure.subfigures(3, 1, height_ratios=(1.25, 1.0, 0.9)))
    left, right = _parts(top.subfigures(1, 2, width_ratios=(1, 2.4)))
    _draw_structure(left.subplots(), data.molecule, torsions[:_MAX_MARGINALS])
    everything = np.concatenate(list(data.positions))
    _draw_marginals(right, torsion_angles(everything, torsions), names)
    _draw_series(middle, data, torsions, names)
    lengths, shares = bottom.subplots(1, 2, width_ratios=(1.3, 1))
    _draw_bond_lengths(lengths, data.molecule, everything)
    _draw_validity(shares, data.validity)
    return figure


def _parts(subfigures: Any) -> list["SubFigure"]:  # noqa: ANN401  matplotlib says one or an array
    return list(np.ravel(subfigures))


def _title(data: RolloutData) -> str:
    lags = [format_time(lag_time_ps) for lag_time_ps in data.lag_times_ps]
    shown = ", ".join(lags) if len(lags) <= 4 else f"{', '.join(lags[:3])}, … ({len(lags)} lags)"
    n_replicas = len(data.positions)
    total_ps = sum(float(times[-1]) for times in data.times_ps if len(times))
    # A $ would start a formula; SMILES have none, labels may.
    name = data.molecule.name if len(data.molecule.name) <= 60 else data.molecule.name[:57] + "…"
    name = name.replace("$", r"\$")
    return (
        f"{name}   ·   lag {shown}   ·   {n_replicas} replica"
        f"{'s' if n_replicas != 1 else ''}, {data.n_frames - n_replicas:,} steps, "
        f"{format_time(total_ps)} in all"
    )


def _torsion_name(molecule: Molecule, torsion: IntArray) -> str:
    names = molecule.atom_names
    if len(set(names)) < len(names):
        from rdkit import Chem  # noqa: PLC0415  slow to import

        table = Chem.GetPeriodicTable()
        names = tuple(
            f"{table.GetElementSymbol(number)}{atom + 1}"
            for atom, number in enumerate(molecule.atomic_numbers.tolist())
        )
    return "-".join(names[atom].strip() for atom in torsion.tolist())


def _color(row: int) -> str:
    return f"C{row}"


def _draw_structure(axes: "Axes", molecule: Molecule, torsions: IntArray) -> None:
    """Draw the formula with the rotatable bonds in the colors of their torsions."""
    from matplotlib.colors import to_rgb  # noqa: PLC0415  slow to import
    from matplotlib.image import imread  # noqa: PLC0415  slow to import
    from rdkit import Chem, rdBase  # noqa: PLC0415  slow to import
    from rdkit.Chem import rdDepictor  # noqa: PLC0415  slow to import
    from rdkit.Chem.Draw import rdMolDraw2D  # noqa: PLC0415  slow to import

    with rdBase.BlockLogs():
        mol = mol_with_stereo(molecule)
        for atom in mol.GetAtoms():
            atom.SetIntProp("number", atom.GetIdx())
        mol = Chem.RemoveHs(mol, sanitize=False)
        rdDepictor.Compute2DCoords(mol)
        place = {atom.GetIntProp("number"): atom.GetIdx() for atom in mol.GetAtoms()}
        colors = {
            mol.GetBondBetweenAtoms(place[b], place[c]).GetIdx(): to_rgb(_color(row))
            for row, (_, b, c, _) in enumerate(torsions.tolist())
        }
        drawing = rdMolDraw2D.MolDraw2DCairo(700, 560)
        options = drawing.drawOptions()
        # Preparing would ask for valences.
        options.prepareMolsBeforeDrawing = False  # type: ignore[assignment]  # a wrong stub
        drawing.DrawMolecule(
            mol,
            highlightAtoms=[],
            highlightBonds=list(colors),
            highlightBondColors=colors,
        )
        drawing.FinishDrawing()
    axes.imshow(imread(io.BytesIO(drawing.GetDrawingText())))
    axes.axis("off")


def _draw_marginals(panel: "SubFigure", angles: FloatArray, names: Sequence[str]) -> None:
    """Draw the histogram of each torsion over all frames of all replicas."""
    n_shown = min(len(names), _MAX_MARGINALS)
    if not n_shown:
        _say(panel.subplots(), "no rotatable bonds between heavy atoms")
        return
    n_columns = 2 if n_shown == 4 else min(n_shown, 3)
    n_rows = -(-n_shown // n_columns)
    grid = panel.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    shares = torsion_histograms(angles)
    n_bins = shares.shape[1]
    edges = np.linspace(-180, 180, n_bins + 1)
    for row, axes in enumerate(grid):
        if row >= n_shown:
            axes.axis("off")
            continue
        # Per degree, so that the area is one.
        axes.stairs(shares[row] * n_bins / 360, edges, fill=True, color=_color(row), alpha=0.75)
        axes.set_title(names[row], fontsize=9)
        axes.set_xlim(-180, 180)
        axes.set_xticks([-180, -60, 60, 180])
        axes.tick_params(labelsize=8)
    more = f" (first {n_shown} of {len(names)})" if len(names) > n_shown else ""
    panel.supxlabel(f"torsion / °{more}", fontsize=9)
    panel.supylabel("density / per °", fontsize=9)


def _draw_series(
    panel: "SubFigure", data: RolloutData, torsions: IntArray, names: Sequence[str]
) -> None:
    """Draw the first torsions of the first replica against time, or its size if nothing turns."""
    positions, times_ps = data.positions[0], data.times_ps[0]
    unit = _time_unit(float(times_ps[-1])) if len(times_ps) else "ps"
    times = times_ps / TIME_UNITS_PS[unit]
    marker_size = 4.0 if len(times) <= 500 else 1.0
    n_shown = min(len(names), _MAX_SERIES)
    grid = panel.subplots(max(1, n_shown), 1, sharex=True, squeeze=False).ravel()
    if n_shown:
        angles = np.degrees(torsion_angles(positions, torsions[:n_shown]))
        for row, axes in enumerate(grid):
            axes.plot(times, angles[:, row], ".", ms=marker_size, color=_color(row))
            axes.set_ylim(-180, 180)
            axes.set_yticks([-180, 0, 180])
            axes.set_ylabel(names[row], fontsize=8, rotation=0, ha="right", va="center")
    else:
        centered = positions - positions.mean(axis=1, keepdims=True)
        radius = np.sqrt((centered**2).sum(axis=2).mean(axis=1))
        grid[0].plot(times, radius, ".", ms=marker_size)
        grid[0].set_ylabel("radius of gyration / nm", fontsize=8)
    for axes in grid:
        axes.tick_params(labelsize=8)
        axes.margins(x=0.01)
    grid[0].set_title("first replica", fontsize=9, loc="left")
    grid[-1].set_xlabel(f"time / {unit}", fontsize=9)


def _draw_bond_lengths(axes: "Axes", molecule: Molecule, positions: NDArray[np.floating]) -> None:
    """Draw the bond lengths of each pair of elements, with the range that counts as sound."""
    from rdkit import Chem  # noqa: PLC0415  slow to import

    table = Chem.GetPeriodicTable()
    first, second = molecule.bond_index[:, molecule.bond_index[0] < molecule.bond_index[1]]
    lengths = np.linalg.norm(positions[:, first] - positions[:, second], axis=2)
    kinds = [
        # Heavy element first, as chemists write them: C-H, C-O.
        "-".join(table.GetElementSymbol(int(z)) for z in sorted(pair, key=lambda z: (z == 1, z)))
        for pair in molecule.atomic_numbers[np.stack([first, second], axis=1)].tolist()
    ]
    edges = np.linspace(0.06, 0.24, 91)
    for kind in sorted(set(kinds)):
        of_kind = lengths[:, [index for index, each in enumerate(kinds) if each == kind]].ravel()
        shares = np.histogram(of_kind, bins=edges)[0] / (of_kind.size * np.diff(edges))
        axes.stairs(shares, edges, label=kind)
    for border in BOND_RANGE_NM:
        axes.axvline(border, color=_GREY, ls="--", lw=0.8)
    if kinds:
        axes.legend(fontsize=8, frameon=False)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("bond length / nm", fontsize=9)
    axes.set_ylabel("density / per nm", fontsize=9)
    axes.tick_params(labelsize=8)


def _draw_validity(axes: "Axes", validity: Mapping[str, Any] | None) -> None:
    """Draw the shares of what is sound as bars."""
    if validity is None:
        _say(axes, "validity.json is not written yet")
        return
    counts = validity["all"]
    low, high = validity["criteria"]["bond_range_nm"]
    rows = [
        (f"bonds {low:g} to {high:g} nm", counts["share_bonds_in_range"]),
        ("bonds near covalent radii", counts["share_bonds_near_covalent"]),
        ("frames without clash", _rest(counts["share_clash_frames"])),
        ("frames with stereocenters kept", _rest(counts["share_inverted_frames"])),
        ("frames with E/Z kept", _rest(counts["share_flipped_frames"])),
        ("frames without NaN", _rest(counts["share_nan_frames"])),
    ]
    shown = [(name, share) for name, share in rows if share is not None][::-1]
    axes.barh([name for name, _ in shown], [share for _, share in shown], color="C0", alpha=0.75)
    for row, (_, share) in enumerate(shown):
        # Rounded down: 100 % is said of all only.
        axes.text(0.02, row, f"{np.floor(share * 1e4) / 100:g} %", va="center", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.tick_params(labelsize=8)


def _rest(share: float | None) -> float | None:
    return None if share is None else 1.0 - share


def _time_unit(longest_ps: float) -> str:
    return next(
        (unit for unit in ("ms", "us", "ns") if longest_ps >= 2 * TIME_UNITS_PS[unit]), "ps"
    )


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, color=_GREY)
    axes.axis("off")
