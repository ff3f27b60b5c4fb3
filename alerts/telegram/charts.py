"""Draws one picture and ends: chart data as JSON on standard input, a PNG on standard output (`chart_data.Drawer` starts it).

Made for a phone: dark, large letters, the newest value written out, units at the axis, times in UTC.
"""

from __future__ import annotations

import io
import resource
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from alerts.telegram.chart_data import Candles, Chart, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEMORY_BYTES = 1_500_000_000
CPU_S = 30
SIZE_INCHES = (7.2, 5.4)
DOTS = 150

MAX_TICKS = 5
TIME_STEPS_S = (5, 15, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000, 15_552_000)

BACKGROUND, INK, FAINT, GRID = "#10151c", "#e6edf3", "#8b98a5", "#263040"
UP, DOWN, LINE, ENTRY = "#2ebd85", "#f6465d", "#58a6ff", "#f0b90b"


def main() -> int:
    """Draw what standard input says; the exit code of the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    chart = msgspec.json.decode(sys.stdin.buffer.read(), type=Chart)
    sys.stdout.buffer.write(png_of(chart))
    return 0


def png_of(chart: Chart) -> bytes:
    """The picture."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.1)
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS, facecolor=BACKGROUND, layout=layout)
    axes = figure.add_subplot()
    _dress(figure, axes, chart)
    if isinstance(chart, Curve):
        _draw_curve(axes, chart)
    else:
        _draw_candles(axes, chart)
    _label_time(axes, chart.times_s)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, fontsize=13, frameon=False, labelcolor=INK)
    target = io.BytesIO()
    figure.savefig(target, format="png", facecolor=BACKGROUND)
    return target.getvalue()


def _dress(figure: Figure, axes: Axes, chart: Chart) -> None:
    figure.suptitle(chart.title, color=INK, fontsize=17, fontweight="bold", x=0.02, ha="left")
    axes.set_facecolor(BACKGROUND)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=13)
    axes.yaxis.tick_right()
    axes.set_title(chart.unit, loc="right", color=FAINT, fontsize=13)
    axes.yaxis.set_major_formatter(lambda value, _: _number(value, axes.get_ylim()))
    for side in ("top", "left"):
        axes.spines[side].set_visible(False)
    for side in ("right", "bottom"):
        axes.spines[side].set_color(GRID)


def _draw_curve(axes: Axes, chart: Curve) -> None:
    axes.axhline(0, color=FAINT, linewidth=1)
    total = chart.total
    colour = UP if total[-1] >= 0 else DOWN
    axes.fill_between(chart.times_s, total, 0, color=colour, alpha=0.15, linewidth=0)
    axes.plot(chart.times_s, chart.closed, color=LINE, linewidth=1.6, linestyle="--", label="closed trades")
    axes.plot(chart.times_s, total, color=colour, linewidth=2.4, label="with open positions")
    axes.margins(x=0.01, y=0.12)
    _tag(axes, total[-1], colour)


def _draw_candles(axes: Axes, chart: Candles) -> None:
    width_s = chart.bar_s * 0.72
    middles = [time_s + chart.bar_s / 2 for time_s in chart.times_s]
    rising = [close >= opened for opened, close in zip(chart.opens, chart.closes, strict=True)]
    colours = [UP if rises else DOWN for rises in rising]
    axes.vlines(middles, chart.lows, chart.highs, colors=colours, linewidth=1.1)
    span = (max(chart.highs) - min(chart.lows)) or abs(chart.closes[-1]) or 1.0
    bodies = [max(abs(close - opened), span / 500) for opened, close in zip(chart.opens, chart.closes, strict=True)]
    axes.bar(middles, bodies, width_s, bottom=[*map(min, chart.opens, chart.closes)], color=colours, linewidth=0)
    for buys, marker, colour, label in ((True, "^", UP, "bought"), (False, "v", DOWN, "sold")):
        marks = [mark for mark in chart.marks if mark.buys is buys]
        if marks:
            axes.scatter(
                [mark.time_s for mark in marks],
                [mark.price for mark in marks],
                marker=marker,
                s=170,
                color=colour,
                edgecolors=INK,
                linewidths=1.4,
                zorder=5,
                label=label,
            )
    if chart.entry is not None:
        axes.axhline(chart.entry, color=ENTRY, linewidth=1.6, linestyle="--", label=f"mean entry {chart.entry:,.8g}")
    axes.margins(x=0.02, y=0.10)
    _tag(axes, chart.closes[-1], colours[-1])
    if chart.note:
        axes.set_title(chart.note, loc="left", color=INK, fontsize=13)


def _tag(axes: Axes, value: float, colour: str) -> None:
    """The newest value, written at the axis."""
    axes.annotate(
        _number(value, axes.get_ylim()),
        xy=(1, value),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=BACKGROUND,
        fontsize=13,
        fontweight="bold",
        bbox={"boxstyle": "round,pad=0.25", "facecolor": colour, "edgecolor": "none"},
        annotation_clip=False,
        zorder=6,
    )


def _label_time(axes: Axes, times_s: list[float]) -> None:
    """Times of day within two days, days beyond; at round numbers."""
    span_s = times_s[-1] - times_s[0]
    form = "%H:%M:%S" if span_s < 600 else "%H:%M" if span_s < 2 * 86_400 else "%d %b" if span_s < 300 * 86_400 else "%b %Y"
    step_s = next((step_s for step_s in TIME_STEPS_S if span_s / step_s <= MAX_TICKS), TIME_STEPS_S[-1])
    first_tick = -(-times_s[0] // step_s) * step_s
    axes.set_xticks([first_tick + step_s * index for index in range(int((times_s[-1] - first_tick) // step_s) + 1)])
    axes.xaxis.set_major_formatter(lambda value, _: datetime.fromtimestamp(value, UTC).strftime(form))
    first, last = (datetime.fromtimestamp(time_s, UTC) for time_s in (times_s[0], times_s[-1]))
    same_day = first.date() == last.date()
    days = f"{first:%d %b %Y}" if same_day else f"{first:%d %b} to {last:%d %b %Y}"
    axes.set_xlabel(f"{days}, UTC", color=FAINT, fontsize=13)


def _number(value: float, limits: tuple[float, float]) -> str:
    """As many digits as tell the ticks apart."""
    span = abs(limits[1] - limits[0]) or 1.0
    digits = next((digits for digits in range(9) if span * 10**digits >= 20), 8)
    return f"{value:,.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
