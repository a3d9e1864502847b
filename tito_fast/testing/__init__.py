"""tito_fast.testing."""
