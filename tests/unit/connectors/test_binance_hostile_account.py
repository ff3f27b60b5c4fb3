"""Broken answers and account events of Binance: refused and counted, or facts that add up; never a fill that did not happen."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from connectors.errors import BadResponse, ExchangeError, OrderOutcomeUnknown, RateLimited
from connectors.exchanges.binance.account import BinanceAccount
from connectors.exchanges.binance.error_codes import read_error
from connectors.exchanges.binance.orders import ApiFraming
from connectors.exchanges.binance.signing import BinanceSigner
from connectors.order_entry import BalanceReport, OrderReport
from connectors.rate_budget import Lane, RateBudget
from connectors.rest import RestClient
from connectors.venue_clock import VenueClock
from tests.fakes.trading_desk import BTC
from tests.support.mutations import mutate
from tests.unit.connectors.test_binance_orders import EVENT, PLACED
from trading.order_state import Executed, order_state

SEED = 20_261_121
MUTATIONS = 6_000
CENT = Decimal("0.00000001")


class Listener:
    """Takes what the account tells, as `connectors.account.Account` does."""

    def __init__(self) -> None:
        self.orders: list[OrderReport] = []
        self.balances: list[BalanceReport] = []
        self.resyncs = 0

    def on_order(self, report: OrderReport, ts_recv_ns: int) -> None:
        self.orders.append(report)

    def on_balances(self, balances: Sequence[BalanceReport], ts_recv_ns: int) -> None:
        self.balances += balances

    def on_orders_leg(self, connected: bool, reason: str) -> None: ...

    def on_user_data_leg(self, connected: bool, reason: str) -> None:
        self.resyncs += 1


def account() -> tuple[BinanceAccount, Listener]:
    budget, clock, listener = RateBudget(6000), VenueClock(), Listener()
    signer = BinanceSigner("key", "secret", clock, 5000)
    rest = RestClient("http://127.0.0.1:1", budget, read_error=read_error, signer=signer)
    made = BinanceAccount(rest, "ws://127.0.0.1:1", budget, signer, clock, dict)
    made._listener = listener
    return made, listener


def judge(fill: Executed, report: OrderReport) -> None:
    """A fill that got through agrees with itself and with its order."""
    assert fill.price > 0
    assert fill.quantity > 0
    assert abs(fill.price * fill.quantity - fill.quote_quantity) <= CENT
    assert fill.quantity <= report.report.filled_quantity
    assert report.report.filled_quantity <= report.terms.quantity or not report.terms.quantity


async def test_mutated_account_events_are_counted_or_add_up() -> None:
    entry, listener = account()
    framing, rng = ApiFraming(RateBudget(6000, ((50, 10),))), random.Random(SEED)
    position = {"e": "outboundAccountPosition", "E": 1, "u": 1760000000301, "B": [{"a": "BTC", "f": "1.5", "l": "0.5"}]}
    frames = [json.dumps({"subscriptionId": 0, "event": event}, separators=(",", ":")).encode() for event in (EVENT, position)]
    unreadable = 0
    for number in range(MUTATIONS):
        broken = mutate(frames[number % 2], rng)
        try:
            frame = framing.read(broken)
        except BadResponse:
            unreadable += 1
            continue
        if frame.event:
            entry._on_event(frame.event)
    assert unreadable + entry.unreadable > MUTATIONS / 4
    assert listener.resyncs == entry.unreadable  # each is asked for again
    for report in listener.orders:
        for fill in report.fills:
            judge(fill, report)
    for balance in listener.balances:
        assert balance.free.is_finite()
    assert len(listener.orders) > MUTATIONS / 20  # what still means something is taken


async def test_mutated_answers_to_orders_are_unknown_or_add_up() -> None:
    entry, _ = account()
    rng, outcomes = random.Random(SEED), {"read": 0, "unknown": 0}
    whole = json.dumps(PLACED, separators=(",", ":")).encode()
    for _ in range(MUTATIONS):
        answer = entry._read_order(msgspec.Raw(mutate(whole, rng)))
        if isinstance(answer, ExchangeError):
            assert type(answer) is OrderOutcomeUnknown
            outcomes["unknown"] += 1
        else:
            for fill in answer.fills:
                judge(fill, answer)
            outcomes["read"] += 1
    assert min(outcomes.values()) > MUTATIONS / 20, outcomes


@pytest.mark.parametrize(
    "changes",
    [
        {"l": "-0.004"}, {"L": "-50000"}, {"L": "50001"}, {"Y": "200.01"}, {"z": "0.003"}, {"z": "0.02"},
        {"t": -1}, {"N": 5}, {"t": "57"}, {"i": None}, {"X": None}, {"T": 10**30},
    ],
)  # fmt: skip
async def test_a_fill_that_does_not_add_up_is_counted_and_asked_for_again(changes: dict[str, Any]) -> None:
    entry, listener = account()
    entry._on_event(msgspec.Raw(json.dumps(EVENT | changes).encode()))
    assert (listener.orders, entry.unreadable, listener.resyncs) == ([], 1, 1)


@pytest.mark.parametrize("changes", [{"L": "0.00000000", "Y": "0"}, {"l": "0.00000000", "Y": "0"}])
async def test_a_trade_without_price_or_size_is_no_fill_at_nothing_but_a_fill_to_ask_for(changes: dict[str, Any]) -> None:
    """Binance has sent such events (nautilus_trader keeps two in its fixtures)."""
    entry, listener = account()
    entry._on_event(msgspec.Raw(json.dumps(EVENT | changes).encode()))
    (report,) = listener.orders
    assert report.fills == ()
    assert order_state(report.terms, [report.report]).fills_missing


@pytest.mark.parametrize("changes", [{"executedQty": "0.02"}, {"executedQty": "0.001"}, {"fills": [{"price": "-1"}]}])
async def test_an_answer_whose_quantities_disagree_leaves_the_outcome_unknown(changes: dict[str, Any]) -> None:
    entry, _ = account()
    assert isinstance(entry._read_order(msgspec.Raw(json.dumps(PLACED | changes).encode())), OrderOutcomeUnknown)


async def test_text_that_is_not_utf8_is_unreadable_and_nothing_worse() -> None:
    """msgspec takes Raw parts unread, so that this comes up only when they are decoded, and as UnicodeDecodeError."""
    entry, listener = account()
    answer = json.dumps(PLACED).encode().replace(b'"abc"', b'"\xff"')
    assert isinstance(entry._read_order(msgspec.Raw(answer)), OrderOutcomeUnknown)
    entry._on_event(msgspec.Raw(json.dumps(EVENT).encode().replace(b'"abc"', b'"\xff"')))
    assert (entry.unreadable, listener.resyncs) == (1, 1)


async def test_names_that_a_venue_makes_up_fill_no_memory_and_a_market_that_is_listed_later_gets_its_name() -> None:
    entry, _ = account()
    assert entry._symbol_of("ABCXYZ") == "ABCXYZ"
    assert not entry._natives
    entry._instruments = lambda: {"ABC/XYZ": msgspec.structs.replace(BTC, symbol="ABC/XYZ", native_symbol="ABCXYZ")}
    assert entry._symbol_of("ABCXYZ") == "ABC/XYZ"


@pytest.mark.parametrize("retry_after", [10**400, -(10**400), 2**63])
def test_a_time_to_come_back_of_any_size_is_a_bounded_wait(retry_after: int) -> None:
    error = {"code": -1003, "msg": "slow", "data": {"serverTime": 1, "retryAfter": retry_after}}
    refused = read_error(400, json.dumps(error).encode())
    assert isinstance(refused, RateLimited)
    assert 0 < refused.retry_after_s <= 3 * 86_400


@pytest.mark.parametrize("limit", [0, -1])
def test_an_order_limit_that_would_forbid_everything_is_not_believed(limit: int) -> None:
    budget = RateBudget(6000, ((50, 10),))
    limits = [{"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": limit, "count": 0}]
    ApiFraming(budget).read(json.dumps({"id": 1, "status": 200, "result": {}, "rateLimits": limits}).encode())
    budget.take_now(1, Lane.ORDER, orders=1)


class Answers:
    """A RestClient that answers every question with the same body."""

    def __init__(self, body: Any) -> None:
        self.body = body
        self.questions = 0

    async def signed(self, method: str, path: str, params: Any, *, shape: Any, **_: Any) -> Any:
        self.questions += 1
        return msgspec.convert(self.body, shape)

    async def get(self, path: str, params: Any = None, *, shape: Any, **_: Any) -> Any:
        self.questions += 1
        return msgspec.convert(self.body, shape)


Ask = Callable[[BinanceAccount], Any]


@pytest.mark.parametrize("server_time", [0, -1, 5, 1_732_190_400, 10**18, 10**400])
async def test_a_clock_that_cannot_be_is_refused(server_time: int) -> None:
    entry, _ = account()
    entry._rest = Answers({"serverTime": server_time})  # type: ignore[assignment]
    with pytest.raises(BadResponse):
        await entry.measure_clock()
    assert not entry.clock.known


async def test_pages_of_trades_that_never_end_are_an_error() -> None:
    entry, _ = account()
    row = {
        "symbol": "BTCUSDT", "id": 7, "orderId": 1, "price": "1", "qty": "1", "quoteQty": "1", "commission": "0",
        "commissionAsset": "BNB", "time": 1760000000300, "isMaker": True,
    }  # fmt: skip
    answers = Answers([row] * 1000)
    entry._rest = answers  # type: ignore[assignment]
    async with asyncio.timeout(5):
        with pytest.raises(BadResponse, match="from 8 on"):
            await entry.fills("BTC/USDT", exchange_order_id="1")
    assert answers.questions == 2
