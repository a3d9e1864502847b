"""Flows and diffusion: how base samples and data are joined, and what the network learns from it."""

from tito_fast.flows.diffusion import (
    diffuse,
    noise_from_score,
    noise_prediction_loss,
    score_from_noise,
    score_from_velocity,
)
from tito_fast.flows.flow_matching import flow_matching_loss, interpolate
from tito_fast.flows.noise_schedule import NOISE_SCHEDULES, NoiseSchedule, NoiseScheduleName

__all__ = [
    "NOISE_SCHEDULES",
    "NoiseSchedule",
    "NoiseScheduleName",
    "diffuse",
    "flow_matching_loss",
    "interpolate",
    "noise_from_score",
    "noise_prediction_loss",
    "score_from_noise",
    "score_from_velocity",
]
