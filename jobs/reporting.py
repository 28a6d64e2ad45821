"""Joins the orchestrator's results with the analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__ == "jobs":  # a checkout, or a job's working directory
    from analysis.report import write_report
    from analysis.terminal import print_report
else:  # installed: both are inside the package
    from adiabatic_ray.analysis.report import write_report
    from adiabatic_ray.analysis.terminal import print_report

__all__ = ["print_report", "write_report"]
