"""Renders two sample dashboards, one as PDF and one as PNG, with generated figures.

The figures depend only on the instant, so that every run of the demo shows the same history.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

INK, QUIET, PAPER, TILE = "#12343b", "#6b7c83", "#f4f7f8", "#ffffff"
TEAL, SAND, CORAL, SKY = "#1f6f78", "#e0a93b", "#d9614c", "#5aa9d6"


@dataclass(frozen=True)
class SampleDashboard:
    """A sample dashboard and the function that renders it."""

    slug: str
    title: str
    suffix: str
    draw: Callable[[datetime], Figure]

    def render(self, rendered_at: datetime, folder: Path) -> Path:
        """Render the dashboard at an aware instant to a file in `folder`. Return its path."""
        file = folder / f"{self.title} {rendered_at:%Y-%m-%d %H%M}{self.suffix}"
        self.draw(rendered_at).savefig(file, dpi=110, facecolor=PAPER)
        return file


def draw_sales(rendered_at: datetime) -> Figure:
    """Draw "Sales overview": figures of the day, revenue of thirty days, regions and products."""
    rng = random.Random(f"sales {rendered_at:%Y%m%d}")  # noqa: S311
    days = [rendered_at.date() - timedelta(days=29 - n) for n in range(30)]
    revenue = [_daily_revenue(day.toordinal()) for day in days]
    figure = _page("Sales overview", rendered_at)
    yesterday, today = revenue[-2:]
    _tile(figure, 0, "Revenue today", f"€ {today:,.0f}", f"{(today / yesterday - 1) * 100:+.1f} % on yesterday")
    _tile(figure, 1, "Revenue, 30 days", f"€ {sum(revenue) / 1000:,.0f} k", "all regions")
    _tile(figure, 2, "Orders today", f"{today / 61:,.0f}", f"€ {61 + rng.random() * 4:.2f} on average")
    _tile(figure, 3, "Returned", f"{2.1 + rng.random():.1f} %", "target: below 3 %")

    trend = _chart(figure, (0.05, 0.36, 0.90, 0.30), "Revenue per day, thousand €")
    trend.fill_between(range(30), [value / 1000 for value in revenue], color=TEAL, alpha=0.15)
    trend.plot(range(30), [value / 1000 for value in revenue], color=TEAL, linewidth=2.2)
    trend.set_ylim(bottom=0)
    trend.set_xlim(0, 29)
    trend.set_xticks(range(1, 30, 4), [f"{days[n]:%d %b}" for n in range(1, 30, 4)])

    regions = _chart(figure, (0.05, 0.07, 0.42, 0.20), "Revenue by region today, thousand €")
    names = ["North", "South", "East", "West", "Online"]
    shares = [0.18, 0.22, 0.13, 0.17, 0.30]
    values = [today / 1000 * share * rng.uniform(0.9, 1.1) for share in shares]
    regions.bar(names, values, color=[TEAL, TEAL, TEAL, TEAL, SAND], width=0.6)

    products = _chart(figure, (0.53, 0.07, 0.42, 0.20), "Best sellers today, pieces")
    goods = ["Kettle", "Lamp", "Desk", "Chair", "Shelf"]
    products.barh(goods, sorted(rng.randint(40, 260) for _ in goods), color=SKY, height=0.6)
    return figure


def draw_operations(rendered_at: datetime) -> Figure:
    """Draw "Web shop operations": load, answer times and errors of the last 24 hours."""
    rng = random.Random(f"operations {rendered_at:%Y%m%d%H}")  # noqa: S311
    hours = [n / 4 for n in range(97)]
    load = [120 + 80 * math.sin((h + rendered_at.hour - 7) / 24 * 2 * math.pi) + rng.gauss(0, 7) for h in hours]
    median = [38 + value / 12 + rng.gauss(0, 2) for value in load]
    slow = [value * 2.4 + abs(rng.gauss(0, 14)) for value in median]
    errors = [max(0, rng.gauss(0.4, 0.5)) for _ in range(24)]
    errors[rng.randrange(24)] += rng.uniform(2, 5)
    figure = _page("Web shop operations", rendered_at)
    _tile(figure, 0, "Availability, 24 h", f"{100 - sum(errors) / 900:.2f} %", "target: 99.9 %")
    _tile(figure, 1, "Requests per second", f"{load[-1]:.0f}", f"peak {max(load):.0f}")
    _tile(figure, 2, "Answer time, median", f"{median[-1]:.0f} ms", f"95 %: {slow[-1]:.0f} ms")
    _tile(figure, 3, "Error rate, worst hour", f"{max(errors):.1f} ‰", "5xx per thousand requests")

    traffic = _chart(figure, (0.05, 0.36, 0.90, 0.30), "Requests per second, the last 24 hours")
    traffic.fill_between(hours, load, color=SKY, alpha=0.2)
    traffic.plot(hours, load, color=SKY, linewidth=1.8)
    _clock(traffic, rendered_at)

    times = _chart(figure, (0.05, 0.07, 0.42, 0.20), "Answer time, ms: median and 95 %")
    times.plot(hours, slow, color=SAND, linewidth=1.4)
    times.plot(hours, median, color=TEAL, linewidth=1.8)
    _clock(times, rendered_at)

    failures = _chart(figure, (0.53, 0.07, 0.42, 0.20), "Errors per thousand requests, by hour")
    failures.bar(range(24), errors, color=[CORAL if value > 2 else QUIET for value in errors], width=0.7)
    _clock(failures, rendered_at)
    return figure


SAMPLES = [
    SampleDashboard("sales-overview", "Sales overview", ".pdf", draw_sales),
    SampleDashboard("web-shop-operations", "Web shop operations", ".png", draw_operations),
]


def _daily_revenue(day: int) -> float:
    rng = random.Random(day)  # noqa: S311
    weekday = 0.72 if day % 7 in (6, 0) else 1.0
    return (48_000 + 6_000 * math.sin(day / 19)) * weekday * rng.uniform(0.9, 1.12)


def _page(title: str, rendered_at: datetime) -> Figure:
    figure = Figure(figsize=(11.69, 8.27))  # A4, landscape
    figure.text(0.05, 0.935, title, fontsize=22, fontweight="bold", color=INK)
    figure.text(0.95, 0.94, f"{rendered_at:%A, %d %B %Y, %H:%M} UTC", fontsize=11, color=QUIET, ha="right")
    return figure


def _tile(figure: Figure, column: int, label: str, value: str, note: str) -> None:
    left = 0.05 + column * 0.2283
    box = FancyBboxPatch(
        (left, 0.755), 0.215, 0.135, boxstyle="round,pad=0,rounding_size=0.008", color=TILE,
        transform=figure.transFigure, figure=figure, mutation_aspect=1.41,
    )  # fmt: skip
    figure.patches.append(box)
    figure.text(left + 0.014, 0.858, label, fontsize=10, color=QUIET)
    figure.text(left + 0.014, 0.803, value, fontsize=21, fontweight="bold", color=INK)
    figure.text(left + 0.014, 0.773, note, fontsize=9, color=QUIET)


def _chart(figure: Figure, place: tuple[float, float, float, float], title: str) -> Axes:
    axes = figure.add_axes(place)
    axes.set_facecolor(PAPER)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelsize=9, length=0)
    axes.grid(axis="y", color="#d5dde0", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def _clock(axes: Axes, rendered_at: datetime) -> None:
    axes.set_xlim(-0.5, 24)
    axes.set_ylim(bottom=0)
    ticks = range(0, 25, 6)
    axes.set_xticks(ticks, [f"{rendered_at - timedelta(hours=24 - hour):%H:%M}" for hour in ticks])
