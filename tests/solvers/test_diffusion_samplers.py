"""Ancestral sampling and DPM-Solver++(2M): exact Gaussians, a mixture, orders, counts, released indices."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from tito_fast.flows import NOISE_SCHEDULES, NoiseSchedule
from tito_fast.solvers import ddpm_sample, dpm_solver_sample

MEAN, STD = 0.8, 0.35


class GaussianField:
    """The best prediction of the noise for data from N(mean, std²): it is linear in x."""

    def __init__(self, level_at, mean=MEAN, std=STD):
        self.level_at, self.mean, self.std = level_at, mean, std
        self.calls = []

    def __call__(self, x_d, diffusion_step, evaluation):
        self.calls.append((diffusion_step, evaluation))
        level = self.level_at(diffusion_step)
        variance = level * self.std**2 + 1 - level
        return math.sqrt(1 - level) * (x_d - math.sqrt(level) * self.mean) / variance


def marginal(level, mean=MEAN, std=STD):
    """Return mean and standard deviation of the noised data."""
    return math.sqrt(level) * mean, math.sqrt(level * std**2 + 1 - level)


def moments_of(sample, start_mean, start_std):
    """Return mean and variance of ``sample(x, normals)``, linear in both, by probing it once for each number drawn."""
    zeros = torch.zeros(1, dtype=torch.float64)
    offset = sample(zeros + start_mean, lambda _: zeros)
    reached = [sample(zeros + start_mean + start_std, lambda _: zeros) - offset]
    drawn = []
    sample(zeros, lambda index: drawn.append(index) or zeros)
    reached += [
        sample(zeros + start_mean, lambda k, p=probe: zeros + (k == p)) - offset for probe in drawn
    ]
    return offset.item(), sum(change.item() ** 2 for change in reached)


def ancestral_moments(schedule, *, mean=MEAN, std=STD, n_steps=None):
    field = GaussianField(schedule.solver_level, mean, std)
    start = marginal(schedule.levels[-1], mean, std)
    return moments_of(
        lambda x, normals: ddpm_sample(
            field, x, schedule=schedule, normals=normals, n_steps=n_steps
        ),
        *start,
    )


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_ancestral_sampling_of_unit_variance_is_exact_up_to_the_last_step(name):
    # With unit variance the steps back are N(·, β) exactly; the last adds nothing, so β_1 of the variance is missing.
    schedule = NoiseSchedule(name, 60)
    mean, variance = ancestral_moments(schedule, std=1.0)
    assert mean == pytest.approx(MEAN, abs=1e-12)
    assert variance == pytest.approx(schedule.levels[1], abs=1e-12)


def test_ancestral_sampling_of_a_point_ends_there():
    schedule = NoiseSchedule("polynomial", 40)
    mean, variance = ancestral_moments(schedule, std=0.0)
    assert mean == pytest.approx(MEAN, abs=1e-9)
    assert variance == pytest.approx(0.0, abs=1e-12)


def test_ancestral_sampling_converges_to_the_gaussian_with_the_number_of_steps():
    errors = []
    for n_steps in (30, 60, 120):
        mean, variance = ancestral_moments(NoiseSchedule("cosine", n_steps))
        assert mean == pytest.approx(MEAN, abs=1e-6)
        errors.append(abs(variance - STD**2))
    assert errors[2] < 0.05 * STD**2
    assert all(math.log2(coarse / fine) > 0.8 for coarse, fine in pairwise(errors))


def test_longer_ancestral_steps_are_those_of_the_thinned_chain():
    schedule = NoiseSchedule("polynomial", 60)
    mean, variance = ancestral_moments(schedule, std=1.0, n_steps=20)
    assert mean == pytest.approx(MEAN, abs=1e-12)
    # Unit variance is exact however long the steps are; the last one goes from step 3 to the data.
    assert variance == pytest.approx(schedule.levels[3], abs=1e-12)


@pytest.mark.parametrize("n_steps", [None, 1, 7, 25])
def test_ancestral_evaluations_go_down_from_the_last_step_and_draw_once_less(n_steps):
    schedule, drawn = NoiseSchedule("sigmoid", 25), []
    field = GaussianField(schedule.solver_level)
    normals = lambda index: drawn.append(index) or torch.zeros(1)  # noqa: E731  a lambda that records
    ddpm_sample(field, torch.ones(1), schedule=schedule, normals=normals, n_steps=n_steps)
    count = n_steps or 25
    steps = [step for step, _ in field.calls]
    assert steps[0] == 25
    assert all(above > below >= 1 for above, below in pairwise(steps))
    assert [evaluation for _, evaluation in field.calls] == list(range(count))
    assert drawn == list(range(count - 1))


def solver_error(schedule, n_steps):
    """Return the error in the standard deviation at step 1, starting from the exact one at the first step."""
    field = GaussianField(schedule.solver_level)
    dpm_solver_sample(field, torch.zeros(1), schedule=schedule, n_steps=1)
    start = marginal(schedule.solver_level(field.calls[0][0]))
    x_T = torch.tensor([start[0] - start[1], start[0] + start[1]], dtype=torch.float64)
    end = dpm_solver_sample(field, x_T, schedule=schedule, n_steps=n_steps)
    mean, std = marginal(schedule.levels[1])
    assert end.mean().item() == pytest.approx(mean, abs=1e-10)
    return abs((end[1] - end[0]).item() / 2 - std)


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_dpm_solver_gives_the_gaussian_at_the_lowest_noise(name):
    # Uniform in time, 50 published steps leave a few percent of a narrow density's width: the last is long.
    assert solver_error(NoiseSchedule(name), 50) < 0.04 * STD
    assert solver_error(NoiseSchedule(name), 400) < 0.002 * STD


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_dpm_solver_is_of_second_order(name):
    schedule = NoiseSchedule(name, 50)
    errors = [solver_error(schedule, n_steps) for n_steps in (100, 200, 400)]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders == pytest.approx([2.0, 2.0], abs=0.1)


def test_the_last_of_few_solver_steps_is_of_first_order():
    # Data without noise is found by one step of first order from anywhere; what is extrapolated overshoots.
    schedule = NoiseSchedule("polynomial", 100)
    level = schedule.solver_level
    constant = lambda x, step, _: (x - math.sqrt(level(step)) * step) / math.sqrt(1 - level(step))  # noqa: E731
    x_T = torch.zeros(1, dtype=torch.float64)
    for n_steps in (4, 9, 10, 20):
        grid = [1 + 99 * (n_steps - k) / n_steps for k in range(n_steps + 1)]
        x, before = 0.0, None
        half_log_snr = [0.5 * math.log(level(step) / (1 - level(step))) for step in grid]
        for k in range(n_steps):
            h = half_log_snr[k + 1] - half_log_snr[k]
            data = estimate = grid[k]
            if before is not None and not (k == n_steps - 1 and n_steps < 10):
                r = (half_log_snr[k] - half_log_snr[k - 1]) / h
                estimate = (1 + 1 / (2 * r)) * data - before / (2 * r)
            sigma, sigma_next = (math.sqrt(1 - level(grid[j])) for j in (k, k + 1))
            x = sigma_next / sigma * x - math.sqrt(level(grid[k + 1])) * math.expm1(-h) * estimate
            before = data
        found = dpm_solver_sample(constant, x_T, schedule=schedule, n_steps=n_steps)
        assert found.item() == pytest.approx(x, rel=1e-9)


class MixtureField:
    """The best prediction of the noise for 0.3 N(−1, 0.2²) + 0.7 N(1, 0.2²), through the score."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, x_d, diffusion_step, _):
        level = self.schedule.solver_level(diffusion_step)
        variance = level * 0.04 + 1 - level
        centers = math.sqrt(level) * torch.tensor([-1.0, 1.0], dtype=x_d.dtype)
        distance = x_d[:, None] - centers
        logits = torch.tensor([0.3, 0.7], dtype=x_d.dtype).log() - distance**2 / (2 * variance)
        score = -(logits.softmax(dim=1) * distance).sum(dim=1) / variance
        return -math.sqrt(1 - level) * score


