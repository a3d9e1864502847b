"""One state update of an ODE solver, centred per molecule."""

from tito_fast.ops.ode_step.api import MAX_STAGES, ode_step

__all__ = ["MAX_STAGES", "ode_step"]
