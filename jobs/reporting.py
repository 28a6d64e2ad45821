"""Joins the orchestrator's results with the analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__ == "jobs":  # a checkout, or a job's working directory
    from analysis.beside_paper import lay_beside
    from analysis.beside_tables import print_beside
    from analysis.boundary_print import print_boundaries
    from analysis.comparison import compare_trials, read_comparison
    from analysis.comparison_tables import print_comparison
    from analysis.layer_tables import print_layers
    from analysis.layers import most_changed
    from analysis.load import trial_spec
    from analysis.markdown import table_lines
    from analysis.predictions import print_predictions
    from analysis.records import tuned_trial
    from analysis.report import write_report
    from analysis.report_sweeps import write_sweeps_report
    from analysis.terminal import print_report
    from analysis.trial_card import Figure, boundary_lines, evaluation_lines, read_boundaries, read_figures
else:  # installed: both are inside the package
    from adiabatic_ray.analysis.beside_paper import lay_beside
    from adiabatic_ray.analysis.beside_tables import print_beside
    from adiabatic_ray.analysis.boundary_print import print_boundaries
    from adiabatic_ray.analysis.comparison import compare_trials, read_comparison
    from adiabatic_ray.analysis.comparison_tables import print_comparison
    from adiabatic_ray.analysis.layer_tables import print_layers
    from adiabatic_ray.analysis.layers import most_changed
    from adiabatic_ray.analysis.load import trial_spec
    from adiabatic_ray.analysis.markdown import table_lines
    from adiabatic_ray.analysis.predictions import print_predictions
    from adiabatic_ray.analysis.records import tuned_trial
    from adiabatic_ray.analysis.report import write_report
    from adiabatic_ray.analysis.report_sweeps import write_sweeps_report
    from adiabatic_ray.analysis.terminal import print_report
    from adiabatic_ray.analysis.trial_card import (
        Figure,
        boundary_lines,
        evaluation_lines,
        read_boundaries,
        read_figures,
    )

__all__ = [
    "Figure",
    "boundary_lines",
    "compare_trials",
    "evaluation_lines",
    "lay_beside",
    "most_changed",
    "print_beside",
    "print_boundaries",
    "print_comparison",
    "print_layers",
    "print_predictions",
    "print_report",
    "read_boundaries",
    "read_comparison",
    "read_figures",
    "table_lines",
    "trial_spec",
    "tuned_trial",
    "write_report",
    "write_sweeps_report",
]
