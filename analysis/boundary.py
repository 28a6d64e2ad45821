"""The boundary of a results folder, for a terminal and as `OUT/report/boundary.json`.

Run `python -m analysis.boundary OUT` in a checkout, `python -m adiabatic_ray.analysis.boundary OUT` elsewhere.
`level` has the estimate, `wording` its words; both are here by name too, for those who analyse in Python.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from adiabatic_ray import results
from adiabatic_ray.storage import open_folder

from .boundary_print import print_boundaries
from .level import LEVEL, NOTHING_TO_ESTIMATE, Boundary, boundary_of, estimate_boundaries, first_crossing
from .load import load_sweep
from .resample import NUM_RESAMPLES, gather
from .terminal import print_report
from .wording import format_rate, sentence, to_json

__all__ = [
    "LEVEL",
    "NOTHING_TO_ESTIMATE",
    "Boundary",
    "boundary_of",
    "estimate_boundaries",
    "first_crossing",
    "format_rate",
    "main",
    "sentence",
    "to_json",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and the sentences of a results folder and write `OUT/report/boundary.json`.

    Returns:
        0, or 2 after a message on stderr when the input cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.boundary", description="Estimate the adiabatic boundary."
    )
    parser.add_argument("out", help="results folder that `adiabatic sweep` wrote")
    parser.add_argument("--level", type=float, default=LEVEL, help="improvement that still counts as preserved")
    parser.add_argument("--resamples", type=int, default=NUM_RESAMPLES, help="bootstrap replicates, at least 100")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    given = parser.parse_args(arguments)
    try:
        out = open_folder(given.out)
        sweep = load_sweep(out)
        evidence = gather(sweep, num_resamples=given.resamples, seed=given.seed, has_pairs=False)
        boundaries = estimate_boundaries(sweep, level=given.level, evidence=evidence)
        console = Console()
        print_report(sweep, boundaries, console)
        print_boundaries(evidence, console, delta=max(0.0, -given.level))
        results.write_json(out / "report" / "boundary.json", to_json(boundaries))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
