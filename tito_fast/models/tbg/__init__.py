"""The transferable Boltzmann generator: an equivariant network for equilibrium flows."""
