"""Ray's client of submitted jobs, with limits to its waits and errors that a user can act on.

Ray's own client waits for an answer without a limit. Call `environment.prepare_client` before this file is imported.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

REQUEST_LIMITS_S = (10.0, 60.0)
"""To be connected, and between two pieces of an answer: a slow upload takes longer, but never stands still."""
END_LIMIT_S = 60.0
"""For a job to end after its logs did, or after it was told to stop: Ray kills what is left 3 s after that."""
POLL_S = 0.5
CHATTY = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
"""Loggers that tell of every step of an upload."""


class ClusterError(ValueError):
    """A cluster that cannot be reached, refuses this client, or does not know the job."""


class ClusterJobs(JobSubmissionClient):
    """Jobs of the cluster behind one address.

    Args:
        address: URL of the dashboard, such as http://127.0.0.1:8265.

    Raises:
        ClusterError: nobody answers, what answers is no Ray, or it refuses this client's token.
    """

    def __init__(self, address: str) -> None:
        self._where = address
        for chatty in CHATTY:
            logging.getLogger(chatty).setLevel(logging.WARNING)
        try:
            super().__init__(address)
        except AuthenticationError as error:
            raise self._refused(error) from error
        except ClusterError:
            raise
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ClusterError(
                f"a Ray dashboard must answer at --address, got {_first_line(error)} from {address}; give the port of "
                "the dashboard (8265 unless it was changed)"
            ) from error

    def check_ray_version(self) -> None:
        """Refuse a cluster of another Ray before anything is uploaded.

        Raises:
            ClusterError: the versions differ.
        """
        there: str = self._do_request("GET", "/api/version").json()["ray_version"]
        if there != ray.__version__:
            raise ClusterError(
                f"the cluster must have the Ray of the machine that submits, {ray.__version__}, got {there} at "
                f"{self._where}; install the set of constraints.txt on every node, or submit from an environment like "
                "the cluster's"
            )

    def details(self, job: str) -> JobDetails:
        """State, message, exit code and times of a job.

        Raises:
            ClusterError: no such job, or nobody answers any more.
        """
        try:
            return self.get_job_info(job)
        except RuntimeError as error:
            raise self._no_such_job(job, error) from error

    def stop(self, job: str) -> bool:
        """Tell a job to stop and wait until it has. False where it had ended before.

        Raises:
            ClusterError: no such job, nobody answers any more, or it still runs after `END_LIMIT_S`.
        """
        try:
            was_running = self.stop_job(job)
        except RuntimeError as error:
            raise self._no_such_job(job, error) from error
        if was_running:
            self.wait_for_end(job)
        return was_running

    def wait_for_end(self, job: str) -> JobDetails:
        """Details of a job that is about to end, once it has.

        Raises:
            ClusterError: it still runs after `END_LIMIT_S`, or nobody answers any more.
        """
        deadline_s = time.monotonic() + END_LIMIT_S
        while not (found := self.details(job)).status.is_terminal():
            if time.monotonic() > deadline_s:
                raise ClusterError(
                    f"{job} should have ended within {END_LIMIT_S:.0f} s, got {found.status}; look again with "
                    f"`adiabatic status {job} --address {self._where}`"
                )
            time.sleep(POLL_S)
        return found

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        """Every request of Ray's client, with a limit.

        Raises:
            ClusterError: nobody answers within it, or the token is refused.
        """
        try:
            return super()._do_request(method, endpoint, **options, timeout=REQUEST_LIMITS_S)
        except AuthenticationError as error:
            raise self._refused(error) from error
        except OSError as error:  # all errors of requests are
            raise ClusterError(
                f"a Ray dashboard must answer at --address within {REQUEST_LIMITS_S[1]:.0f} s, got "
                f"{type(error).__name__} from {self._where}; see that the cluster runs and the tunnel is open "
                "(`ray dashboard cluster.yaml`)"
            ) from error

    def _refused(self, error: AuthenticationError) -> ClusterError:
        return ClusterError(
            f"a cluster with token authentication must be shown its token, got {_first_line(error):.200} from "
            f"{self._where}, with RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE')}; put the cluster's token into "
            "~/.ray/auth_token, or into a file that RAY_AUTH_TOKEN_PATH names, and set RAY_AUTH_MODE=token (a cluster "
            "without tokens: RAY_AUTH_MODE=disabled; a new token: `ray get-auth-token --generate`)"
        )

    def _no_such_job(self, job: str, error: RuntimeError) -> ClusterError:
        if "status code 404" not in str(error):
            return ClusterError(f"the cluster must answer for {job}, got {_first_line(error)} from {self._where}")
        return ClusterError(
            f"a job id is one that `adiabatic submit` printed, got {job!r}, which {self._where} does not know; "
            f"`ray job list --address {self._where}` lists its jobs"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
