"""What all dashboards share: the choices at their top, the links between them, refresh and time range."""

# ruff: noqa: S608 - Grafana's macros and our own names are put into the SQL, never a value

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from monitoring.dashboards.panels import CHOICES
from monitoring.dashboards.queries import (
    HISTORY,
    METRICS,
    MODE,
    POSTGRESQL,
    PROMETHEUS,
    VENUE,
    SqlAnnotation,
    chosen,
    table,
    tidy,
)

TAG = "tradebot"
MODES = ("simulation", "paper", "live")
ALL = models.VariableOption(False, "All", "$__all")


class Board(dashboard.Dashboard):
    """One dashboard. `shows` names the choices that its panels heed; the others are there unseen, so that links carry them on.

    `from_history` fills the choices from PostgreSQL, for boards about it; others need Prometheus only.
    """

    def __init__(
        self, name: str, title: str, about: str, *, shows: Sequence[str], from_history: bool = False, last: str = "6h"
    ) -> None:
        super().__init__(f"tradebot / {title}")
        self.name = name
        self._ids = 0
        self.uid(f"{TAG}-{name}").description(about).tags([TAG]).timezone("browser").editable()
        self.refresh("30s" if from_history else "10s").time(f"now-{last}", "now").tooltip(models.DashboardCursorSync.CROSSHAIR)
        links = dashboard.DashboardLink("Dashboards").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
        self.link(links.as_dropdown(True).include_vars(True).keep_time(True).icon("external link"))
        for source, plugin in (("metrics", PROMETHEUS), ("history", POSTGRESQL)):
            self.with_variable(dashboard.DatasourceVariable(source).type(plugin).hide(models.VariableHide.HIDE_VARIABLE))
        for choice in _choices(from_history):
            variable = choice.build()
            choice.hide(models.VariableHide.DONT_HIDE if variable.name in shows else models.VariableHide.HIDE_VARIABLE)
            self.with_variable(choice)

    def section(self, title: str, *panels: Builder[models.Panel]) -> Board:
        """Add panels below a heading; without a title they stand at the top."""
        if title:
            self._ids += 1
            self.with_row(dashboard.Row(title).id(self._ids))
        for panel in panels:
            self._ids += 1
            panel.build().id_val = self._ids
            self.with_panel(panel)
        return self

    def marks(self, name: str, colour: str, sql: str) -> Board:
        """Mark moments on all graphs: rows of time, text and tags, and timeend for a stretch."""
        query = dashboard.AnnotationQuery().name(name).datasource(HISTORY).icon_color(colour).enable(True)
        self.annotation(query.target(SqlAnnotation(tidy(sql))))
        return self


def _choices(from_history: bool) -> list[dashboard.QueryVariable]:
    """The variables of CHOICES. One mode at a time, of those that there are: live first, as the alphabet has it."""
    mode, venue, pair, strategy, plugin = (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        for name in CHOICES
    )
    for several in (venue, pair, strategy, plugin):
        several.multi(True).include_all(True).current(ALL)
    if from_history:
        of_venue = chosen("exchange", "venue")
        return [
            _from_history(mode, f"SELECT nspname FROM pg_namespace WHERE nspname IN {MODES}"),
            _from_history(venue, f"SELECT DISTINCT exchange FROM {table('instruments')} ORDER BY 1"),
            _from_history(pair, f"SELECT DISTINCT symbol FROM {table('instruments')} WHERE {of_venue} ORDER BY 1"),
            _from_history(strategy, f"SELECT DISTINCT strategy FROM {table('positions')} WHERE {of_venue} ORDER BY 1"),
            _from_history(plugin, f"SELECT name FROM {table('plugins')} ORDER BY 1"),
        ]
    return [
        _from_metrics(mode, "tradebot_build_info", "", "mode"),
        _from_metrics(venue, "tradebot_feed_connected", MODE, "exchange"),
        _from_metrics(pair, "tradebot_feed_stale_seconds", VENUE, "symbol"),
        _from_metrics(strategy, "tradebot_position_quantity", VENUE, "strategy"),
        _from_metrics(plugin, "tradebot_plugin_state", MODE, "plugin"),
    ]


def _from_history(variable: dashboard.QueryVariable, sql: str) -> dashboard.QueryVariable:
    return variable.datasource(HISTORY).query(sql)


def _from_metrics(variable: dashboard.QueryVariable, name: str, labels: str, label: str) -> dashboard.QueryVariable:
    """Offer the values of a label."""
    query = f"label_values({name}{{{labels}}}, {label})"
    return variable.datasource(METRICS).query({"query": query, "refId": f"{label}-values"})
