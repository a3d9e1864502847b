"""Molecular dynamics with OpenMM: reference trajectories, relaxation of samples, energies.

OpenMM (extra ``md``) loads with the first function that needs it, not with this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tito_fast.md.energies import potential_energies
    from tito_fast.md.presets import PRESETS, Preset, preset_of
    from tito_fast.md.relaxation import RelaxConfig, RelaxResult, relax
    from tito_fast.md.simulation import SimulationConfig, SimulationResult, simulate
    from tito_fast.md.system import openmm_system

__all__ = [
    "PRESETS",
    "Preset",
    "RelaxConfig",
    "RelaxResult",
    "SimulationConfig",
    "SimulationResult",
    "openmm_system",
    "potential_energies",
    "preset_of",
    "relax",
    "simulate",
]

_HOMES = {
    "PRESETS": "presets",
    "Preset": "presets",
    "RelaxConfig": "relaxation",
    "RelaxResult": "relaxation",
    "SimulationConfig": "simulation",
    "SimulationResult": "simulation",
    "openmm_system": "system",
    "potential_energies": "energies",
    "preset_of": "presets",
    "relax": "relaxation",
    "simulate": "simulation",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  a module attribute may be anything
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
