"""tito_fast.training."""
