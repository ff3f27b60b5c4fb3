"""Prometheus metrics. Hot paths count in plain integers, which are read only when someone scrapes (docs/metrics.md).

Our own series are written out here and not by the client library: a bot has a thousand lines, which cost the library five
milliseconds of the event loop at each scrape and this file half of one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

log = structlog.get_logger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Read = Callable[[], float]
ReadMany = Callable[[], Mapping[tuple[str, ...], float]]
"""Reads several series at once: values by the values of the labels that tell the series apart."""

_NS_PER_S: Final = 1_000_000_000
BOUNDS_NS: Final = (
    *(step * 10**power for power in range(4, 10) for step in (1, 2, 5)),
    *(seconds * _NS_PER_S for seconds in (10, 30, 60)),
)
"""Upper bounds of every histogram's buckets: 1, 2, 5 x 10^n from 10 µs to 10 s, then half a minute and a minute."""
_SPECIAL: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
_LE: Final = (*(repr(bound / _NS_PER_S) for bound in BOUNDS_NS), "+Inf")


class Histogram:
    """Durations in fixed buckets. `observe_ns` costs about 0.2 µs; everything else happens at the scrape."""

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_NS) + 1)
        self.sum_ns = 0

    def observe_ns(self, duration_ns: int) -> None:
        """Count one duration; a negative one (two clocks compared) counts as 0."""
        if duration_ns > 0:
            self.counts[bisect_left(BOUNDS_NS, duration_ns)] += 1
            self.sum_ns += duration_ns
        else:
            self.counts[0] += 1

    @property
    def count(self) -> int:
        return sum(self.counts)


@dataclass(slots=True)
class _Family:
    """All series of one name. `sources` write the lines of some of them, by their fixed labels."""

    kind: str
    help_text: str
    sources: dict[tuple[tuple[str, str], ...], Callable[[], Iterator[str]]] = field(default_factory=dict)
    histograms: dict[tuple[tuple[str, str], ...], Histogram] = field(default_factory=dict)


class Metrics:
    """What one process exposes. A series belongs to its name and labels: the newest owner is the one that is read."""

    def __init__(self) -> None:
        self.failures = 0
        self._families: dict[str, _Family] = {}
        self._common: dict[str, str] = {}

    def label_all(self, labels: Mapping[str, str]) -> None:
        """Give every series exposed from now on these labels as well."""
        self._common = dict(labels)

    def add(self, kind: str, name: str, help_text: str, labels: Mapping[str, str], read: Read) -> None:
        """Expose one series."""
        start = f"{name}{_braces({**self._common, **labels})} "

        def lines() -> Iterator[str]:
            yield start + _number(read())

        self._source(kind, name, help_text, labels, lines)

    def add_many(
        self, kind: str, name: str, help_text: str, labels: Mapping[str, str], by: tuple[str, ...], read: ReadMany
    ) -> None:
        """Expose the series that share `labels` and are told apart by the labels `by`, whichever there are at the scrape."""
        common = {**self._common, **labels}

        def lines() -> Iterator[str]:
            for key, value in read().items():
                yield f"{name}{_braces({**common, **dict(zip(by, key, strict=True))})} {_number(value)}"

        self._source(kind, name, help_text, labels, lines)

    def histogram(self, name: str, help_text: str, labels: Mapping[str, str]) -> Histogram:
        """The histogram of this name and labels, made and exposed when it is asked for the first time."""
        key = tuple(sorted(labels.items()))
        known = self._families.get(name)
        if known is not None and key in known.histograms:
            return known.histograms[key]
        made = Histogram()
        common = {**self._common, **labels}
        starts = [f"{name}_bucket{_braces({**common, 'le': bound})} " for bound in _LE]
        sum_start, count_start = (f"{name}_{part}{_braces(common)} " for part in ("sum", "count"))

        def lines() -> Iterator[str]:
            cumulative = list(accumulate(made.counts))
            for start, count in zip(starts, cumulative, strict=True):
                yield f"{start}{count}"
            yield f"{sum_start}{_number(made.sum_ns / _NS_PER_S)}"
            yield f"{count_start}{cumulative[-1]}"

        self._source("histogram", name, help_text, labels, lines)
        self._families[name].histograms[key] = made
        return made

    def render(self) -> str:
        """All series in the text format. One that cannot be read is left out, counted and logged: the others still tell."""
        text: list[str] = []
        for name, family in tuple(self._families.items()):
            text.append(f"# HELP {name} {_escaped(family.help_text)}\n# TYPE {name} {family.kind}")
            for lines in tuple(family.sources.values()):
                try:
                    text += lines()
                except Exception as error:  # noqa: BLE001 the boundary to whoever owns the number
                    self._note_failure(name, error)
        text.append("")
        return "\n".join(text)

    def _source(self, kind: str, name: str, help_text: str, labels: Mapping[str, str], lines: Callable[[], Iterator[str]]) -> None:
        family = self._families.setdefault(name, _Family(kind, help_text))
        family.sources[tuple(sorted(labels.items()))] = lines

    def _note_failure(self, name: str, error: Exception) -> None:
        """Log the 1st, 10th, 100th ... failure: a scrape comes every few seconds for ever."""
        self.failures += 1
        if str(self.failures).strip("0") == "1":
            log.warning("metrics.unreadable", metric=name, failures=self.failures, exc_info=error)


process = Metrics()
"""What this process exposes; the functions below add to it."""

_own = CollectorRegistry()
ProcessCollector(registry=_own)
PlatformCollector(registry=_own)


def label_all(labels: Mapping[str, str]) -> None:
    """Give every series of this process these labels as well; to be called before anything is exposed."""
    process.label_all(labels)


def expose_counter(name: str, help_text: str, labels: Mapping[str, str], read: Read) -> None:
    """Publish a total that only rises, as `NAME_total`; label values come from a bounded set."""
    process.add("counter", _total(name), help_text, labels, read)


def expose_gauge(name: str, help_text: str, labels: Mapping[str, str], read: Read) -> None:
    """Publish a value that goes up and down."""
    process.add("gauge", name, help_text, labels, read)


def expose_counters(name: str, help_text: str, labels: Mapping[str, str], by: tuple[str, ...], read: ReadMany) -> None:
    """Publish several totals of one name, which `read` gives by the values of the labels `by`."""
    process.add_many("counter", _total(name), help_text, labels, by, read)


def expose_gauges(name: str, help_text: str, labels: Mapping[str, str], by: tuple[str, ...], read: ReadMany) -> None:
    """Publish several values of one name, which `read` gives by the values of the labels `by`."""
    process.add_many("gauge", name, help_text, labels, by, read)


def expose_histogram(name: str, help_text: str, labels: Mapping[str, str]) -> Histogram:
    """Publish durations in buckets; a second call with the same name and labels returns the same histogram."""
    return process.histogram(name, help_text, labels)


def hop(name: str, exchange: str = "") -> Histogram:
    """The histogram of one hop of an event's way; their names are listed in docs/metrics.md."""
    return expose_histogram("tradebot_hop_seconds", "Latency of one hop", {"hop": name, "exchange": exchange})


def render() -> bytes:
    """Everything in the Prometheus text format."""
    return process.render().encode() + generate_latest(_own)


def _total(name: str) -> str:
    return name if name.endswith("_total") else f"{name}_total"


def _number(value: float) -> str:
    text = repr(float(value))
    return _SPECIAL.get(text, text)


def _braces(labels: Mapping[str, str]) -> str:
    pairs = ",".join([f'{name}="{_escaped(value, quote=True)}"' for name, value in labels.items()])
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
