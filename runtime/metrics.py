"""Prometheus metrics. Hot paths count in plain integers, which are read only when someone scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

Read = Callable[[], float]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

registry = CollectorRegistry()
ProcessCollector(registry=registry)
PlatformCollector(registry=registry)


Family = type[CounterMetricFamily] | type[GaugeMetricFamily]
Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Series:
    """All series of one name: what reads each of them, by labels."""

    family: Family
    help_text: str
    reads: dict[Labels, Read] = field(default_factory=dict)


class _Exposed(Collector):
    """All values that are read at scrape time."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def add(self, family: Family, name: str, help_text: str, labels: dict[str, str], read: Read) -> None:
        # the newest owner of a series wins: a reconnect replaces the old object
        self._series.setdefault(name, _Series(family, help_text)).reads[tuple(sorted(labels.items()))] = read

    def collect(self) -> Iterator[Metric]:
        for name, series in self._series.items():
            metric = series.family(name, series.help_text, labels=[key for key, _ in next(iter(series.reads))])
            for labels, read in series.reads.items():
                metric.add_metric([value for _, value in labels], read())
            yield metric


_exposed = _Exposed()
registry.register(_exposed)


def expose_counter(name: str, help_text: str, labels: dict[str, str], read: Read) -> None:
    """Publish a total that only rises; all series of a name have the same label names, from a bounded set of values."""
    _exposed.add(CounterMetricFamily, name, help_text, labels, read)


def expose_gauge(name: str, help_text: str, labels: dict[str, str], read: Read) -> None:
    """Publish a value that goes up and down."""
    _exposed.add(GaugeMetricFamily, name, help_text, labels, read)


def render() -> bytes:
    """Everything in the Prometheus text format."""
    return generate_latest(registry)
