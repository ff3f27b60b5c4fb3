"""The few kinds of panel that the dashboards are made of, each with the options that make it readable, on a phone too.

Widths are in Grafana's 24 columns and heights in its rows of 30 pixels; on a narrow screen Grafana puts panels below each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, candlestick, common, dashboard, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.models import candlestick as shapes
from grafana_foundation_sdk.models import common as styles
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps

from monitoring.dashboards.queries import Target

Levels = Sequence[tuple[float, str]]
"""From which value on which colour holds; green holds before the first, unless that one is LOWEST. None at all: no judgement."""

Words = Mapping[str, tuple[str, str]]
"""What is shown for a value, and in which colour."""

Panel = TypeVar(
    "Panel", stat.Panel, timeseries.Panel, tables.Panel, statetimeline.Panel, heatmap.Panel, bargauge.Panel, candlestick.Panel
)

LOWEST = -math.inf
ANY_IS_BAD: Levels = ((1, "red"),)
ANY_IS_ODD: Levels = ((1, "orange"),)
EARNED: Levels = ((LOWEST, "red"), (0, "green"))
TIME = "time:MM-DD HH:mm:ss"
USUAL_WIDTHS = {
    60: "side times id attempts took",
    75: "direction verdict level count fees won closed missing stored severity channel lasted",
    90: "symbol exchange version mode profit return quantity confidence held alertstate by",
    120: "when strategy state status phase",
    140: "plugin name job actor",
}
"""Columns by the pixels that they need, so that the first of them fit a phone; columns of other names share what is left."""
NO_YES: Words = {"0": ("no", "red"), "1": ("yes", "green")}

HALF, SIXTH = 12, 4
CHOICES = ("mode", "venue", "pair", "strategy", "plugin")
"""The variables at the top of every board."""


def number(
    title: str,
    about: str,
    *targets: Target,
    unit: str = "short",
    levels: Levels = (),
    words: Words | None = None,
    decimals: int | None = None,
    empty: str = "none",
    to: str = "",
    span: int = SIXTH,
) -> stat.Panel:
    """One number, or one for each series, coloured by `levels`; `empty` stands for no data, `to` is the board behind it."""
    panel = _described(stat.Panel(), title, about, targets, unit, span, 3)
    panel.thresholds(_thresholds(levels)).no_value(empty)
    panel.color_mode(styles.BigValueColorMode.VALUE).graph_mode(styles.BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    if len(targets) > 1:
        panel.text_mode(styles.BigValueTextMode.VALUE_AND_NAME)
    if words is not None:
        panel.mappings([_mapping(words)])
    if decimals is not None:
        panel.decimals(decimals)
    if to:
        panel.data_links([_to_board(to)])
    return panel


def graph(
    title: str,
    about: str,
    *targets: Target,
    unit: str = "short",
    levels: Levels = (),
    floor: float | None = 0,
    stacked: bool = False,
    bars: bool = False,
    steps: bool = False,
    logarithmic: bool = False,
    span: int = HALF,
    height: int = 8,
) -> timeseries.Panel:
    """Lines over time, from `floor` upwards (None: where the data is), with `levels` as dashed lines."""
    panel = _described(timeseries.Panel(), title, about, targets, unit, span, height)
    panel.thresholds(_thresholds(levels)).color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.line_width(1).fill_opacity(60 if stacked or bars else 8).show_points(styles.VisibilityMode.AUTO)
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(styles.LegendDisplayMode.LIST)
        .placement(styles.LegendPlacement.BOTTOM)
        .calcs([])
    )
    order = styles.SortOrder.DESCENDING
    panel.tooltip(common.VizTooltipOptions().mode(styles.TooltipDisplayMode.MULTI).sort(order))
    if levels:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(styles.GraphTresholdsStyleMode.DASHED))
    if floor is not None:
        panel.min(floor)
    if stacked:
        panel.stacking(common.StackingConfig().mode(styles.StackingMode.NORMAL).group("A"))
    if bars:
        panel.draw_style(styles.GraphDrawStyle.BARS)
    if steps:
        panel.line_interpolation(styles.LineInterpolation.STEP_AFTER)
    if logarithmic:
        panel.scale_distribution(common.ScaleDistributionConfig().type(styles.ScaleDistribution.LOG).log(10))
    return panel


def listing(
    title: str,
    about: str,
    *targets: Target,
    units: Mapping[str, str] | None = None,
    words: Mapping[str, Words] | None = None,
    hidden: Sequence[str] = (),
    empty: str = "nothing",
    span: int = HALF,
    height: int = 9,
) -> tables.Panel:
    """A table. By column: its unit and the colours of its values; a column `when` has times, `hidden` columns are left out."""
    panel = _described(tables.Panel(), title, about, targets, "", span, height)
    panel.no_value(empty).cell_height(styles.TableCellHeight.SM)
    columns: dict[str, list[models.DynamicConfigValue]] = {}
    for column, unit in {"when": TIME, **(units or {})}.items():
        columns.setdefault(column, []).append(models.DynamicConfigValue("unit", unit))
    for column, values in (words or {}).items():
        columns.setdefault(column, []).append(models.DynamicConfigValue("mappings", [_mapping(values)]))
        columns[column].append(models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    for width, names in USUAL_WIDTHS.items():
        panel.override_by_regexp(f"/^({'|'.join(names.split())})$/", [models.DynamicConfigValue("custom.width", width)])
    for column, properties in columns.items():
        panel.override_by_name(column, properties)
    if hidden:
        options = {"excludeByName": dict.fromkeys(hidden, True), "indexByName": {}, "renameByName": {}}
        panel.with_transformation(models.DataTransformerConfig("organize", options=options))
    return panel


def timeline(title: str, about: str, *targets: Target, words: Words, span: int = HALF, height: int = 7) -> statetimeline.Panel:
    """Coloured bars: which state each series was in, and when."""
    panel = _described(statetimeline.Panel(), title, about, targets, "", span, height)
    panel.mappings([_mapping(words)]).merge_values(True).show_value(styles.VisibilityMode.AUTO).row_height(0.8)
    panel.legend(common.VizLegendOptions().show_legend(False).display_mode(styles.LegendDisplayMode.LIST).calcs([]))
    return panel


def spread(title: str, about: str, target: Target, *, unit: str, span: int = HALF, height: int = 9) -> heatmap.Panel:
    """A heat map: how the observations of a histogram lie over its buckets."""
    panel = _described(heatmap.Panel(), title, about, (target,), "short", span, height)
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(unit))
    panel.color(heatmap.HeatmapColorOptions().mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Turbo").exponent(0.5).steps(64))
    return panel.show_tooltip().show_legend()


def gauges(
    title: str, about: str, *targets: Target, unit: str, levels: Levels, top: float = 1, span: int = HALF, height: int = 8
) -> bargauge.Panel:
    """A horizontal bar for each series, from 0 to `top`."""
    panel = _described(bargauge.Panel(), title, about, targets, unit, span, height)
    panel.thresholds(_thresholds(levels)).min(0).max(top).orientation(styles.VizOrientation.HORIZONTAL)
    panel.display_mode(styles.BarGaugeDisplayMode.GRADIENT)
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))


def candles(title: str, about: str, target: Target, *, span: int = HALF, height: int = 12) -> candlestick.Panel:
    """Candles with their volume, of a query with the columns time, open, high, low, close and volume."""
    panel = _described(candlestick.Panel(), title, about, (target,), "locale", span, height)
    panel.mode(shapes.VizDisplayMode.CANDLES_VOLUME).candle_style(shapes.CandleStyle.CANDLES)
    panel.color_strategy(shapes.ColorStrategy.OPEN_CLOSE).include_all_fields(False)
    return panel.legend(common.VizLegendOptions().show_legend(False).display_mode(styles.LegendDisplayMode.LIST).calcs([]))


def _described(panel: Panel, title: str, about: str, targets: Sequence[Target], unit: str, span: int, height: int) -> Panel:
    """What every panel has: its words and its size. All queries of a panel go to one data source."""
    panel.title(title).description(about).datasource(targets[0].datasource).span(span).height(height)
    for letter, target in zip(ascii_uppercase, targets, strict=False):
        assert target.datasource is targets[0].datasource, f"{title}: queries of two data sources"
        panel.with_target(target.lettered(letter))
    return panel.unit(unit) if unit else panel


def _thresholds(levels: Levels) -> dashboard.ThresholdsConfig:
    if not levels:
        levels = ((LOWEST, "text"),)
    elif levels[0][0] != LOWEST:
        levels = ((LOWEST, "green"), *levels)
    steps = [models.Threshold(None if value == LOWEST else value, colour) for value, colour in levels]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _mapping(words: Words) -> models.ValueMap:
    results = {
        value: models.ValueMappingResult(text, colour, index=place) for place, (value, (text, colour)) in enumerate(words.items())
    }
    return models.ValueMap(results)


def _to_board(name: str) -> dashboard.DashboardLink:
    """A click leads to another board, with the same time range and the same choices."""
    choices = "&".join(f"${{{variable}:queryparam}}" for variable in CHOICES)
    return dashboard.DashboardLink(f"Open {name}").url(f"/d/tradebot-{name}?${{__url_time_range}}&{choices}")
