"""One state update of a solver, centred per molecule: of an ODE, with noise, or with an error estimate."""

from tito_fast.ops.ode_step.api import ode_step
from tito_fast.ops.ode_step.checks import MAX_STAGES
from tito_fast.ops.ode_step.embedded import EmbeddedStep, embedded_ode_step
from tito_fast.ops.ode_step.noisy import noisy_ode_step

__all__ = ["MAX_STAGES", "EmbeddedStep", "embedded_ode_step", "noisy_ode_step", "ode_step"]
