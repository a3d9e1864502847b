"""tito_fast.rollout."""