@pytest.mark.parametrize("solver", ["ddpm", "dpm-solver++"])
def test_a_mixture_keeps_its_weights_means_and_widths(solver):
    schedule, n = NoiseSchedule("polynomial", 200), 20_000
    generator = torch.Generator().manual_seed(5)
    draw = lambda *_: torch.randn(n, generator=generator, dtype=torch.float64)  # noqa: E731
    field = MixtureField(schedule)
    if solver == "ddpm":
        x = ddpm_sample(field, draw(), schedule=schedule, normals=draw)
    else:
        x = dpm_solver_sample(field, draw(), schedule=schedule, n_steps=60)
    right = x > 0
    # Three standard errors of the share, plus 0.01 for the steps.
    assert right.double().mean().item() == pytest.approx(0.7, abs=0.02)
    assert x[right].mean().item() == pytest.approx(1.0, abs=0.02)
    assert x[~right].mean().item() == pytest.approx(-1.0, abs=0.02)
    for part in (x[right], x[~right]):
        assert part.std().item() == pytest.approx(0.2, abs=0.015)


def test_released_ancestral_sampling_takes_the_step_above_and_always_adds_noise():
    n_steps = 6
    betas = 1 / (1 + np.exp(-np.linspace(-8, -4, n_steps)))
    exclusive = np.concatenate([[1.0], np.cumprod(1 - betas)[:-1]])
    normals = np.random.default_rng(0).standard_normal((n_steps, 3))
    x, calls = np.array([0.3, -1.2, 0.8]), []
    for step in range(n_steps - 1, 0, -1):
        noise = np.sin(x) + 0.1 * step
        x = (x - betas[step] / np.sqrt(1 - exclusive[step]) * noise) / np.sqrt(1 - betas[step])
        x = x + np.sqrt(betas[step]) * normals[n_steps - 1 - step]

    def field(x_d, diffusion_step, evaluation):
        calls.append((diffusion_step, evaluation))
        return x_d.sin() + 0.1 * diffusion_step

    found = ddpm_sample(
        field,
        torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64),
        schedule=NoiseSchedule("sigmoid", n_steps, released=True),
        normals=lambda index: torch.from_numpy(normals[index]),
    )
    np.testing.assert_allclose(found, x, rtol=1e-12)
    assert calls == [(5.0, 0), (4.0, 1), (3.0, 2), (2.0, 3), (1.0, 4)]


