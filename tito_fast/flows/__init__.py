"""Flows: how base samples and data are joined, and what the network learns from it."""

from tito_fast.flows.density import (
    LogDensity,
    OdeSolver,
    base_samples,
    log_base_density,
    log_density_in_nm,
    log_likelihood,
    sample_with_log_density,
)
from tito_fast.flows.divergence import (
    ExactDivergence,
    HutchinsonDivergence,
    VelocityAndDivergence,
    VelocityFunction,
    velocity_and_divergence,
)
from tito_fast.flows.flow_matching import flow_matching_loss, interpolate

__all__ = [
    "ExactDivergence",
    "HutchinsonDivergence",
    "LogDensity",
    "OdeSolver",
    "VelocityAndDivergence",
    "VelocityFunction",
    "base_samples",
    "flow_matching_loss",
    "interpolate",
    "log_base_density",
    "log_density_in_nm",
    "log_likelihood",
    "sample_with_log_density",
    "velocity_and_divergence",
]
