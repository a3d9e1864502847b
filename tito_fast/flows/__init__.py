"""Flows and diffusion: how base samples and data are joined, and what the network learns from it."""

from tito_fast.flows.density import (
    LogDensity,
    OdeSolver,
    base_samples,
    log_base_density,
    log_density_in_nm,
    log_likelihood,
    sample_with_log_density,
)
from tito_fast.flows.diffusion import (
    diffuse,
    noise_from_score,
    noise_prediction_loss,
    score_from_noise,
    score_from_velocity,
)
from tito_fast.flows.divergence import (
    ExactDivergence,
    HutchinsonDivergence,
    VelocityAndDivergence,
    VelocityFunction,
    velocity_and_divergence,
)
from tito_fast.flows.flow_matching import flow_matching_loss, interpolate
from tito_fast.flows.noise_schedule import NoiseSchedule

__all__ = [
    "ExactDivergence",
    "HutchinsonDivergence",
    "LogDensity",
    "NoiseSchedule",
    "OdeSolver",
    "VelocityAndDivergence",
    "VelocityFunction",
    "base_samples",
    "diffuse",
    "flow_matching_loss",
    "interpolate",
    "log_base_density",
    "log_density_in_nm",
    "log_likelihood",
    "noise_from_score",
    "noise_prediction_loss",
    "sample_with_log_density",
    "score_from_noise",
    "score_from_velocity",
    "velocity_and_divergence",
]
