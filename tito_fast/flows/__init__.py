"""tito_fast.flows."""
