"""tito_fast.models.tito."""
