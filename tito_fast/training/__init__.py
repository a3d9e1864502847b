"""Training: a config in, a model and its log out."""
