"""tito_fast.data."""