def test_released_solver_labels_thousandths_one_step_below():
    schedule = NoiseSchedule("sigmoid", 500, released=True)
    field = GaussianField(lambda _: 0.5)
    dpm_solver_sample(field, torch.zeros(1), schedule=schedule, n_steps=4)
    labels = [step for step, _ in field.calls]
    times = [1 - (1 - 1 / 500) * k / 4 for k in range(4)]
    assert labels == pytest.approx([1000 * (time - 1 / 500) for time in times])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_are_kept_and_float32_is_close_to_float64(dtype):
    schedule = NoiseSchedule("polynomial", 100)
    field = GaussianField(schedule.solver_level)
    x_T = torch.linspace(-2, 2, 7, dtype=torch.float64)
    exact = dpm_solver_sample(field, x_T, schedule=schedule, n_steps=20)
    found = dpm_solver_sample(field, x_T.to(dtype), schedule=schedule, n_steps=20)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-4)


def test_invalid_arguments():
    schedule = NoiseSchedule("cosine", 10)
    field = GaussianField(schedule.solver_level)
    with pytest.raises(ValueError, match="n_steps: expected at least 1, got 0"):
        dpm_solver_sample(field, torch.zeros(1), schedule=schedule, n_steps=0)
    with pytest.raises(ValueError, match="n_steps: expected at most 10 for this schedule, got 11"):
        ddpm_sample(field, torch.zeros(1), schedule=schedule, normals=torch.randn, n_steps=11)
    released = NoiseSchedule("cosine", 10, released=True)
    with pytest.raises(ValueError, match=r"n_steps: expected 9 with released indices, got 5; use"):
        ddpm_sample(field, torch.zeros(1), schedule=released, normals=torch.randn, n_steps=5)
