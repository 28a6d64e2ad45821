"""Time and memory of `adiabatic report` at the paper's size: 300 trials, 225 language pairs, 1,670 premises.

Plants a results folder (20 rates, 5 seeds, 3 freeze plans; e-n and e-c, both measures; two English sets), writes its
report in a process of its own, and prints wall time, CPU time and the largest resident memory of that process. Goal on
two cores: below 30 s and 2 GB. Planting takes some minutes and 420 MB of disk; `--folder` keeps and reuses it.

    python benchmarks/bench_report.py [--folder results/bench-report] [--rates 20]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.planted_xnli import Look, write_xnli

FREEZE = {"embeddings": 1.0, "embeddings, output.dense.weight": 1.0, "embeddings, B0-5": 1.0}
MEASURE = """
import resource, sys, time
from pathlib import Path
start = time.perf_counter()
from analysis.report import write_report
report = write_report(Path(sys.argv[1]))
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"wall {time.perf_counter() - start:.1f} s, CPU {used.ru_utime + used.ru_stime:.1f} s, "
      f"peak {used.ru_maxrss / 1e3:.0f} MB, report.html {report.html.stat().st_size / 1e6:.2f} MB")
"""


def main() -> None:
    """Plant where nothing is planted, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the planted sweep here; reused when it is there")
    parser.add_argument("--rates", type=int, default=20, help="learning rates; 15 trials each")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not (folder / "sweep.json").is_file():
            start = time.perf_counter()
            rates = [float(f"{1e-8 * 1.25**place:.2e}") for place in range(given.rates)]
            look = Look(rates=rates, seeds=range(5), num_variants=1, num_clusters=1670, freeze=FREEZE)
            write_xnli(folder, look)
            print(f"planted {15 * given.rates} trials in {time.perf_counter() - start:.0f} s")
        root = Path(__file__).resolve().parents[1]
        subprocess.run([sys.executable, "-c", MEASURE, str(folder.resolve())], cwd=root, check=True)


if __name__ == "__main__":
    main()
