"""Brownian trajectories are those of the definition, whatever computes them, and obey statistical mechanics."""

import hashlib
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from tito_fast._extension import build_info, native_module
from tito_fast.errors import NonFiniteError
from tito_fast.systems import (
    MULLER_BROWN,
    PRINZ,
    HarmonicPotential,
    brownian,
    brownian_reference,
    brownian_trajectories,
    equilibrium_cdf,
    equilibrium_samples,
    transfer_spectrum,
)
from tito_fast.systems.brownian_reference import block_normals

POTENTIALS = {"prinz": PRINZ, "muller-brown": MULLER_BROWN, "harmonic": HarmonicPotential(2.0)}
STEPS = {"prinz": 1e-5, "muller-brown": 2e-6, "harmonic": 1e-2}
SHORT = {"n_trajectories": 70, "n_frames": 4, "steps_per_frame": 9, "seed": 2**63 + 5}


@pytest.fixture(params=list(POTENTIALS))
def system(request):
    return POTENTIALS[request.param], STEPS[request.param]


def native_normals(seed, dim, n_trajectories, n_steps):
    normals = np.full((n_trajectories, n_steps), np.nan, dtype=np.float32)
    native_module().brownian_normals_cpu(seed, dim, n_trajectories, n_steps, normals.ctypes.data)
    return normals


def test_normals_have_the_bits_of_the_definition():
    seed, n_blocks = 0x0123456789ABCDEF, 5
    expected = np.concatenate(
        [block_normals(seed, 131, block, 2) for block in range(n_blocks)], axis=2
    )
    for dim in (0, 1):
        found = native_normals(seed, dim, 131, 4 * n_blocks)
        assert np.array_equal(found.view(np.int32), expected[:, dim].copy().view(np.int32))


def test_normals_are_standard_and_independent():
    n = 2_000_000
    normals = native_normals(11, 0, 500, 4000)
    x = normals.ravel().astype(np.float64)
    square = x * x
    # Mean and errors of the first four powers of a standard normal.
    moments = ((x, 0, 1), (square, 1, 2), (square * x, 0, 15), (square * square, 3, 96))
    for power, mean, variance in moments:
        assert abs(power.mean() - mean) < 4 * np.sqrt(variance / n)
    assert stats.kstest(x[:400_000], "norm").pvalue > 1e-3
    for shift in ((0, 1), (0, 2), (0, 4), (1, 0)):
        moved = np.roll(normals, shift, axis=(0, 1)).ravel().astype(np.float64)
        assert abs((x * moved).mean()) < 4 / np.sqrt(n)
        assert abs((square * moved * moved).mean() - 1) < 4 * np.sqrt(8 / n)
    # Tails: 4 standard deviations and beyond, 6.3e-5 of all.
    beyond = (np.abs(x) > 4).sum()
    assert abs(beyond - 6.334e-5 * n) < 4 * np.sqrt(6.334e-5 * n)


def test_double_precision_matches_the_definition(system):
    potential, time_step = system
    arguments = {**SHORT, "time_step": time_step, "burn_in_frames": 2}
    expected = brownian_reference(potential, **arguments)
    found = brownian_trajectories(potential, **arguments, dtype=np.float64, n_threads=1)
    assert found.shape == expected.shape == (70, 4, potential.n_dims)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_single_precision_stays_by_double_precision(system):
    potential, time_step = system
    arguments = {**SHORT, "time_step": time_step, "n_threads": 1}
    double = brownian_trajectories(potential, **arguments, dtype=np.float64)
    single = brownian_trajectories(potential, **arguments)
    assert single.dtype == np.float32
    # 27 steps, each rounded two or three times.
    np.testing.assert_allclose(single, double, atol=81 * 2.0**-23)
    assert not np.array_equal(single, double)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_trajectories_do_not_depend_on_how_they_are_computed(system, dtype, monkeypatch):
    potential, time_step = system
    arguments = {**SHORT, "time_step": time_step, "dtype": dtype}
    start = equilibrium_samples(potential, 70, seed=1)
    once = brownian_trajectories(potential, **arguments, start=start, n_threads=1)
    assert np.array_equal(once[:, 0], start.astype(dtype))
    # Other numbers of threads and of trajectories beside, and calls of eight steps.
    monkeypatch.setattr(brownian, "_GROUP", 33)
    monkeypatch.setattr(brownian, "_STEPS_PER_CALL", 8 * 64)
    assert np.array_equal(
        once, brownian_trajectories(potential, **arguments, start=start, n_threads=2)
    )
    fewer = {**arguments, "n_trajectories": 19}
    assert np.array_equal(
        once[:19], brownian_trajectories(potential, **fewer, start=start[:19], n_threads=1)
    )


