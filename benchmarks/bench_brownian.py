"""Brownian trajectories: the kernel on one thread and on two, its definition in NumPy, and deeptime's generator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tito_fast._extension import build_info
from tito_fast.systems import (
    MULLER_BROWN,
    PRINZ,
    brownian_reference,
    brownian_trajectories,
    equilibrium_samples,
)

POTENTIALS = {"prinz": PRINZ, "muller-brown": MULLER_BROWN}
KINDS = ("float32", "float32 x 2", "float64", "reference", "deeptime")
# Trajectories and frames of 500 steps: enough that one call takes tenths of a second.
SIZES = {"reference": (1024, 2), "deeptime": (256, 5)}
FULL_SIZE = (2048, 41)


@pytest.mark.parametrize("system", POTENTIALS)
@pytest.mark.parametrize("kind", KINDS)
def test_brownian(benchmark: Any, kind, system):
    potential = POTENTIALS[system]
    if kind == "deeptime" and system != "prinz":
        pytest.skip("deeptime has no such potential")
    n_trajectories, n_frames = SIZES.get(kind, FULL_SIZE)
    simulate = _simulation(kind, potential, n_trajectories, n_frames)
    frames = benchmark(simulate)
    assert frames.shape == (n_trajectories, n_frames, potential.n_dims)
    expected = equilibrium_samples(potential, 100_000, seed=1)
    for dim in range(potential.n_dims):
        assert stats.ks_2samp(frames[:, -1, dim], expected[:, dim]).pvalue > 1e-4
    # The first steps are those of the definition.
    if kind.startswith("float"):
        first = _simulation("reference", potential, 65, 2)()
        np.testing.assert_allclose(frames[:65, :2], first, atol=1e-3)
    n_steps = n_trajectories * (n_frames - 1) * potential.steps_per_frame
    benchmark.extra_info.update(
        device="cpu",
        isa=str(build_info()["isa"]),
        dtype="float64" if kind in {"float64", "reference", "deeptime"} else "float32",
        threads=2 if kind.endswith("x 2") else 1,
        n_steps=n_steps,
    )
    if benchmark.stats is not None:
        benchmark.extra_info["steps_per_s"] = n_steps / benchmark.stats.stats.min


def _simulation(
    kind: str, potential: Any, n_trajectories: int, n_frames: int
) -> Callable[[], np.ndarray]:
    arguments = {
        "n_trajectories": n_trajectories,
        "n_frames": n_frames,
        "steps_per_frame": potential.steps_per_frame,
        "time_step": potential.time_step,
        "seed": 7,
    }
    if kind == "reference":
        return lambda: brownian_reference(potential, **arguments)
    if kind == "deeptime":
        return _deeptime(potential, n_trajectories, n_frames)
    dtype = np.float64 if kind == "float64" else np.float32
    n_threads = 2 if kind.endswith("x 2") else 1
    return lambda: brownian_trajectories(potential, **arguments, dtype=dtype, n_threads=n_threads)


def _deeptime(potential: Any, n_trajectories: int, n_frames: int) -> Callable[[], np.ndarray]:
    from deeptime.data import prinz_potential  # noqa: PLC0415  slow to import

    system = prinz_potential(h=potential.time_step, n_steps=potential.steps_per_frame)
    start = equilibrium_samples(potential, n_trajectories, seed=7)
    return lambda: np.asarray(system.trajectory(start, n_frames, seed=7, n_jobs=1))
