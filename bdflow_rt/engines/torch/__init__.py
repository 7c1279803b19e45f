"""The training-time modules as engines."""
