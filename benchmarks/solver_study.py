"""What solver steps buy: divergence and VAMP-2 gap against the number of network evaluations, for every solver.

    python -m benchmarks.solver_study --data DIR --model smallmol --out FILE.json --page docs/solvers.md

Molecules are rolled out and evaluated as by ``benchmarks.validation``. A rollout step of an equal number of evaluations
costs the same with every solver, but for the state updates.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.validation import data_hash, figures, molecule_folders, validate
from tito_fast import RolloutConfig, load_model
from tito_fast.solvers import SOLVERS

KEPT = ("jsd_tica", "jsd_torsions", "vamp2_gap", "coverage", "precision")
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # told apart by the color-blind


def runs(evaluations):
    """Return the pairs of solver and steps that take ``evaluations`` of the network in a rollout step."""
    return [
        (name, evaluations // solver.n_evaluations)
        for name, solver in SOLVERS.items()
        if evaluations % solver.n_evaluations == 0
    ]


def study(folders, model, config, numbers, *, n_jobs):
    """Yield one row per solver and number of evaluations."""
    for number in numbers:
        for solver, n_ode_steps in runs(number):
            with tempfile.TemporaryDirectory() as work:
                evaluations, took_s = validate(
                    folders,
                    model,
                    replace(config, solver=solver, n_ode_steps=n_ode_steps),
                    Path(work),
                    n_jobs=n_jobs,
                )
            found = figures(evaluations)
            row = {
                "solver": solver,
                "n_evaluations": number,
                "n_ode_steps": n_ode_steps,
                "sampling_s": took_s,
                "metrics": {name: found["metrics"][name] for name in KEPT},
                "soundness": found["soundness"],
            }
            sys.stderr.write(f"{solver} {n_ode_steps}: {took_s:.1f} s\n")
            yield row


def page(report):
    """Return the Markdown page of a report."""
    config = report["config"]
    lines = [
        "# Solvers",
        "",
        f"Model `{report['model']}` on {report['n_molecules']} molecules that it never saw, lag "
        f"{config['lag_times_ps'][0]:g} ps, {config['n_replicas']} replicas of {config['n_rollout_steps']} steps, "
        f"against MD ({report['date']}). Means over molecules; less is better, for the gap in size. MD against itself "
        "scores "
        f"{report['rows'][0]['metrics']['jsd_tica']['md_floor_mean']:.3f} in JSD, an exact sampler with as many frames "
        f"{report['rows'][0]['metrics']['jsd_tica']['ideal_mean']:.3f}.",
        "",
        "![divergence and gap against evaluations](images/solvers.png)",
        "",
        "| evaluations per step | solver | steps | JSD, TIC 1-2 | JSD, torsions | VAMP-2 gap | sound bonds | clashes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        metrics, sound = row["metrics"], row["soundness"]
        gap = metrics["vamp2_gap"]["mean"]
        lines.append(
            f"| {row['n_evaluations']} | `{row['solver']}` | {row['n_ode_steps']} "
            f"| {metrics['jsd_tica']['mean']:.3f} | {metrics['jsd_torsions']['mean']:.3f} "
            f"| {'-' if gap is None else format(gap, '.2f')} "
            f"| {100 * sound['share_bonds_near_covalent']['mean']:.1f} % "
            f"| {100 * sound['share_clash_frames']['mean']:.1f} % |"
        )
    return "\n".join(lines) + "\n"


def draw(report, path):
    """Draw the figure of a report."""
    import matplotlib as mpl  # noqa: PLC0415  slow to import

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(1, 2, figsize=(7.0, 3.0), layout="constrained")
    for solver, color in zip(SOLVERS, COLORS, strict=True):
        rows = [row for row in report["rows"] if row["solver"] == solver]
        for axis, name in zip(axes, ("jsd_tica", "vamp2_gap"), strict=True):
            known = [row for row in rows if row["metrics"][name]["mean"] is not None]
            axis.plot(
                [row["n_evaluations"] for row in known],
                [row["metrics"][name]["mean"] for row in known],
                "o-",
                color=color,
                label=solver,
                markersize=4,
            )
    floor = report["rows"][0]["metrics"]["jsd_tica"]
    axes[0].axhline(floor["md_floor_mean"], color="0.5", linestyle="--", label="MD against MD")
    axes[0].axhline(floor["ideal_mean"], color="0.5", linestyle=":", label="exact sampler")
    axes[0].set_ylim(bottom=0.0)
    axes[1].axhline(0.0, color="0.5", linewidth=0.8)
    numbers = sorted({row["n_evaluations"] for row in report["rows"]})
    for axis, label in zip(axes, ("JSD, TIC 1-2 (nats)", "VAMP-2 gap"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.set_xlabel("network evaluations per rollout step")
        axis.set_ylabel(label)
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside upper center",
        fontsize=7,
        frameon=False,
        ncols=7,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    pyplot.close(figure)


def options(argv=None):
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="smallmol")
    parser.add_argument("--lag-ps", type=float, default=100.0)
    parser.add_argument("--n-steps", type=int, default=50)
    parser.add_argument("--replicas", type=int, default=16)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    return parser.parse_args(argv)


def main(argv=None):
    """Run the command line."""
    given = options(argv)
    folders, model = molecule_folders(given.data), load_model(given.model)
    config = RolloutConfig(
        lag_times_ps=(given.lag_ps,), n_rollout_steps=given.n_steps, n_replicas=given.replicas
    )
    report = {
        "model": given.model,
        "date": datetime.now(UTC).date().isoformat(),
        "data_sha256": data_hash(folders),
        "n_molecules": len(folders),
        "config": asdict(config),
        "rows": list(study(folders, model, config, given.evaluations, n_jobs=given.jobs)),
    }
    given.out.write_text(json.dumps(report, indent=1, default=str) + "\n")
    if given.page is not None:
        given.page.write_text(page(report))
        draw(report, given.page.parent / "images" / "solvers.png")


if __name__ == "__main__":
    main()
