"""Prints the bars of measurements and, with BENCH_RESULTS=FOLDER, writes the results as JSON for `benchmarks.chart`.

Every bar is a ratio of two measurements of the same run, so that it is valid on any machine.
"""

import json
import os
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Bar:
    """A ratio and its lower or upper limit. `aim` is a stricter limit that would be better."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the ratio is within its limit."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


def median_ratio(rates: dict[str, list[float]], ours: str, theirs: str) -> float:
    """Return the median of the ratios of each round, so that a machine whose speed changes does not distort it."""
    return statistics.median(mine / other for mine, other in zip(rates[ours], rates[theirs], strict=True))


def finish(measurement: str, *bars: Bar, **measured: Any) -> int:
    """Print the bars, write the results, and return the exit status: 1 if a bar is missed."""
    for bar in bars:
        wanted = f"at least {bar.at_least:g}" if bar.at_least is not None else f"at most {bar.at_most:g}"
        aim = f", the aim {bar.aim:g}" if bar.aim is not None else ""
        print(f"{bar.name}: {bar.value:.2f}; the bar is {wanted}{aim}: {'kept' if bar.kept else 'MISSED'}")
    if folder := os.environ.get("BENCH_RESULTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        content = {"bars": [asdict(bar) | {"kept": bar.kept} for bar in bars], "measured": measured}
        Path(folder, f"{measurement}.json").write_text(json.dumps(content, indent=1) + "\n")
    return 0 if all(bar.kept for bar in bars) else 1
