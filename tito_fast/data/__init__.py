"""Data: molecules, their readers, the trajectory store, and the pairs that are drawn from it."""
