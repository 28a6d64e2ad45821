"""Adaptive search: where the next trial goes, so that a boundary is found with few."""
