"""Whole runs: a sweep, the evaluation of one tower, a dry run."""
