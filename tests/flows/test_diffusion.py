"""Diffusion: the noised state, the loss, and the three forms of one field."""

import pytest
import torch

from tito_fast.flows import (
    NoiseSchedule,
    diffuse,
    interpolate,
    noise_from_score,
    noise_prediction_loss,
    score_from_noise,
    score_from_velocity,
)

SCHEDULE = NoiseSchedule("polynomial", 50)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_noised_state_by_hand():
    x, noise, steps = draw(5, 3), draw(5, 3, seed=1), torch.tensor([0, 7, 50])
    batch_idx = torch.tensor([0, 0, 1, 2, 2])
    x_d = diffuse(x, noise, steps, SCHEDULE, batch_idx=batch_idx)
    for row, sample in enumerate(batch_idx.tolist()):
        share = SCHEDULE.alpha_bar[steps[sample]]
        wanted = share.sqrt() * x[row] + (1 - share).sqrt() * noise[row]
        torch.testing.assert_close(x_d[row], wanted)
    assert torch.equal(x_d[:2], x[:2])


@pytest.mark.parametrize("shape", [(4, 1), (4, 22, 3), (4,)])
def test_rows_may_have_any_shape_and_keep_their_type(shape):
    x, noise = draw(*shape).float(), draw(*shape, seed=1).float()
    steps = torch.tensor([1, 3, 20, 50])
    x_d = diffuse(x, noise, steps, SCHEDULE)
    assert x_d.dtype == torch.float32
    for row in range(4):
        alone = diffuse(x[row : row + 1], noise[row : row + 1], steps[row : row + 1], SCHEDULE)
        assert torch.equal(x_d[row], alone[0])


def test_noised_unit_variance_keeps_unit_variance():
    x, noise = draw(40_000), draw(40_000, seed=1)
    x_d = diffuse(x, noise, torch.full((40_000,), 25), SCHEDULE)
    assert x_d.var().item() == pytest.approx(1.0, abs=0.03)


def test_the_loss_is_the_mean_squared_length_and_takes_weights():
    prediction, noise = draw(4, 3), draw(4, 3, seed=1)
    lengths = (prediction - noise).norm(dim=1) ** 2
    torch.testing.assert_close(noise_prediction_loss(prediction, noise), lengths.mean())
    weights = torch.tensor([0.0, 1.0, 2.0, 0.5], dtype=torch.float64)
    weighted = noise_prediction_loss(prediction, noise, row_weights=weights)
    torch.testing.assert_close(weighted, (weights * lengths).mean())


def test_noise_and_score_are_inverse_to_each_other():
    noise, steps, batch_idx = draw(5, 3), torch.tensor([1, 50]), torch.tensor([0, 0, 0, 1, 1])
    score = score_from_noise(noise, steps, SCHEDULE, batch_idx=batch_idx)
    torch.testing.assert_close(
        score[4], -noise[4] / (1 - SCHEDULE.alpha_bar[50]).sqrt(), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(noise_from_score(score, steps, SCHEDULE, batch_idx=batch_idx), noise)


def test_the_score_of_a_flow_to_a_gaussian_is_that_of_its_density():
    mean, std, base_std = 0.7, 0.4, 1.5
    t = torch.tensor([0.0, 0.3, 0.9], dtype=torch.float64)
    x_t = draw(3)
    variance = (t * std) ** 2 + ((1 - t) * base_std) ** 2
    # E[x_1 − x_0 | x_t] of two independent Gaussians.
    velocity = mean + (t * std**2 - (1 - t) * base_std**2) / variance * (x_t - t * mean)
    score = score_from_velocity(velocity, x_t, t, base_std=base_std)
    torch.testing.assert_close(score, -(x_t - t * mean) / variance)


def test_the_score_of_a_flow_takes_atoms_of_molecules():
    batch_ptr, batch_idx = torch.tensor([0, 2, 5]), torch.tensor([0, 0, 1, 1, 1])
    t = torch.tensor([0.2, 0.8], dtype=torch.float64)
    x_0, x_1 = draw(5, 3), draw(5, 3, seed=1)
    x_t = interpolate(x_0, x_1, t, torch.zeros_like(x_0), batch_ptr=batch_ptr, sigma=0.0)
    score = score_from_velocity(x_1 - x_0, x_t, t, batch_idx=batch_idx)
    torch.testing.assert_close(score, -x_0 / (1 - t[batch_idx, None]))


def test_invalid_arguments():
    with pytest.raises(ValueError, match=r"noise: expected shape \(5, 3\), got \(4, 3\)"):
        diffuse(draw(5, 3), draw(4, 3), torch.ones(5), SCHEDULE)
    with pytest.raises(ValueError, match=r"diffusion_step: expected shape \(5,\), got \(2,\)"):
        diffuse(draw(5, 3), draw(5, 3), torch.ones(2), SCHEDULE)
    with pytest.raises(ValueError, match=r"batch_idx: expected shape \(5,\), got \(4,\)"):
        score_from_noise(draw(5, 3), torch.ones(2), SCHEDULE, batch_idx=torch.zeros(4).long())
    with pytest.raises(ValueError, match=r"prediction: expected shape \(5, 3\), got \(5, 1\)"):
        noise_prediction_loss(draw(5, 1), draw(5, 3))
    with pytest.raises(ValueError, match=r"row_weights: expected shape \(5,\), got \(1,\)"):
        noise_prediction_loss(draw(5, 3), draw(5, 3), row_weights=torch.ones(1))
    with pytest.raises(ValueError, match=r"x_t: expected shape \(5, 3\), got \(5, 1\)"):
        score_from_velocity(draw(5, 3), draw(5, 1), torch.zeros(5))
