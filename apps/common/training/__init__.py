"""The life of a run: fit and what surrounds it."""
