"""Noise-predicting networks for states of few dimensions: equilibrium, ITO and BoPITO."""
