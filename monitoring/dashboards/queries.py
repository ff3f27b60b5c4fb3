"""The two languages of the dashboards: PromQL about the present, SQL about the history.

Data sources are named by the variables `metrics` and `history` only, the schema of the mode by the variable `mode`.
"""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus

PROMETHEUS = "prometheus"
POSTGRESQL = "grafana-postgresql-datasource"
METRICS = models.DataSourceRef(PROMETHEUS, "${metrics}")
HISTORY = models.DataSourceRef(POSTGRESQL, "${history}")

MODE = 'mode="$mode"'
VENUE = f'{MODE},exchange=~"$venue"'
PAIR = f'{VENUE},symbol=~"$pair"'
BOOK = f'{PAIR},strategy=~"$strategy"'
"""Label selectors. Grafana turns several chosen values into `(a|b)`."""


class Target(Builder[Dataquery]):
    """One query of a panel, made already; the panel gives it its letter (`refId`)."""

    def __init__(self, query: prometheus.Dataquery | SqlQuery) -> None:
        self.query = query

    @property
    def datasource(self) -> models.DataSourceRef:
        """Where the query goes."""
        return HISTORY if isinstance(self.query, SqlQuery) else METRICS

    def lettered(self, ref_id: str) -> Target:
        """The same under a letter."""
        self.query.ref_id = ref_id
        return self

    def build(self) -> Dataquery:
        return self.query


class SqlQuery(Dataquery):
    """A query of Grafana's PostgreSQL data source, which the library has no model of.

    `form` is `table`, or `time_series`: a column `time`, a numeric column, and text columns that become labels.
    """

    def __init__(self, sql: str, form: str) -> None:
        self.sql = sql
        self.form = form
        self.ref_id = "A"

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": HISTORY,
            "editorMode": "code",
            "format": self.form,
            "rawQuery": True,
            "rawSql": self.sql,
            "refId": self.ref_id,
        }


class SqlAnnotation(Builder[models.AnnotationTarget], models.AnnotationTarget):
    """The query of an annotation; the library models that of Grafana's own store only. Columns: time, timeend, text, tags."""

    def __init__(self, sql: str) -> None:
        super().__init__()
        self.sql = sql

    def build(self) -> models.AnnotationTarget:
        return self

    def to_json(self) -> dict[str, object]:
        return SqlQuery(self.sql, "table").to_json()


def over_time(expr: str, legend: str = "") -> Target:
    """A PromQL query over the chosen time range."""
    return Target(prometheus.Dataquery(expr=expr, legend_format=legend, range_val=True, instant=False, datasource=METRICS))


def now(expr: str, legend: str = "") -> Target:
    """A PromQL query of the end of the chosen time range: for single numbers and tables."""
    query = prometheus.Dataquery(expr=expr, legend_format=legend, range_val=False, instant=True, datasource=METRICS)
    return Target(query)


def rows(expr: str) -> Target:
    """The same as a table: one row for each series, one column for each label."""
    target = now(expr)
    assert isinstance(target.query, prometheus.Dataquery)
    target.query.format_val = prometheus.PromQueryFormat.TABLE
    return target


def buckets(expr: str) -> Target:
    """The rate of each bucket of a histogram, for a heat map; `expr` sums by `le`."""
    target = over_time(expr, "{{le}}")
    assert isinstance(target.query, prometheus.Dataquery)
    target.query.format_val = prometheus.PromQueryFormat.HEATMAP
    return target


def series(sql: str) -> Target:
    """An SQL query whose rows are points of time series."""
    return Target(SqlQuery(tidy(sql), "time_series"))


def records(sql: str) -> Target:
    """An SQL query whose rows are shown as they are."""
    return Target(SqlQuery(tidy(sql), "table"))


def rate(name: str, labels: str = MODE) -> str:
    """How much a counter rises a second."""
    return f"rate({name}{{{labels}}}[$__rate_interval])"


def increase(name: str, labels: str = MODE) -> str:
    """How much a counter rose in the whole chosen time range."""
    return f"increase({name}{{{labels}}}[$__range])"


def table(name: str) -> str:
    """A table in the schema of the chosen mode. Grafana puts the quotes, which makes the value an identifier and nothing else."""
    return f"${{mode:doublequote}}.{name}"


def chosen(column: str, variable: str) -> str:
    """SQL: `column` is one of the chosen values. An array, since IN () would be an error while there is nothing to choose from."""
    return f"{column} = ANY (ARRAY[${{{variable}:sqlstring}}]::text[])"


def during(column: str) -> str:
    """SQL: the nanoseconds in `column` lie in the chosen time range; plain comparisons, which find partitions and indexes."""
    return f"$__unixEpochNanoFilter({column})"


def moment(column: str) -> str:
    """SQL: the nanoseconds in `column` as a time."""
    return f"to_timestamp({column} / 1e9)"


def slot(column: str) -> str:
    """SQL: the beginning of the interval that `column` falls in; Grafana chooses intervals as wide as the screen can show."""
    return f"to_timestamp({column} / 1000000 / $__interval_ms * $__interval_ms / 1000.0)"


def tidy(sql: str) -> str:
    """The same SQL without the indentation of the source."""
    return "\n".join(line.strip() for line in sql.strip().splitlines())
