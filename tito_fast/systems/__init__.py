"""Model systems whose equilibrium and kinetics are known exactly."""

from tito_fast.systems.brownian import brownian_trajectories
from tito_fast.systems.brownian_reference import brownian_reference
from tito_fast.systems.equilibrium import equilibrium_cdf, equilibrium_samples
from tito_fast.systems.potentials import (
    MULLER_BROWN,
    PRINZ,
    HarmonicPotential,
    MullerBrownPotential,
    Potential,
    PrinzPotential,
)
from tito_fast.systems.spectrum import TransferSpectrum, transfer_spectrum

__all__ = [
    "MULLER_BROWN",
    "PRINZ",
    "HarmonicPotential",
    "MullerBrownPotential",
    "Potential",
    "PrinzPotential",
    "TransferSpectrum",
    "brownian_reference",
    "brownian_trajectories",
    "equilibrium_cdf",
    "equilibrium_samples",
    "transfer_spectrum",
]
