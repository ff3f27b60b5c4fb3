"""One exchange account from start to stop: lease, journal, reconciliation, then commands and account events until told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from bus.errors import BusError
from bus.interfaces import Consumer, Publisher, Reader
from bus.streams import Streams
from common_models import AlertLevel, AnyMessage, ConnectionState, Control, ControlAction, Instrument, OrderStatus
from connectors import account_metrics
from connectors.account_events import AccountName
from connectors.account_ledger import AccountLedger
from connectors.bus_epoch import BusEpoch
from connectors.client_order_id import ClientOrderIds, installation_id
from connectors.errors import ExchangeError
from connectors.gateway import OrderGateway
from connectors.journal import Journal, JournalError
from connectors.lease import HostLock, Lease, OpenBus
from connectors.order_entry import BalanceReport, OrderEntry, OrderReport
from connectors.order_parts import OrderParts
from connectors.rate_budget import RateBudget
from connectors.reconcile import ProofRules, Reconciler
from connectors.send_gate import SendGate
from connectors.task_pool import TaskPool
from runtime import crash_points, emergency_stop
from runtime.backoff import Backoff
from runtime.clock import monotonic_s
from runtime.emergency_stop import StopSwitch
from runtime.health import Health
from runtime.service import ServiceError
from runtime.settings import ExchangeSettings, Settings

log = structlog.get_logger(__name__)

USER_DATA_WAIT_S = 5.0
"""Reconciliation starts when the push of events runs, so that nothing falls in between; without it, after this long."""
DRAIN_S = 3.0
DRAIN_POLL_S = 0.02
CONFIRM_EVERY_S = 1.0
PRUNE_EVERY_S = 60.0
RESYNC_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class AccountContext:
    """What an account is made of. `instruments` gives the known markets by our symbol; it is asked for every order.

    `commands` reads the account's command stream in group `connector`, `control` the control stream from its start.
    """

    settings: Settings
    exchange: str
    exchange_settings: ExchangeSettings
    entry: OrderEntry
    budget: RateBudget
    instruments: Callable[[], Mapping[str, Instrument]]
    streams: Streams
    publisher: Publisher
    commands: Consumer
    control: Reader
    open_bus: OpenBus
    health: Health
    rules: ProofRules = field(default_factory=ProofRules)


async def run_account(context: AccountContext, stop: asyncio.Event) -> None:
    """Serve the account until `stop`; raises ServiceError when it must not, or cannot, be served from here."""
    crash_points.arm(context.settings.mode)
    account = Account(context)
    try:
        await account.run(stop)
    finally:
        await account.close()


class Account:
    """The parts of one account, wired. Raises ServiceError (another connector runs, a damaged journal) when made."""

    def __init__(self, context: AccountContext) -> None:
        settings, name = context.settings, context.exchange_settings.account
        mode, home = settings.mode.value, settings.home
        installation = installation_id(home)
        self._context = context
        self._lock = HostLock(home, mode, context.exchange, name)
        try:
            path = home / "journal" / mode / f"{context.exchange}-{name}.journal"
            self._journal = Journal(path, sync=context.exchange_settings.journal_fsync)
        except JournalError as error:
            self._lock.close()
            raise ServiceError(str(error)) from error
        self._switch = StopSwitch(home)
        key = f"{mode}:lease:{{{context.exchange}}}:{name}"
        self._lease = Lease(self._lock, context.open_bus, key, installation, context.entry.recv_window_s)
        self._bus_epoch = BusEpoch(context.open_bus, mode)
        self._gate = SendGate(self._lease, self._switch)
        self._pool = TaskPool()
        ids = ClientOrderIds(settings.mode, installation)
        self._ledger = AccountLedger(self._journal, context.publisher, context.streams, AccountName(context.exchange, name), ids)
        self._reconciler = Reconciler(context.entry, self._ledger, lambda: context.exchange_settings.symbols, context.rules)
        self._counts = account_metrics.AccountCounts()
        self._resync = asyncio.Event()
        self._user_data_up = asyncio.Event()
        self._stopped = False

    async def run(self, stop: asyncio.Event) -> None:
        """Become the writer, find out what is true, then serve commands; on stop let the order in hand finish."""
        context, over = self._context, asyncio.Event()
        self._report("reconciled", False, "waiting for the account's lease")
        if not await self._acquire(stop):
            return
        gateway = OrderGateway(
            OrderParts(
                entry=context.entry,
                ledger=self._ledger,
                gate=self._gate,
                budget=context.budget,
                instruments=context.instruments,
                pool=self._pool,
                epoch=self._lease.epoch,
                look=self._reconciler.look,
            )
        )
        self._expose_metrics(gateway)
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._lease.keep(), name="lease"),
                tasks.create_task(context.entry.run(self, over), name="order-entry"),
                tasks.create_task(context.control.run(self._on_control, over), name="control"),
                tasks.create_task(self._keep_books(), name="journal"),
            ]
            if await self._reconciled_first(stop):
                gateway.resume()
                self._ledger.republish()
                helpers.append(tasks.create_task(self._reconciler.settle(), name="settle"))
                helpers.append(tasks.create_task(self._keep_reconciled(), name="reconcile"))
                self._ledger.status("orders", ConnectionState.CONNECTED, clock_offset_ns=context.entry.clock.offset_ns)
                log.info("account.serving", exchange=context.exchange, epoch=self._lease.epoch)
                await context.commands.run(gateway.handle, stop)
            await self._drain()
            over.set()
            for helper in helpers:
                helper.cancel()

    async def close(self) -> None:
        """Give everything back, in the order that keeps the promises."""
        await self._pool.idle(0.0)
        await self._lease.release()
        self._bus_epoch.close()
        self._journal.close()
        self._switch.close()
        self._lock.close()

    # the way to the first command

    async def _acquire(self, stop: asyncio.Event) -> bool:
        """Take the lease, waiting for the bus; False when stopped before that."""
        backoff = Backoff(first_s=0.1, cap_s=2.0)
        while not stop.is_set():
            try:
                await self._lease.acquire()
            except (BusError, OSError) as error:
                self._report("reconciled", False, f"no lease: {error}")
                log.warning("account.no_lease", exchange=self._context.exchange, error=str(error))
                await asyncio.sleep(backoff.next_s())
            else:
                return True
        return False

    async def _reconciled_first(self, stop: asyncio.Event) -> bool:
        """The start: the same after a crash, a clean stop and on a first day. Returns False when stopped before the end."""
        backoff = Backoff(first_s=0.1, cap_s=5.0)
        self._ledger.status("orders", ConnectionState.RECONCILING, "comparing with the exchange")
        self._reconciler.doubt_what_was_in_flight()
        await _first_of(stop, self._user_data_up, USER_DATA_WAIT_S)
        while not stop.is_set():
            if await self._reconcile():
                await self._instruments_known(stop)
                return not stop.is_set()
            await asyncio.sleep(backoff.next_s())
        return False

    async def _reconcile(self) -> bool:
        try:
            await self._reconciler.run_once()
        except ExchangeError as error:
            self._counts.note_reconciled(False)
            self._report("reconciled", False, error.detail)
            log.warning("account.not_reconciled", exchange=self._context.exchange, error=str(error))
            return False
        self._counts.note_reconciled(True)
        self._report("reconciled", True, f"{len(self._ledger.unknown)} orders unknown")
        return True

    async def _instruments_known(self, stop: asyncio.Event) -> None:
        """Orders cannot be checked before the markets' rules are here."""
        while not self._context.instruments() and not stop.is_set():
            self._report("reconciled", False, "waiting for the markets' rules")
            await asyncio.sleep(0.05)
        self._report("reconciled", True, "")

    # what goes on beside

    async def _keep_reconciled(self) -> None:
        """Compare again from time to time, and whenever events may have been missed."""
        every_s = self._context.exchange_settings.reconcile_every_s
        backoff = Backoff(first_s=0.5, cap_s=15.0)
        wait_s = every_s
        while True:
            await _wait(self._resync, wait_s)
            self._resync.clear()
            wait_s = every_s if await self._reconcile() else backoff.next_s()
            await asyncio.sleep(RESYNC_PAUSE_S)

    async def _keep_books(self) -> None:
        """Publish what could not be published, note what the bus has, see whether it lost its data, keep the journal small."""
        pruned_s = monotonic_s()
        while True:
            await asyncio.sleep(CONFIRM_EVERY_S)
            try:
                await self._confirm_published()
                if monotonic_s() - pruned_s > PRUNE_EVERY_S:
                    pruned_s = monotonic_s()
                    self._journal.keep_small()
                    self._ledger.forget_pruned()
            except (BusError, OSError) as error:  # bus away, disk full: nothing is lost by trying again
                log.warning("account.books_not_kept", exchange=self._context.exchange, error=str(error))

    async def _confirm_published(self) -> None:
        epoch = await self._bus_epoch.read()
        if self._journal.bus_epoch not in ("", epoch):
            log.warning("account.bus_lost_its_data", exchange=self._context.exchange)
            self._ledger.alert(AlertLevel.WARNING, "BUS_LOST_DATA", "the bus lost its data; all facts are published again")
            self._ledger.forget_bus()
        else:
            self._ledger.republish()
        await self._ledger.confirm(epoch)

    async def _drain(self) -> None:
        """Let answers that are on their way arrive; what does not come is found by the next start."""
        for _ in range(int(DRAIN_S / DRAIN_POLL_S)):
            if not any(order.state.status is OrderStatus.SENT for order in self._journal.unfinished):
                break
            await asyncio.sleep(DRAIN_POLL_S)
        await self._pool.idle(DRAIN_S)
        self._stopped = True
        for leg in ("orders", "user_data"):
            self._ledger.status(leg, ConnectionState.STOPPED, "stopped")
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._ledger.confirm(self._journal.bus_epoch)
        except TimeoutError:
            log.warning("account.not_confirmed", exchange=self._context.exchange)
        self._journal.keep_small(now=True)

    def _on_control(self, stream: str, message: AnyMessage) -> None:
        """Halt and resume from the bus press and release the stop on this home's disk; an older word never overrules a newer."""
        del stream
        if not isinstance(message, Control) or message.target not in (None, self._context.exchange, self._ledger.name.account):
            return
        home = self._context.settings.home
        if message.created_at_ns <= emergency_stop.read(home).at_ns:
            return
        if message.action is ControlAction.HALT:
            emergency_stop.press(home, message.reason, message.actor)
        elif message.action is ControlAction.RESUME:
            emergency_stop.release(home, message.actor)
            self._gate.refused_key = ""

    # AccountListener

    def on_order(self, report: OrderReport, ts_recv_ns: int) -> None:
        self._ledger.take(report, ts_recv_ns=ts_recv_ns)

    def on_balances(self, balances: Sequence[BalanceReport], ts_recv_ns: int) -> None:
        self._ledger.on_balances(balances, ts_recv_ns)

    def on_orders_leg(self, connected: bool, reason: str) -> None:
        if self._stopped:
            return
        self._counts.legs["orders"] = connected
        self._report("orders", connected, reason)
        state = ConnectionState.CONNECTED if connected else ConnectionState.RECONNECTING
        self._ledger.status("orders", state, reason, clock_offset_ns=self._context.entry.clock.offset_ns)

    def on_user_data_leg(self, connected: bool, reason: str) -> None:
        if self._stopped:
            return
        self._counts.legs["user_data"] = connected
        self._report("user_data", connected, reason)
        self._ledger.status("user_data", ConnectionState.CONNECTED if connected else ConnectionState.RECONNECTING, reason)
        if connected:
            self._user_data_up.set()
            self._resync.set()

    def _report(self, component: str, ok: bool, detail: str) -> None:
        self._context.health.report(component, ok, detail)

    def _expose_metrics(self, gateway: OrderGateway) -> None:
        context, exchange = self._context, self._context.exchange
        account_metrics.expose_gateway(exchange, gateway)
        account_metrics.expose_ledger(exchange, self._ledger)
        account_metrics.expose_safety(exchange, self._counts, self._reconciler, self._lease, self._switch)
        account_metrics.expose_venue(exchange, context.entry, context.budget, self._pool)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait({waiting}, timeout=timeout_s)
    waiting.cancel()


async def _first_of(first: asyncio.Event, second: asyncio.Event, timeout_s: float) -> None:
    waiting = {asyncio.ensure_future(first.wait()), asyncio.ensure_future(second.wait())}
    await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waiting:
        wait.cancel()