def test_threads_share_the_work_and_leave_the_bits():
    arguments = {"n_trajectories": 500, "n_frames": 3, "steps_per_frame": 300, "seed": 4}
    one, two = (
        brownian_trajectories(PRINZ, **arguments, time_step=1e-5, n_threads=n) for n in (1, 2)
    )
    assert np.array_equal(one, two)


def test_burn_in_drops_the_first_frames(system):
    potential, time_step = system
    arguments = {**SHORT, "time_step": time_step, "n_threads": 1}
    longer = brownian_trajectories(potential, **{**arguments, "n_frames": 7})
    assert np.array_equal(
        longer[:, 3:], brownian_trajectories(potential, **arguments, burn_in_frames=3)
    )


def test_equilibrium_start_is_that_of_the_seed():
    found = brownian_trajectories(PRINZ, **SHORT, time_step=1e-5, dtype=np.float64)
    assert np.array_equal(found[:, 0], equilibrium_samples(PRINZ, 70, seed=SHORT["seed"]))


_DIGEST = """
import hashlib, numpy as np
from tito_fast.systems import MULLER_BROWN, PRINZ, brownian_trajectories
digest = hashlib.sha256()
for potential, time_step in ((PRINZ, 1e-5), (MULLER_BROWN, 2e-6)):
    for dtype in (np.float32, np.float64):
        digest.update(brownian_trajectories(
            potential, n_trajectories=150, n_frames=3, steps_per_frame=50, time_step=time_step, seed=9, dtype=dtype,
            n_threads=1).tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits():
    sets = ["baseline", "avx2", "avx512", "avx512bf16"]
    sets = sets[: sets.index(str(build_info()["best_isa"])) + 1]
    digests = {
        subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-P", "-c", _DIGEST],
            env={**os.environ, "TITO_FAST_ISA": name},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in sets
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 2 * hashlib.sha256().digest_size


def test_harmonic_trajectories_are_the_ornstein_uhlenbeck_process():
    stiffness, time_step, n = 2.0, 0.01, 40_000
    x = brownian_trajectories(
        HarmonicPotential(stiffness),
        n_trajectories=n,
        n_frames=3,
        steps_per_frame=50,
        time_step=time_step,
        burn_in_frames=8,
        seed=2,
        n_threads=1,
    )[:, :, 0].astype(np.float64)
    # Exact for the discrete chain x' = a x + noise: a per step, variance 1 / (k (1 - k h / 2)).
    variance = 1 / (stiffness * (1 - stiffness * time_step / 2))
    decay = (1 - stiffness * time_step) ** 50
    assert abs(x.mean()) < 4 * np.sqrt(variance / n)
    assert abs((x[:, 0] ** 2).mean() / variance - 1) < 4 * np.sqrt(2 / n)
    product = x[:, 0] * x[:, 1]
    assert abs(product.mean() - decay * variance) < 4 * product.std() / np.sqrt(n)


@pytest.fixture(scope="module")
def prinz_frames():
    return brownian_trajectories(
        PRINZ,
        n_trajectories=5000,
        n_frames=41,
        steps_per_frame=500,
        time_step=1e-5,
        seed=12,
        n_threads=1,
    )[:, :, 0].astype(np.float64)


def test_prinz_trajectories_stay_at_equilibrium(prinz_frames):
    for frame in (0, 20, 40):
        result = stats.kstest(prinz_frames[:, frame], lambda v: equilibrium_cdf(PRINZ, v))
        assert result.pvalue > 1e-3


def test_prinz_correlations_are_those_of_the_spectrum(prinz_frames):
    spectrum = transfer_spectrum(PRINZ, lag_time=PRINZ.frame_time)
    x = spectrum.centers[:, 0]
    for values in (x, x**2, spectrum.eigenfunctions[:, 2]):
        f = np.interp(prinz_frames, x, values - spectrum.stationary @ values)
        lags = np.array([1, 3, 10, 40])
        exact = spectrum.correlation(values, lags * PRINZ.frame_time, is_normalized=False)
        for lag, expected in zip(lags, exact, strict=True):
            # One number a trajectory, as its frames hang together.
            products = (f[:, : 41 - lag] * f[:, lag:]).mean(axis=1)
            assert abs(products.mean() - expected) < 4 * products.std() / np.sqrt(len(products))


def test_muller_brown_trajectories_stay_at_equilibrium():
    frames = brownian_trajectories(
        MULLER_BROWN,
        n_trajectories=10_000,
        n_frames=2,
        steps_per_frame=1000,
        time_step=MULLER_BROWN.time_step,
        seed=3,
        n_threads=1,
    )
    expected = equilibrium_samples(MULLER_BROWN, 200_000, seed=99)
    for dim in (0, 1):
        assert stats.ks_2samp(frames[:, 1, dim], expected[:, dim]).pvalue > 1e-3
    moved = np.abs(frames[:, 1] - frames[:, 0]).mean(axis=0)
    assert np.all(moved > 0.05)


def test_a_step_that_is_too_long_is_refused():
    with pytest.raises(NonFiniteError, match=r"trajectory \d+: expected finite.*take a time_step"):
        brownian_trajectories(PRINZ, **SHORT, time_step=0.5, n_threads=1)


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"n_trajectories": 0}, ValueError, "n_trajectories: expected at least 1, got 0"),
        ({"n_frames": 0}, ValueError, "n_frames: expected at least 1, got 0"),
        ({"steps_per_frame": 0}, ValueError, "steps_per_frame: expected at least 1, got 0"),
        ({"time_step": -1.0}, ValueError, "time_step: expected a value above zero, got -1"),
        ({"burn_in_frames": -1}, ValueError, "burn_in_frames: expected at least 0, got -1"),
        ({"seed": 2**64}, ValueError, r"seed: expected 0 to 2\*\*64 - 1, got 18446744073709551616"),
        ({"n_threads": 0}, ValueError, "n_threads: expected at least 1, got 0"),
        ({"start": np.zeros(70)}, ValueError, r"start: expected shape \(70, 1\), got \(70,\)"),
        ({"start": np.full((70, 1), np.nan)}, ValueError, "start: expected finite positions"),
        ({"dtype": np.float16}, TypeError, "dtype: expected float32 or float64, got float16"),
        ({"n_trajectories": 2**33}, ValueError, r"n_trajectories: expected at most 2\*\*32"),
    ],
)
def test_wrong_arguments_are_named(changed, kind, message):
    arguments = {**SHORT, "time_step": 1e-5, "n_threads": 1, **changed}
    with pytest.raises(kind, match=message):
        brownian_trajectories(PRINZ, **arguments)


def test_a_potential_without_a_kernel_is_sent_to_the_definition():
    class Flat(HarmonicPotential):
        """Another class, so another formula."""

    with pytest.raises(TypeError, match=r"potential: expected one of .*got Flat; use brownian_ref"):
        brownian_trajectories(Flat(), **SHORT, time_step=1e-5)
    assert brownian_reference(Flat(), **SHORT, time_step=1e-5).shape == (70, 4, 1)


def test_a_single_frame_is_the_start():
    arguments = {**SHORT, "n_frames": 1, "time_step": 1e-5}
    found = brownian_trajectories(PRINZ, **arguments, dtype=np.float64, n_threads=1)
    assert np.array_equal(found, brownian_reference(PRINZ, **arguments))


def test_an_interrupt_stops_a_long_simulation():
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            # A billion steps of one trajectory: no frame comes to interrupt at.
            brownian_trajectories(
                PRINZ,
                n_trajectories=1,
                n_frames=2,
                steps_per_frame=10**9,
                time_step=1e-5,
                seed=0,
                n_threads=1,
            )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
