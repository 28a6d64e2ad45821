"""Use of the driver's machine while a sweep runs, as system metrics of the parent run: MLflow's own monitor.

It takes the run and the server to write to, so nothing global is set. It has a daemon thread and a client of its own,
and gives up by itself when MLflow does not answer: a sweep never waits for it but for the answer that is under way.
"""

from __future__ import annotations

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

EVERY_S = 30.0
"""Time between two readings: a day's sweep has 2,880 points a metric, and one of minutes still a curve."""


def watch_machine(run_id: str, uri: str) -> SystemMetricsMonitor:
    """Begin, behind the last reading that the run has already; `finish()` ends it."""
    monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
        run_id, sampling_interval=EVERY_S, resume_logging=True, tracking_uri=uri
    )
    monitor.start()  # type: ignore[no-untyped-call]
    return monitor
