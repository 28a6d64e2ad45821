"""Sweeps: one file, one question. Each has a function `sweep() -> SweepSpec` and does nothing at import."""
