"""Model systems whose equilibrium and kinetics are known exactly."""
