"""Entry points: the `adiabatic` command, `python -m jobs.run_sweep` for `ray job submit`, and what they print.

The only place that joins the orchestrator with the analysis.
"""
