"""BoPITO: equilibrium and dynamics as separate terms of one field, for molecules."""
