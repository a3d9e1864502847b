"""Molecular dynamics with OpenMM: reference trajectories, relaxation of samples, energies."""
