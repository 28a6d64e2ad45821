"""Joins the orchestrator's results with the analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__ == "jobs":  # a checkout, or a job's working directory
    from analysis.beside_paper import lay_beside
    from analysis.beside_tables import print_beside
    from analysis.comparison import compare_trials, read_comparison
    from analysis.comparison_tables import print_comparison
    from analysis.report import write_report
    from analysis.terminal import print_report
else:  # installed: both are inside the package
    from adiabatic_ray.analysis.beside_paper import lay_beside
    from adiabatic_ray.analysis.beside_tables import print_beside
    from adiabatic_ray.analysis.comparison import compare_trials, read_comparison
    from adiabatic_ray.analysis.comparison_tables import print_comparison
    from adiabatic_ray.analysis.report import write_report
    from adiabatic_ray.analysis.terminal import print_report

__all__ = [
    "compare_trials",
    "lay_beside",
    "print_beside",
    "print_comparison",
    "print_report",
    "read_comparison",
    "write_report",
]
