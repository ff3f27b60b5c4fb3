"""What one exchange account tells of itself in numbers, read when someone scrapes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from common_models import OrderStatus
from common_models.timestamps import NS_PER_S
from connectors.account_ledger import AccountLedger
from connectors.gateway import OrderGateway
from connectors.lease import Lease
from connectors.order_entry import OrderEntry
from connectors.rate_budget import RateBudget
from connectors.reconcile import Reconciler
from connectors.task_pool import TaskPool
from connectors.venue_clock import VenueClock
from runtime.clock import monotonic_s, now_ns
from runtime.emergency_stop import StopSwitch
from runtime.metrics import Read, expose_counter, expose_counters, expose_gauge, expose_gauges

UNFINISHED = tuple(status for status in OrderStatus if not status.terminal)


@dataclass(slots=True)
class AccountCounts:
    """What the account itself counts: whether each leg stands, and how the comparisons with the venue went."""

    legs: dict[str, bool] = field(default_factory=lambda: {"orders": False, "user_data": False})
    reconciled: int = 0
    not_reconciled: int = 0
    reconciled_s: float = field(default_factory=monotonic_s)  # when last, or the start

    @property
    def reconciled_age_s(self) -> float:
        """Since the last comparison that succeeded, or since the start."""
        return monotonic_s() - self.reconciled_s

    def note_reconciled(self, ok: bool) -> None:
        """One comparison with the venue has ended."""
        if ok:
            self.reconciled += 1
            self.reconciled_s = monotonic_s()
        else:
            self.not_reconciled += 1


def expose_gateway(exchange: str, gateway: OrderGateway) -> None:
    """Commands taken and what became of them."""
    counters = gateway.counters
    _counters(
        exchange,
        ("tradebot_commands", "Commands taken from the bus", lambda: counters.commands),
        ("tradebot_commands_duplicate", "Commands that were accepted before", lambda: counters.duplicates),
        ("tradebot_commands_conflicting", "Commands under a known id with other contents", lambda: counters.conflicts),
        ("tradebot_orders_sent", "Order requests written", lambda: counters.sent),
        ("tradebot_orders_second_way", "Order requests by the venue's other way", lambda: counters.second_way),
        ("tradebot_orders_refused", "Orders that ended unsent or refused", counters.rejected.total),
        ("tradebot_orders_doubted", "Order requests without a usable answer", lambda: counters.doubted),
    )
    expose_counters(
        "tradebot_orders_rejected",
        "Orders that ended unsent or refused, by cause",
        {"exchange": exchange},
        ("code",),
        lambda: {(code,): count for code, count in counters.rejected.items()},
    )


def expose_ledger(exchange: str, ledger: AccountLedger) -> None:
    """Orders by state, fills, and facts that were hard to tell."""
    labels, journal = {"exchange": exchange}, ledger.journal
    _counters(
        exchange,
        ("tradebot_fills", "Executions of our orders", lambda: ledger.fills),
        ("tradebot_late_fills", "Fills of orders that had ended otherwise", lambda: ledger.late_fills),
        ("tradebot_orders_contradicted", "Reports of the venue that fit no order of ours", lambda: ledger.contradictions),
        ("tradebot_account_messages_delayed", "Facts that the bus did not take at once", lambda: ledger.unpublished),
        ("tradebot_account_messages_unpublishable", "Facts too large for the bus", lambda: ledger.unpublishable),
    )
    _gauges(
        exchange,
        ("tradebot_orders_unfinished", "Orders not at an end", lambda: len(journal.unfinished)),
        ("tradebot_orders_unknown", "Orders whose outcome is unknown", lambda: len(ledger.unknown)),
        ("tradebot_orders_unknown_age_seconds", "Age of the oldest of them", lambda: _unknown_age_s(ledger)),
        (
            "tradebot_orders_operator_review",
            "Orders that only a person can decide",
            lambda: sum(order.state.operator_review for order in journal.unfinished),
        ),
        ("tradebot_journal_bytes", "The account's journal on disk", lambda: journal.size_bytes),
    )
    expose_gauges("tradebot_orders", "Orders not at an end, by state", labels, ("status",), lambda: _by_status(ledger))
    expose_counters(
        "tradebot_orders_finished",
        "Orders that came to an end",
        labels,
        ("status",),
        lambda: {(status.value,): ledger.finished[status] for status in OrderStatus if status.terminal},
    )


def expose_safety(exchange: str, counts: AccountCounts, reconciler: Reconciler, lease: Lease, switch: StopSwitch) -> None:
    """Whether orders may be sent at all, and how sure we are of what the venue has."""
    labels = {"exchange": exchange}
    _gauges(
        exchange,
        ("tradebot_reconciled_age_seconds", "Since the last comparison that succeeded", lambda: counts.reconciled_age_s),
        ("tradebot_lease_held", "This process is the account's one writer", lambda: lease.held),
        ("tradebot_lease_epoch", "Rises with each new writer", lambda: lease.epoch),
        ("tradebot_emergency_stop", "The emergency stop is pressed", lambda: switch.state.pressed),
    )
    _counters(
        exchange,
        ("tradebot_reconcile_proofs", "UNKNOWN orders proved never placed", lambda: reconciler.proofs),
        ("tradebot_lease_failures", "Renewals that failed", lambda: lease.failures),
    )
    expose_counters(
        "tradebot_reconciliations",
        "Comparisons with the venue",
        labels,
        ("outcome",),
        lambda: {("ok",): counts.reconciled, ("failed",): counts.not_reconciled},
    )
    expose_gauges(
        "tradebot_account_leg_connected",
        "A way to the account stands",
        labels,
        ("leg",),
        lambda: {(leg,): up for leg, up in counts.legs.items()},
    )


def expose_venue(exchange: str, entry: OrderEntry, budget: RateBudget, pool: TaskPool) -> None:
    """The venue's clock, what it still lets us ask, and what of it could not be read."""
    clock: VenueClock = entry.clock
    _gauges(
        exchange,
        ("tradebot_clock_offset_seconds", "The venue's clock minus ours", lambda: clock.offset_ns / NS_PER_S),
        ("tradebot_clock_bound_seconds", "Largest error of that measurement", lambda: clock.bound_s),
        ("tradebot_rate_silence_seconds", "How long the venue still wants silence", lambda: budget.silent_s),
    )
    _counters(
        exchange,
        ("tradebot_clock_refusals", "Requests whose time stamp the venue refused", lambda: clock.refusals),
        ("tradebot_rate_refusals", "Times the venue asked for silence", lambda: budget.refusals),
        ("tradebot_rate_waits", "Requests that waited for room in the budget", lambda: budget.waits),
        ("tradebot_account_events_unreadable", "Pushed messages that could not be read", lambda: entry.unreadable),
        ("tradebot_account_tasks_failed", "Short tasks of the account that ended in an error", lambda: pool.failures),
    )
    for name, text, what in (
        ("tradebot_rate_used", "Units used in the present window", "used"),
        ("tradebot_rate_limit", "Units that the venue allows in a window", "limit"),
    ):
        expose_gauges(name, text, {"exchange": exchange}, ("budget",), partial(_windows, budget, what))


def _counters(exchange: str, *totals: tuple[str, str, Read]) -> None:
    for name, text, read in totals:
        expose_counter(name, text, {"exchange": exchange}, read)


def _gauges(exchange: str, *values: tuple[str, str, Read]) -> None:
    for name, text, read in values:
        expose_gauge(name, text, {"exchange": exchange}, read)


def _windows(budget: RateBudget, what: str) -> dict[tuple[str, ...], float]:
    return {(name,): getattr(window, what) for name, window in budget.windows().items()}


def _by_status(ledger: AccountLedger) -> dict[tuple[str, ...], float]:
    found = Counter(order.state.status for order in ledger.journal.unfinished)
    return {(status.value,): found[status] for status in UNFINISHED}


def _unknown_age_s(ledger: AccountLedger) -> float:
    orders = ledger.journal.orders
    oldest_ns = min((orders[key].accepted_ns for key in ledger.unknown if key in orders), default=0)
    return max(0.0, (now_ns() - oldest_ns) / NS_PER_S) if oldest_ns else 0.0
