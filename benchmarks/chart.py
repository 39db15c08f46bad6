"""Draws `speed.svg` from the results of a run: the reports per second of each tool."""

import json
from html import escape
from pathlib import Path

_ROW, _LABEL, _WIDTH = 24, 90, 420
_TITLES = {"near": "No latency", "far": "25 ms of latency, 32 uploads at once"}


def draw(folder: Path) -> None:
    """Write `speed.svg` into the folder with the results, for the results that exist."""
    parts, top = [], 10
    for name, title in _TITLES.items():
        file = folder / f"{name}.json"
        if not file.exists():
            continue
        rates = json.loads(file.read_text())["measured"]["reports_per_second"]
        parts.append(f'<text x="0" y="{top + 14}" font-weight="bold">{title}, reports per second</text>')
        top += _ROW
        for label, rate in rates.items():
            length = _WIDTH * rate / max(rates.values())
            fill = "#0b7285" if label == "ours" else "#868e96"
            parts.append(f'<text x="{_LABEL - 8}" y="{top + 14}" text-anchor="end">{escape(label)}</text>')
            parts.append(f'<rect x="{_LABEL}" y="{top}" width="{length:.0f}" height="18" fill="{fill}"/>')
            parts.append(f'<text x="{_LABEL + length + 6:.0f}" y="{top + 14}">{rate:,}</text>')
            top += _ROW
        top += 10
    if parts:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 {top}" font-family="sans-serif" font-size="13">'
        )
        # With a background, because pages can be dark or light.
        lines = [head, f'<rect width="600" height="{top}" fill="#ffffff"/>', *parts, "</svg>", ""]
        (folder / "speed.svg").write_text("\n".join(lines))
