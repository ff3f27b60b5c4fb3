"""Each kind of rule: what it tells, when, once, and when it says that it is over."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import common_models as cm
from alerts.durable_tables import DurableTables
from alerts.report import Report, ends
from alerts.rules.metrics import series
from alerts.rules.models import RuleFile, rendered
from alerts.rules.probes import DownProbe, RestartProbe
from alerts.rules.rule_book import RuleBook, load_rules
from alerts.service import run
from runtime.settings import Settings
from runtime.settings_loader import ConfigError, load_settings
from tests.unit.alerts.desk import SECOND, START_NS

ROOT = Path(__file__).resolve().parents[3]
ACCOUNT = {"exchange": "binance", "account": "main", "ts_event_ns": START_NS, "ts_recv_ns": START_NS}


class Rules:
    """Rules as in the file, fed by hand."""

    def __init__(self, home: Path, **rules: dict[str, Any]) -> None:
        self.home = home
        self.now_ns = START_NS
        self.rules = rules
        exchange = {"port": 0, "symbols": ["BTC/USDT", "ETH/USDT"]}
        self.settings = Settings.model_validate({"home": home, "exchanges": {"binance": exchange}})
        self.open()

    def open(self) -> None:
        self.tables = DurableTables(self.home)
        self.book = RuleBook(RuleFile.model_validate({"rules": self.rules}).enabled, self.settings, self.tables)
        self.tables.load()

    def restart(self) -> None:
        self.tables.commit()
        self.tables.close()
        self.open()

    def see(self, *messages: cm.Message) -> list[Report]:
        found: list[Report] = []
        for message in messages:
            found += self.book.see(message, self.now_ns)  # type: ignore[arg-type]
        assert self.book.errors == 0
        return found

    def after(self, seconds: float) -> list[Report]:
        self.now_ns += int(seconds * SECOND)
        found = list(self.book.tick(self.now_ns))
        assert self.book.errors == 0
        return found


def ticker(price: str, symbol: str = "BTC/USDT", exchange: str = "binance") -> cm.Ticker[Decimal]:
    value = Decimal(price)
    return cm.Ticker(
        exchange=exchange, symbol=symbol, ts_event_ns=None, ts_recv_ns=START_NS,
        bid_price=value, bid_size=Decimal(1), ask_price=value, ask_size=Decimal(1), crossed=False,
    )  # fmt: skip


def order(status: cm.OrderStatus, order_id: str = "a" * 32, **changes: Any) -> cm.OrderUpdate:
    fields: dict[str, Any] = {
        **ACCOUNT, "client_order_id": order_id, "symbol": "BTC/USDT", "side": cm.Side.BUY, "order_type": cm.OrderType.LIMIT, "status": status,
        "quantity": Decimal("0.0100"), "filled_quantity": Decimal(0), "filled_quote": Decimal(0), "revision": 1, "price": Decimal("50000.00"),
    }  # fmt: skip
    return cm.OrderUpdate(**(fields | changes))


def position(quantity: str, mark: str | None = "50000", cost: str = "500", symbol: str = "BTC/USDT") -> cm.Position:
    return cm.Position(
        **ACCOUNT, symbol=symbol, strategy="consensus", quantity=Decimal(quantity), cost=Decimal(cost), mark_price=Decimal(mark) if mark else None
    )  # fmt: skip


def fill(trade_id: str = "1", **changes: Any) -> cm.Fill:
    fields: dict[str, Any] = {
        **ACCOUNT, "trade_id": trade_id, "client_order_id": "a" * 32, "exchange_order_id": "1", "symbol": "BTC/USDT", "side": cm.Side.SELL,
        "price": Decimal("50000.10"), "quantity": Decimal("0.0100"), "quote_quantity": Decimal("500.001"), "fee": Decimal("0.50"),
        "fee_asset": "USDT", "liquidity": cm.Liquidity.TAKER, "strategy": "consensus",
    }  # fmt: skip
    return cm.Fill(**(fields | changes))


def round_trip(profit: str, closed_ns: int = START_NS) -> cm.RoundTrip:
    return cm.RoundTrip(
        exchange="binance", account="main", strategy="consensus", symbol="BTC/USDT", side=cm.Side.BUY, quantity=Decimal("0.01"),
        entry_cost=Decimal(500), exit_proceeds=Decimal(500) + Decimal(profit), fees=Decimal(1), profit=Decimal(profit),
        opened_ns=closed_ns - 90 * SECOND, closed_ns=closed_ns, exit_reason="take_profit", trade_ids=(f"t{profit}",),
    )  # fmt: skip


def balance(total: str, asset: str = "USDT") -> cm.Balance:
    return cm.Balance(**ACCOUNT, asset=asset, free=Decimal(total), locked=Decimal(0))


def connector(state: cm.ConnectionState, subject: str = "") -> cm.ConnectorStatus:
    return cm.ConnectorStatus(**ACCOUNT, leg="market", state=state, reason="socket closed", subject=subject)


def titles(reports: list[Report]) -> list[str]:
    return [report.title for report in reports]


def test_a_price_is_told_when_it_crosses_and_not_where_it_already_is(tmp_path: Path) -> None:
    rules = Rules(tmp_path, high={"kind": "price", "symbol": "btc-usdt", "above": "100", "rearm_percent": "1"})
    assert rules.book.market[0].name == "simulation:events:{binance}:tickers"
    assert rules.see(ticker("101")) == []  # it was above before we came
    assert rules.see(ticker("99.5")) == []
    assert titles(rules.see(ticker("100"))) == ["BTC/USDT is above 100: 100 on binance"]
    assert rules.see(ticker("99.9"), ticker("100.1")) == []  # around the line
    rules.restart()
    assert rules.see(ticker("99.5"), ticker("101")) == []
    assert len(rules.see(ticker("98.9"), ticker("101"))) == 1


@settings(max_examples=50, deadline=None)
@given(prices=st.lists(st.integers(90, 110), max_size=40))
def test_between_two_price_alerts_the_price_was_on_the_other_side(
    tmp_path_factory: pytest.TempPathFactory, prices: list[int]
) -> None:
    rules = Rules(tmp_path_factory.mktemp("r"), low={"kind": "price", "symbol": "BTC/USDT", "below": "100", "rearm_percent": "3"})
    highest, told_before = 0, False
    for price in prices:
        if rules.see(ticker(str(price))):
            assert price <= 100 < highest
            assert highest >= 103 or not told_before
            highest, told_before = 0, True
        highest = max(highest, price)
    rules.tables.close()


def test_a_rejected_order_is_told_with_its_reason_and_exceptions_are_not(tmp_path: Path) -> None:
    rules = Rules(tmp_path, rejected={"kind": "order", "except_codes": ["EXPIRED_LOCALLY"]})
    rejected = order(cm.OrderStatus.REJECTED, code="BAD_PRICE", reason="too low")
    [report] = rules.see(order(cm.OrderStatus.OPEN), rejected, order(cm.OrderStatus.REJECTED, code="EXPIRED_LOCALLY"))
    assert report.title == "buy 0.01 BTC/USDT on binance REJECTED: BAD_PRICE too low"
    assert (report.level, report.category, report.event) == (cm.AlertLevel.WARNING, "orders", "rejected")


def test_an_order_that_stays_unknown_is_told_after_its_time_and_again_when_it_is_settled(tmp_path: Path) -> None:
    rules = Rules(tmp_path, unknown={"kind": "unknown_order", "for_s": 30})
    assert (
        rules.see(order(cm.OrderStatus.UNKNOWN), order(cm.OrderStatus.UNKNOWN, "b" * 32), order(cm.OrderStatus.FILLED, "b" * 32))
        == []
    )
    assert rules.after(29) == []
    [report] = rules.after(2)
    assert report.title == "buy 0.01 BTC/USDT on binance is UNKNOWN for 31 s"
    assert rules.after(60) == []
    rules.restart()
    [over] = rules.see(order(cm.OrderStatus.FILLED))
    assert over.resolves
    assert over.key == report.key


def test_a_decision_is_told_by_its_code(tmp_path: Path) -> None:
    rules = Rules(tmp_path, denied={"kind": "decision", "codes": ["STORAGE_UNWRITABLE"]})
    decision = cm.Decision(
        strategy="consensus", exchange="binance", account="main", symbol="BTC/USDT", direction=cm.Direction.BUY, verdict=cm.Verdict.DENIED,
        code="STORAGE_UNWRITABLE", reason="the disk is full", numbers={"free_mb": "0"}, signals=(), ts_event_ns=START_NS,
    )  # fmt: skip
    [report] = rules.see(decision, msgspec.structs.replace(decision, code="CONSENSUS_WEAK"))
    assert report.title == "buy BTC/USDT on binance denied: STORAGE_UNWRITABLE the disk is full"
    assert report.details == {"free_mb": "0"}


def test_each_fill_is_told(tmp_path: Path) -> None:
    rules = Rules(tmp_path, fill={"kind": "fill", "external": False, "text": "{side} {quantity} at {price}, {quote_quantity}"})
    assert titles(rules.see(fill(), fill("2", external=True))) == ["sold 0.01 at 50000.1, 500.001"]


def test_a_position_is_opened_once_however_often_it_is_told(tmp_path: Path) -> None:
    rules = Rules(tmp_path, opened={"kind": "position_opened"})
    assert rules.see(position("0.01")) == []  # held before we ever looked
    assert rules.see(position("0"), fill()) == []
    assert titles(rules.see(position("0.01"))) == ["opened 0.01 BTC/USDT on binance for 500 USDT"]
    rules.restart()
    assert rules.see(position("0.01", "51000")) == []
    assert titles(rules.see(fill(symbol="ETH/USDT"), position("1", symbol="ETH/USDT"))) == [
        "opened 1 ETH/USDT on binance for 500 USDT"
    ]


def test_a_round_trip_is_told_with_its_profit(tmp_path: Path) -> None:
    rules = Rules(
        tmp_path, closed={"kind": "position_closed"}, big_loss={"kind": "position_closed", "min_loss": 20, "level": "error"}
    )
    [report] = rules.see(round_trip("12.5"))
    assert report.title == "closed 0.01 BTC/USDT on binance: profit 12.5 USDT (2.5 %) after 90 s, take_profit"
    assert [report.event for report in rules.see(round_trip("-25"))] == ["closed", "big_loss"]


def test_drawdown_counts_from_the_highest_equity_over_restarts(tmp_path: Path) -> None:
    rules = Rules(tmp_path, drawdown={"kind": "drawdown", "percent": 5, "for_s": 10})
    rules.see(balance("1000"), balance("3", "BTC"))
    assert rules.after(1) == []
    rules.see(balance("500"), position("0.01", "60000"))
    assert rules.after(1) == []  # 1100 is a new peak
    rules.restart()
    rules.see(position("0.01", "54000"))
    assert rules.after(1) == []  # 1040 is 5.45 % below, but only just now
    assert titles(rules.after(11)) == ["USDT equity 1040 is 5.45 % below its peak of 1100"]
    rules.see(position("0.01", "59000"))
    assert [report.resolves for report in rules.after(1)] == [True]


def test_a_limit_is_told_at_its_share_and_louder_beyond(tmp_path: Path) -> None:
    rules = Rules(
        tmp_path,
        loss={"kind": "limit", "of": "daily_loss", "limit": 100, "for_s": 0},
        trades={"kind": "limit", "of": "open_trades", "limit": 2, "for_s": 0},
        exposure={"kind": "limit", "of": "exposure", "limit": 50, "for_s": 0},
    )
    rules.see(balance("1000"), round_trip("-79"))
    assert rules.after(1) == []
    rules.see(round_trip("-2"))
    assert titles(rules.after(1)) == ["daily loss at 81 % of its limit: 81 of 100"]
    rules.see(round_trip("-30"))
    [beyond] = rules.after(1)
    assert (beyond.level, beyond.title) == (cm.AlertLevel.ERROR, "daily loss at 111 % of its limit: 111 of 100")
    rules.see(position("0.006", "70000"), position("0.0000001", "70000", symbol="ETH/USDT"))
    assert rules.after(1) == []
    rules.see(position("1", "500", symbol="ETH/USDT"))
    assert titles(rules.after(1)) == ["open trades at 100 % of its limit: 2 of 2", "exposure at 96 % of its limit: 47.92 of 50"]
    assert [report.resolves for report in rules.after(86_400)] == [True]  # a new day


def test_a_silent_feed_is_told_when_it_lasts_and_resolved_with_its_leg(tmp_path: Path) -> None:
    rules = Rules(tmp_path, stale={"kind": "stale_feed", "for_s": 30})
    state = cm.ConnectionState
    rules.see(connector(state.RECONNECTING), connector(state.CONNECTED))
    assert rules.after(60) == []
    rules.see(connector(state.STALE, "trades BTC/USDT"))
    assert titles(rules.after(31)) == ["binance market trades BTC/USDT is stale for 31 s: socket closed"]
    assert [report.resolves for report in rules.see(connector(state.CONNECTED))] == [True]


def test_gaps_that_stay_are_told_and_healed_ones_are_not(tmp_path: Path) -> None:
    rules = Rules(tmp_path, gap={"kind": "gap", "symbols": ["BTC/USDT"]})
    assert [stream.label for stream in rules.book.market] == ["binance.trades", "binance.candles"]
    gap = cm.Gap(
        exchange="binance", symbol="BTC/USDT", stream="simulation:events:{binance}:trades", reason="reconnected",
        from_ns=1, to_ns=2, ts_recv_ns=3, count=17,
    )  # fmt: skip
    replace = msgspec.structs.replace
    told = rules.see(
        gap, replace(gap, healed=True), replace(gap, symbol="ETH/USDT"), replace(gap, stream="simulation:events:{binance}:books")
    )
    assert titles(told) == ["binance BTC/USDT trades: 17 missing: reconnected"]


def test_the_emergency_stop_is_told(tmp_path: Path) -> None:
    rules = Rules(tmp_path, stop={"kind": "control", "actions": ["halt", "resume"], "level": "error"})
    words = [cm.Control(action=action, actor="anna", reason="drill", created_at_ns=1) for action in cm.ControlAction]
    halted, over, resumed = rules.see(*words)
    assert titles([halted, resumed]) == ["halt everything by anna: drill", "resume everything by anna: drill"]
    assert (halted.one_off, resumed.one_off) == (False, True)
    assert over.resolves
    assert ends(over.key, halted.key)


def test_a_release_of_one_target_leaves_the_others_stopped(tmp_path: Path) -> None:
    rules = Rules(tmp_path, stop={"kind": "control", "actions": ["halt", "resume"], "level": "error"})
    words = [
        cm.Control(action=action, actor="anna", reason="drill", created_at_ns=1, target=target)
        for action, target in (
            (cm.ControlAction.HALT, "binance"),
            (cm.ControlAction.HALT, None),
            (cm.ControlAction.RESUME, "binance"),
        )
    ]
    binance, everything, over, _ = rules.see(*words)
    assert ends(over.key, binance.key)
    assert not ends(over.key, everything.key)


def test_an_alert_of_another_process_is_told_as_it_is_or_as_a_rule_says(tmp_path: Path) -> None:
    rules = Rules(
        tmp_path,
        spool={"kind": "alert", "codes": ["SPOOLING"], "level": "error", "text": "history: {text}", "notify": "silent"},
        drained={"kind": "alert", "codes": ["DRAINED"], "resolves": ["SPOOLING"]},
    )
    alert = cm.Alert(level=cm.AlertLevel.WARNING, source="recorder", code="SPOOLING", text="to disk", ts_event_ns=1)
    [report] = rules.see(alert)
    assert (report.title, report.level, report.event, report.notify) == ("history: to disk", cm.AlertLevel.ERROR, "spool", "silent")
    [over] = rules.see(msgspec.structs.replace(alert, code="DRAINED", text="stored"))
    assert over.resolves
    assert over.key == report.key == "SPOOLING||"
    [plain] = rules.see(msgspec.structs.replace(alert, code="LATE_FILL", category="orders"))
    assert (plain.event, plain.level, plain.category) == ("late_fill", cm.AlertLevel.WARNING, "orders")


async def test_what_the_supervisor_tells_of_its_processes(tmp_path: Path) -> None:
    rules = Rules(tmp_path, restarted={"kind": "process_restarted"}, down={"kind": "process_down", "for_s": 0})
    restarted, down = rules.book.probes["restarted"], rules.book.probes["down"]
    assert isinstance(restarted, RestartProbe)
    assert isinstance(down, DownProbe)
    path = tmp_path / "run" / "supervisor.json"
    path.parent.mkdir()
    written = 0

    async def looks(state: str, restarts: int, last_end: str) -> tuple[list[str], list[str]]:
        nonlocal written
        written += 1
        row = {"name": "bot", "state": state, "restarts": restarts, "detail": "", "last_end": last_end}
        path.write_bytes(msgspec.json.encode({"processes": [row]}))
        os.utime(path, ns=(written, written))
        return titles(await restarted.look(None)), titles(await down.look(None))  # type: ignore[arg-type] these need no bus

    assert await looks("ready", 0, "") == ([], [])
    assert await looks("restarting", 1, "was ended by SIGKILL") == (
        ["bot was started again (restart 1): was ended by SIGKILL"],
        ["bot is restarting for 0 s: was ended by SIGKILL"],
    )
    assert await looks("restarting", 1, "was ended by SIGKILL") == ([], [])
    assert (await looks("ready", 1, ""))[1] != []  # it is over
    assert await looks("ready", 0, "") == ([], [])  # another `tradebot up`
    assert len((await looks("ready", 1, "x"))[0]) == 1


def test_series_of_a_metric_are_read_with_their_labels() -> None:
    text = '# TYPE a gauge\na{x="1",y="q\\"r\\\\"} 2.5\na{x="2"} NaN\nab 7\na 1e3 1700000000\nbroken{ 1\na{x="3"} what\n'
    found = list(series(text, "a"))
    assert [labels for labels, _ in found] == [{"x": "1", "y": 'q"r\\'}, {"x": "2"}, {}]
    assert found[0][1] == 2.5
    assert found[2][1] == 1000


def test_a_rule_that_fails_is_counted_and_hurts_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules(tmp_path, fill={"kind": "fill"}, opened={"kind": "position_opened"})
    monkeypatch.setattr("alerts.rules.trading.OpenedWatcher.see", lambda *_: (_ for _ in ()).throw(RuntimeError("a mistake")))
    assert len(list(rules.book.see(fill(), START_NS))) == 1
    assert rules.book.errors == 1


# the file


def test_the_rules_that_come_with_the_project_are_usable() -> None:
    rules = load_rules(load_settings(ROOT, environ={}))
    assert {"fill", "drawdown", "emergency_stop", "dead_letter"} <= set(rules)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "rules:\n  high:\n    kind: price\n    symbol: BTC/USDT\n    abvoe: 5\n",
            r"alerts.yaml:5: rules.high.abvoe: unknown key; docs/alerts.md",
        ),
        ("rules:\n  high: {kind: price, symbol: BTC/USDT}\n", r"alerts.yaml:2: rules.high.*needs `above`, `below` or both"),
        ("rules:\n  high: {kind: prize}\n", r"alerts.yaml:2: rules.high.*prize"),
        ("rules:\n  high: {kind: fill}\n  high: {kind: fill}\n", r"alerts.yaml:3: rules.high is set twice, first in line 2"),
        (
            "rules:\n  a:\n    kind: fill\n    text: '{pirce}'\n",
            r"alerts.yaml:4: rules.a.text: .*no value \{pirce\}.*there are: exchange, fee",
        ),
        ("rules:\n  a:\n    kind: fill\n    text: '{side.__class__}'\n", r"alerts.yaml:4: rules.a.text"),
        ("rules:\n  a: {kind: gap, streams: [fills]}\n", r"alerts.yaml:2: rules.a"),
        ("rules:\n  a: {kind: lag, entries: 0}\n", r"alerts.yaml:2: rules.a.entries"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_file_line_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "alerts.yaml").write_text(text)
    settings = load_settings(tmp_path, environ={}, files=[], overrides={"alerts.rules": "alerts.yaml"})
    with pytest.raises(ConfigError, match=complaint):
        run(settings)  # before the process has begun anything


def test_a_template_reaches_nothing_but_its_values() -> None:
    assert rendered("{a} {b.c} {0} {a!r} {{a}}", {"a": "1"}) == "1    {1}"
