"""tito_fast.solvers."""
