"""tito_fast.cli."""
