"""Refuses, on the cluster, a job that other versions submitted: `python same_versions.py ray=2.60.0 python=3.11`.

Runs before anything of this project or Ray is imported, as a file, on whatever Python the cluster has: it needs the
standard library only, and no syntax newer than Python 3.8.
"""

from __future__ import annotations

import sys
from importlib import metadata


def found_version(name: str) -> str:
    """Version of an installed package, or of Python (major and minor); `none` of what is not installed."""
    if name == "python":
        return "%d.%d" % sys.version_info[:2]  # noqa: UP031 - as above
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def differences(expected: list[str]) -> list[str]:
    """A line for each `name=version` that this machine does not have."""
    lines = []
    for item in expected:
        name, _, version = item.partition("=")
        if found_version(name) != version:
            lines.append(
                f"error: the cluster must have the {name} of the machine that submits, {version}, got "
                f"{found_version(name)} with {sys.executable}; install the same on every node, with the set of "
                "constraints.txt, or submit from an environment like the cluster's"
            )
    return lines


def main(arguments: list[str]) -> int:
    """Print what differs. Returns the exit code: 0, or 2 as for any wrong input."""
    lines = differences(arguments)
    for line in lines:
        print(line, file=sys.stderr)
    return 2 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
