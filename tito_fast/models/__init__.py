"""tito_fast.models."""
