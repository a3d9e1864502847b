"""Rollouts: a model, molecules and a config in; trajectories on disk out."""
