"""The short table of each experiment, for people."""

from typing import Any

import numpy as np


def table_of(experiment: str, results: dict[str, Any]) -> str:
    """Return the lines that sum up the results of an experiment."""
    if experiment == "prinz-bopito":
        return "\n".join(_bopito(results))
    if experiment == "prinz-data":
        return "\n".join(_data(results))
    if experiment == "ala2-bopito":
        return "\n".join(_ala2(results))
    return "\n".join(_interpolate(results))


def _bopito(results: dict[str, Any]) -> list[str]:
    lines = ["mean |C - C_exact| over seeds"]
    for name, lags in results["ranges"].items():
        lines.append(f"{name} lags ({', '.join(map(str, lags))} frames)")
        numbers = sorted(
            {int(n) for kind in ("ito", "bopito") for n in results["mean_errors"][kind]}
        )
        lines.append("  trajectories  ITO      BoPITO")
        for number in numbers:
            cells = [
                f"{np.mean(of_kind[str(number)][name]):.4f}" if str(number) in of_kind else "-"
                for of_kind in (results["mean_errors"]["ito"], results["mean_errors"]["bopito"])
            ]
            lines.append(f"  {number:<12d}  {cells[0]:<7s}  {cells[1]}")
        lines.extend(
            f"  ITO needs {factor['text']} times the data of BoPITO with {factor['n_trajectories']}"
            for factor in results["factors"][name]
        )
    equilibrium = results["equilibrium"]
    lines.append(
        f"lag {equilibrium['lag_frames']}: KS to the exact density "
        f"{np.mean(equilibrium['ks_bopito_to_exact']):.4f}, of the prior itself "
        f"{np.mean(equilibrium['ks_prior_to_exact']):.4f}; BoPITO to prior "
        f"{np.mean(equilibrium['ks_bopito_to_prior']):.4f}, 5 % critical value "
        f"{equilibrium['critical_5_percent_two_samples']:.4f}"
    )
    return lines


def _data(results: dict[str, Any]) -> list[str]:
    lags = results["lags_frames"]
    lines = [
        "error of C from trajectories of one start less that from a generator's samples",
        "  trajectories  " + "  ".join(f"{lag:>6d}" for lag in lags) + "  rise (95 %)",
    ]
    for number, gap in results["gap"].items():
        cells = "  ".join(f"{value:6.3f}" for value in gap["mean"])
        lines.append(
            f"  {number:<12s}  {cells}  {gap['rise']:.3f} ({gap['rise_low']:.3f} to {gap['rise_high']:.3f})"
        )
    return lines


def _interpolate(results: dict[str, Any]) -> list[str]:
    times = results["timescale_frames"]
    lines = [
        f"slowest time: {times['fitted']:.1f} frames fitted, {times['exact']:.1f} exact; "
        f"longest lag in the data {results['max_lag_frames']}",
        "  held-back N  N_int (95 %)",
    ]
    for fit in results["fits"]:
        verdict = "recovered" if fit["is_recovered"] else "missed"
        lines.append(
            f"  {fit['held_back']:<11d}  {fit['n_int']:.0f} ({fit['low']:.0f} to {fit['high']:.0f})  {verdict}"
        )
    return lines


def _ala2(results: dict[str, Any]) -> list[str]:
    lines = ["mean |C_MD - C| of phi over seeds"]
    errors = results["mean_errors"]
    for name, lags in results["ranges"].items():
        lines.append(f"{name} lags ({', '.join(f'{lag:g}' for lag in lags)} ps)")
        lines.append("  trajectories  ITO      BoPITO")
        lines.extend(
            f"  {number:<12s}  {np.mean(errors['ito'][number][name]):.4f}   "
            f"{np.mean(errors['bopito'][number][name]):.4f}"
            for number in errors["ito"]
        )
        lines.append(f"  C = 0 in place of a model: {results['mean_error_of_none'][name]:.4f}")
    return lines
