"""How good a model is on molecules that it never saw: rolled out, and evaluated against their MD.

    python -m benchmarks.validation --data DIR --model smallmol --out FILE.json

Each folder in DIR is a molecule with ``molecule.sdf``, ``topology.pdb`` and ``trajectory.xtc``; its rollouts start from
the SDF's positions. Prints the table of TITO, Fig. 2 (means and medians over molecules) with MD's own noise and the
score of an exact sampler beside it. The data are named by their hash.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

from tito_fast import (
    EvaluationConfig,
    ReadOptions,
    RolloutConfig,
    evaluate,
    load_model,
    read_molecule,
    sample,
)
from tito_fast.analysis.aggregate import TABLE, aggregate
from tito_fast.data.store import file_sha256
from tito_fast.solvers import SOLVERS

SOUND = {
    "share_bonds_near_covalent": "bonds of sound length",
    "share_clash_frames": "frames with a clash",
    "share_inverted_frames": "frames with an inverted stereocenter",
}


def molecule_folders(data):
    """Return the folders of molecules in ``data``, by name."""
    folders = sorted(path.parent for path in Path(data).glob("*/molecule.sdf"))
    if not folders:
        raise ValueError(f"data: expected folders with a molecule.sdf, got none in {data}")
    return folders


def data_hash(folders):
    """Return one hash of all files that the figures follow from."""
    digest = hashlib.sha256()
    for folder in folders:
        for name in ("molecule.sdf", "topology.pdb", "trajectory.xtc"):
            digest.update(f"{folder.name}/{name} {file_sha256(folder / name)}\n".encode())
    return digest.hexdigest()


def validate(folders, model, config, work, *, n_jobs):
    """Roll every molecule out into ``work`` and return evaluations beside the seconds that sampling took."""
    began = time.perf_counter()
    molecules = [
        read_molecule(folder / "molecule.sdf", options=ReadOptions(name=folder.name))
        for folder in folders
    ]
    sample(molecules, config, out=work, model=model)
    took_s = time.perf_counter() - began
    runs = [work / folder.name for folder in folders]
    found = evaluate(runs, reference=folders, config=EvaluationConfig(n_jobs=n_jobs))
    return found, took_s


def figures(evaluations):
    """Return what is kept of evaluations: means, medians, and each molecule's metrics."""
    total = aggregate(evaluations)
    shares = {}
    for name in SOUND:
        values = [one.metrics[name].value for one in evaluations if name in one.metrics]
        values = [value for value in values if value is not None]
        shares[name] = {"n": len(values), "mean": sum(values) / len(values) if values else None}
    return {
        "metrics": {name: total["metrics"][name] for name in TABLE if name in total["metrics"]},
        "soundness": shares,
        "molecules": {
            one.name: {
                name: metric.to_dict()
                for name, metric in one.metrics.items()
                if name in TABLE or name in SOUND
            }
            for one in evaluations
        },
    }


def table(found):
    """Return the Markdown table of ``figures``."""

    def cell(row, *names):
        values = [row.get(name) for name in names]
        return " / ".join("-" if value is None else f"{value:.3f}" for value in values)

    lines = [
        "| mean / median over molecules | model | MD against MD | exact sampler | molecules |",
        "|---|---|---|---|---|",
    ]
    for name, words in TABLE.items():
        row = found["metrics"].get(name)
        if row is None:
            continue
        lines.append(
            f"| {words} | {cell(row, 'mean', 'median')} | {cell(row, 'md_floor_mean', 'md_floor_median')} "
            f"| {cell(row, 'ideal_mean', 'ideal_median')} | {row['n']} |"
        )
    for name, words in SOUND.items():
        share = found["soundness"][name]
        if share["n"]:
            lines.append(f"| {words} | {100 * share['mean']:.1f} % | | | {share['n']} |")
    return "\n".join(lines) + "\n"


def options(argv=None):
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="smallmol")
    parser.add_argument("--lag-ps", type=float, default=100.0)
    parser.add_argument("--n-steps", type=int, default=50)
    parser.add_argument("--replicas", type=int, default=64)
    parser.add_argument("--solver", choices=sorted(SOLVERS), default="euler")
    parser.add_argument("--ode-steps", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(argv)


def main(argv=None):
    """Run the command line."""
    given = options(argv)
    folders, model = molecule_folders(given.data), load_model(given.model)
    config = RolloutConfig(
        lag_times_ps=(given.lag_ps,),
        n_rollout_steps=given.n_steps,
        n_replicas=given.replicas,
        n_ode_steps=given.ode_steps,
        solver=given.solver,
    )
    with tempfile.TemporaryDirectory() as work:
        evaluations, took_s = validate(folders, model, config, Path(work), n_jobs=given.jobs)
    found = figures(evaluations)
    report = {
        "model": given.model,
        "data_sha256": data_hash(folders),
        "config": asdict(config),
        "sampling_s": took_s,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **found,
    }
    given.out.write_text(json.dumps(report, indent=1, default=str) + "\n")
    sys.stdout.write(f"{table(found)}\ndata: sha256 {report['data_sha256']}\n")


if __name__ == "__main__":
    main()
