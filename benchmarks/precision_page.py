"""The page of ``benchmarks.precision``."""

import os
from pathlib import Path
from typing import Any

import numpy as np

_HEAD = """\
# Precision of products

The Triton operations take `precision=`: how the matrix products of the network multiply float32. All else (sums of
products, norms, activations, encodings of distances, sums over neighbors, positions, the solver's steps) is float32 in
all of them.

| precision | factors | products |
|--|--|--|
| `ieee` | float32 | one, on the units for float32: slow, for tests and for the last digit |
| `fp32` | two bf16 parts each, about 16 bits of mantissa | three (high·high + high·low + low·high) |
| `tf32` | TF32: the last 13 bits of the mantissa cut off | one |
| `bf16` | the nearest bf16 | one, at twice the rate of TF32 |
"""

_EMULATION = """\
## What was computed

No GPU is needed for these figures. The backend `eager` ran on the CPU with the factors of every product of a weight
and features rounded as above and their products summed in float32 (`benchmarks/precision_products.py`): products of
two bf16 or two TF32 numbers are exact in float32, so that a kernel differs from this in the order of its sums only. The
sums over neighbors were left in float32, as in the kernels. Not emulated: that a compiler may fuse a product and a sum
elsewhere, and the `exp` of a GPU. Rows without *emulated* are computed by what they name.
"""


def page(results: dict[str, Any], out: Path, target: Path) -> str:
    """Return the results as a Markdown page at ``target``; ``out`` is their file."""
    link = Path(os.path.relpath(out, target.parent)).as_posix()
    lines = [
        _HEAD,
        f"Measured on the shipped model `{results['model']}`, {results['date']}, torch {results['versions']['torch']}, "
        f"instruction set {results['isa']}; made by `python -m benchmarks.precision` from [{out.name}]({link}).",
        "",
        _EMULATION,
        *_velocity(results),
        "",
        *_torsions(results),
    ]
    return "\n".join(lines) + "\n"


def _velocity(results: dict[str, Any]) -> list[str]:
    names = ", ".join(f"`{each['smiles']}`" for each in results["torsions"])
    lines = [
        "## Error of the velocity",
        "",
        f"Against float64, relative to the rms of the velocity, over {results['n_states']} states of each of",
        f"{names} (of the model's validation set): the condition",
        "a frame of a rollout, the state between noise and the next frame at a random flow time, lags of 1 to",
        f"{results['lag_ps']:g} ps.",
        "",
        "| | rms error | largest error |",
        "|--|--|--|",
    ]
    for row in results["velocity"]:
        if "not_run" in row:
            lines.append(f"| {row['mode']} | not run: {row['not_run']} | |")
        else:
            lines.append(f"| {row['mode']} | {row['rms_error']:.1e} | {row['largest_error']:.1e} |")
    return lines


def _torsions(results: dict[str, Any]) -> list[str]:
    molecules = results["torsions"]
    n_torsions = sum(each["n_torsions"] for each in molecules)
    lines = [
        "## Torsions of trajectories",
        "",
        f"{molecules[0]['n_frames']} frames of each molecule ({results['n_replicas']} replicas, "
        f"{results['n_steps']} steps of {results['lag_ps']:g} ps, {results['n_ode_steps']} Euler steps each) against",
        "as many with exact products: mean torsion JSD (36 bins, natural logarithm) over the "
        f"{n_torsions} rotatable bonds.",
        "*Other noise*: the exact trajectories have other seeds, three of them; to be read beside the *floor*, exact",
        "trajectories of two seeds. *Same noise*: the seed is the same; what differs is what rounding alone did. *One",
        "step*: rms displacement of an atom after the first step from the same noise.",
        "",
        "| | JSD, other noise | JSD, same noise | one step, nm |",
        "|--|--|--|--|",
    ]
    floors = _over_torsions([each["jsd_floor"] for each in molecules])
    lines.append(f"| floor: exact, two seeds | {_spread(floors)} | 0 | 0 |")
    for index, first in enumerate(molecules[0]["modes"]):
        rows = [each["modes"][index] for each in molecules]
        if "not_run" in first:
            lines.append(f"| {first['mode']} | not run: {first['not_run']} | | |")
            continue
        other = _over_torsions([row["jsd_other_noise"] for row in rows])
        same = np.concatenate([row["jsd_same_noise"] for row in rows]).mean()
        moved = np.sqrt(np.mean([row["rms_nm_after_one_step"] ** 2 for row in rows]))
        lines.append(f"| {first['mode']} | {_spread(other)} | {same:.5f} | {moved:.1e} |")
    return lines


def _over_torsions(of_molecules: list[list[list[float]]]) -> Any:
    """Return the mean over all torsions of all molecules, for each pair of seeds."""
    return np.concatenate([np.asarray(each) for each in of_molecules], axis=1).mean(axis=1)


def _spread(values: Any) -> str:
    return f"{values.mean():.4f} ({values.min():.4f} to {values.max():.4f})"
