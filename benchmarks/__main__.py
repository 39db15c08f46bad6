"""Runs all measurements, one after the other, and shows the progress: `python -m benchmarks [NAME…]`.

Writes the results as JSON to BENCH_RESULTS (default: `bench-results/`), and draws `speed.svg` there. Exits 1 if a bar
is missed.
"""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

from benchmarks import chart, million

MEASUREMENTS = {
    "upload": ("upload",),
    "near": ("engine", "near"),
    "far": ("engine", "far"),
    "ways_in": ("ways_in",),
    "api": ("api",),
    "growth": ("growth",),
    "claim": ("claim",),
    "asof": ("asof",),
    "pages": ("pages",),
    "rebuild": ("rebuild",),
    "proof": ("proof",),
    "memory": ("memory",),
}


def main(chosen: list[str]) -> int:
    """Run the chosen measurements, or all; return the exit status."""
    names = chosen or list(MEASUREMENTS)
    os.environ.setdefault("BENCH_RESULTS", "bench-results")
    os.environ["BENCH_TEMPLATE"] = f"anaphora_bench_{uuid.uuid4().hex[:8]}"
    try:
        return _run(names)
    finally:
        million.drop_template()


def _run(names: list[str]) -> int:
    statuses, began = {}, time.monotonic()
    for number, name in enumerate(names, 1):
        module, *arguments = MEASUREMENTS[name]
        minutes = (time.monotonic() - began) / 60
        print(f"== {number} of {len(names)}, after {minutes:.1f} min: python -m benchmarks {name}", flush=True)
        statuses[name] = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments], check=False
        ).returncode
    missed = [name for name, status in statuses.items() if status]
    print(f"== {(time.monotonic() - began) / 60:.1f} min; missed: {', '.join(missed) or 'none'}")
    chart.draw(Path(os.environ["BENCH_RESULTS"]))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
