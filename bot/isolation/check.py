"""Looks a plugin over before it is let in: reads the file, loads it in a worker, shows it made-up events and says what it found.

Nothing of the plugin is executed in the process that asks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from bot.isolation.import_doubts import doubt_about
from bot.isolation.protocol import MAX_SIGNALS_PER_EVENT, Done, Facts, Import, Said, encode_event
from bot.isolation.source import PluginRefused, PluginSource, read_source
from bot.isolation.workers import Nursery, Worker, WorkerGone
from common_models import Candle, MarketEvent, OrderBook
from runtime.settings import WorkerSettings
from strategy import Market
from strategy.testing import MARKET, candles, tickers, trades

__all__ = ["Finding", "Report", "check_source", "read_source"]

EVENTS: Final = 300
"""Made-up events of each kind; as many candles more as the plugin wants to warm up with, up to a bound."""
MAX_CANDLES: Final = 5000
SLOW_NS: Final = 1_000_000
"""A callback that takes longer than this holds up the next event."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know of the file; `line` is 0 where it is about no line in particular."""

    level: Literal["error", "warning", "info"]
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a plugin after the check; `facts` is None when it cannot be loaded."""

    facts: Facts | None
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether nothing that was found keeps it from running."""
        return self.facts is not None and not any(finding.level == "error" for finding in self.findings)


@dataclass(slots=True)
class _Rehearsal:
    """What a plugin did with the made-up events."""

    said: list[Said] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    busy_ns: dict[str, list[int]] = field(default_factory=dict)
    gone: str = ""


async def check_source(
    source: PluginSource, settings: Mapping[str, Any], markets: Sequence[Market] = (MARKET,), worker: WorkerSettings | None = None
) -> Report:
    """Load the file with these settings in a worker of its own and try it with made-up events, twice."""
    nursery = Nursery(worker or WorkerSettings(), None, signals_per_s=MAX_SIGNALS_PER_EVENT * EVENTS * 4)
    markets = tuple(markets) or (MARKET,)
    try:
        facts, first = await _rehearse(nursery, source, settings, markets)
        second = first if first.gone else (await _rehearse(nursery, source, settings, markets))[1]
    except (PluginRefused, WorkerGone) as error:
        return Report(None, (_finding("error", source, str(error)),))
    finally:
        await nursery.close()
    findings = [*_of_imports(facts.imports), *_of_rehearsal(source, first)]
    if first.said != second.said:
        findings.append(Finding("warning", 0, "the same events gave other signals the second time: it depends on time or chance"))
    return Report(facts, tuple(findings))


async def _rehearse(
    nursery: Nursery, source: PluginSource, settings: Mapping[str, Any], markets: Sequence[Market]
) -> tuple[Facts, _Rehearsal]:
    worker = await nursery.open(source, settings, markets)
    rehearsal = _Rehearsal()
    try:
        await _play(worker, markets[0], rehearsal)
    except (PluginRefused, WorkerGone) as error:
        rehearsal.gone = str(error)
    await worker.stop()
    return worker.facts, rehearsal


async def _play(worker: Worker, market: Market, rehearsal: _Rehearsal) -> None:
    """Show a past, then each kind of event; raises WorkerGone or PluginRefused when the plugin does not get to the end."""
    asked: dict[int, str] = {}

    def done(answer: Done) -> None:
        rehearsal.said += answer.said
        rehearsal.failures += [failure.text for failure in answer.failures]
        rehearsal.busy_ns.setdefault(asked[answer.seq], []).append(answer.busy_ns)

    worker.on_done = done
    *past, last = _at(market, candles(_prices(min(worker.facts.warm_up, MAX_CANDLES) + EVENTS)))
    worker.send_history(market, [candle for candle in past if isinstance(candle, Candle)], [])
    for callback, events in _events(market, last).items():
        if callback in worker.facts.callbacks:
            for event in events:
                asked[len(asked)] = callback
                worker.send_events(len(asked) - 1, [(encode_event(event), True)])
            await worker.save()
    await worker.load(await worker.save())
    worker.beat()
    await worker.save()


def _events(market: Market, last: MarketEvent) -> dict[str, Iterable[MarketEvent]]:
    """Some of each kind, after the candles that were shown."""
    assert isinstance(last, Candle)
    prices = _prices(EVENTS)
    made = {
        "on_candle": candles(prices, start_ns=last.open_ns),
        "on_ticker": tickers(prices, "0.1", last.close_ns),
        "on_trade": trades(prices, last.close_ns),
        "on_book": [
            OrderBook(
                message_id=f"test.books:1:{number}",
                exchange=market.exchange,
                symbol=market.symbol,
                ts_event_ns=None,
                ts_recv_ns=last.close_ns + number,
                sequence=number,
                valid=True,
                crossed=False,
                bids=tuple((price - Decimal(step) / 10, Decimal(step)) for step in range(1, 11)),
                asks=tuple((price + Decimal(step) / 10, Decimal(step)) for step in range(1, 11)),
            )
            for number, price in enumerate(map(Decimal, prices))
        ],
    }
    return {callback: _at(market, events) for callback, events in made.items()}  # type: ignore[arg-type]


def _at(market: Market, events: Iterable[MarketEvent]) -> list[MarketEvent]:
    return [msgspec.structs.replace(event, exchange=market.exchange, symbol=market.symbol) for event in events]


def _prices(count: int) -> list[str]:
    """Waves of several lengths around 100, so that every crossing and every extreme happens."""
    return [f"{100 + 5 * math.sin(at / 9) + 3 * math.sin(at / 23) + math.sin(at / 2):.2f}" for at in range(count)]


def _of_imports(imports: Iterable[Import]) -> list[Finding]:
    return [Finding("warning" if one.found else "error", one.line, words) for one in imports if (words := doubt_about(one))]


def _of_rehearsal(source: PluginSource, rehearsal: _Rehearsal) -> list[Finding]:
    findings = [_finding("error", source, text) for text in dict.fromkeys((*rehearsal.failures, rehearsal.gone)) if text]
    for callback, times in rehearsal.busy_ns.items():
        slowest_ns = sorted(times)[len(times) * 99 // 100]
        level: Literal["warning", "info"] = "warning" if slowest_ns > SLOW_NS else "info"
        middle_us = sorted(times)[len(times) // 2] / 1000
        text = f"{callback}: {middle_us:.0f} µs an event, the slowest hundredth {slowest_ns / 1000:.0f} µs"
        findings.append(Finding(level, 0, text))
    if not findings or all(finding.level == "info" for finding in findings):
        findings.append(Finding("info", 0, f"said {len(rehearsal.said)} signals to made-up events"))
    return findings


def _finding(level: Literal["error", "warning", "info"], source: PluginSource, text: str) -> Finding:
    """A finding at the line that the text names."""
    place = re.search(rf"{re.escape(source.path)}:(\d+)", text)
    return Finding(level, int(place[1]) if place else 0, text)
