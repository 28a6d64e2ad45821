"""Everything that needs a GPU, in one command, from a bundle: correctness, steps, encoding, a figure's slice.

    make gpu-bundle                                                            where data and registry are
    python3 benchmarks/bench_gpu.py .bench-gpu --out results/gpu               where the GPU is: 8 minutes on an H200

Writes `results.json` and `results.md`, whole after every part, and `rates_scores.parquet` and `rates_curves.parquet`.
A part that fails is recorded and does not cost the others; the exit status says so. Packages that the machine lacks
come from the bundle's wheels. `--device cpu --tiny` tries every line without a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import zipfile
from pathlib import Path

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PARTS = ("tests", "peaks", "trajectories", "steps", "profile", "evaluation", "rates")


def main() -> None:
    """Run all parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder that gpu_bundle.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=1.5, help="for which the trials of the rates are tuned")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tiny", action="store_true", help="so little that a CPU does it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        use_wheels(options.bundle / "wheels", Path(folder))
        # Late: they need what the wheels bring.
        from benchmarks.gpu_parts import FULL, TINY, Session
        from benchmarks.gpu_report import Report

        report = Report(options.out, options.device, sys.argv)
        sizes = TINY if options.tiny else FULL
        session = Session(options.bundle, options.out, options.device, sizes, 60 * options.minutes)
        for part in PARTS:
            if part in options.parts:
                report.part(part, getattr(session, part))
    if report.failed:
        sys.exit(f"failed: {', '.join(report.failed)}; see {options.out / 'results.md'}")


def use_wheels(wheels: Path, folder: Path) -> None:
    """Unpack wheels behind everything else on the path, where their main package is not installed."""
    if importlib.util.find_spec("pydantic") is None:
        for path in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(folder)
        sys.path.append(str(folder))


if __name__ == "__main__":
    main()
