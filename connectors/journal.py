"""What this account was asked to do and what became of it: one append-only file, written before anything may happen.

*Accepted* means that the command is in here. The file answers after any crash: was this command ever accepted, may its bytes
have left, until when could the venue have executed it, and what is known of the order. It survives SIGKILL of anything and the
loss of the bus; with `sync` also power loss. Format: `runtime.append_log`, one JSON record a line, tagged by `record`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from common_models import PlaceOrder
from common_models.timestamps import NS_PER_S
from connectors.journal_records import (
    AcceptedCommand,
    AcceptedOrder,
    Answered,
    AnyRecord,
    Forgot,
    Learned,
    OtherCommand,
    Published,
    TrackedOrder,
    TradesSeen,
    WireRequest,
)
from runtime.append_log import AppendLog, AppendLogError, read_records
from runtime.clock import now_ns
from trading.order_state import Attempted, Fact, OrderTerms

KEEP_FINISHED = 2_000
"""Finished orders that stay in memory and file, beside all whose command could still be redelivered."""
REDELIVERY_NS = 60 * NS_PER_S
"""How long past its expiry a command's end is remembered in any case."""
ROTATE_BYTES = 16 << 20


class JournalError(Exception):
    """The journal cannot be used; the text says what to do."""


class Journal:
    """The journal of one account, read into memory at start. One process at a time holds it open.

    Every method that writes raises OSError when the disk refuses; then nothing was recorded and nothing may be sent.
    """

    def __init__(self, path: Path, *, sync: bool) -> None:
        """Open or create the file; raises JournalError when it is damaged or in use."""
        self.path = path
        self._sync = sync
        self.orders: dict[str, TrackedOrder] = {}
        self._unfinished: dict[str, TrackedOrder] = {}
        self.commands: dict[str, OtherCommand] = {}
        self.answers: dict[str, Answered] = {}
        self.trades_seen: dict[str, int] = {}
        self.bus_epoch = ""
        self.forgot_until_ns = 0
        self._fresh_path = path.with_name(f"{path.name}.new")
        self._encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
        try:
            self._log = AppendLog(path)
            self.torn_bytes = self._log.torn_bytes
            self._size = path.stat().st_size
            for record in _read(path):
                self._apply(record)
        except AppendLogError as error:
            raise JournalError(str(error)) from error
        self._fresh_path.unlink(missing_ok=True)  # a rotation that a crash interrupted: the old file is whole
        _sync_directory(path.parent)

    @property
    def size_bytes(self) -> int:
        """The file as it is now."""
        return self._size

    # orders

    def accept_order(self, client_order_id: str, command: PlaceOrder, request: WireRequest | None, epoch: int) -> TrackedOrder:
        """Record an INTENT; the order may be sent from now on, and its command is accepted."""
        record = AcceptedOrder(client_order_id=client_order_id, command=command, request=request, at_ns=now_ns(), epoch=epoch)
        self._write(record)
        return self._apply_order(record)

    def about_to_send(self, order: TrackedOrder, attempt: Attempted) -> None:
        """Record SENT, and make it durable, before the first byte leaves."""
        self._write(Learned(client_order_id=order.client_order_id, fact=attempt))
        order.add(attempt)
        order.revision += 1
        if self._sync:
            self._log.sync()

    def learn(self, order: TrackedOrder, fact: Fact) -> bool:
        """Record a fact; returns False, and writes nothing, when it is not new."""
        if not order.add(fact):
            return False
        # in memory first: should the disk refuse, the venue still knows the fact and reconciliation asks for it again
        order.revision += 1
        self._note_end(order)
        self._write(Learned(client_order_id=order.client_order_id, fact=fact))
        return True

    def adopt(self, client_order_id: str, terms: OrderTerms, *, external: bool) -> TrackedOrder:
        """Track an order that the venue has and we have no command of."""
        order = TrackedOrder(client_order_id=client_order_id, terms=terms, external=external, accepted_ns=now_ns())
        self._write(order)
        self._hold(order)
        return order

    @property
    def unfinished(self) -> list[TrackedOrder]:
        """Orders that are not at an end, oldest first."""
        return list(self._unfinished.values())

    # commands that are no orders

    def accept_command(self, command: OtherCommand, epoch: int) -> None:
        """Record a command that is no order; `pending_commands` has it until `answer`."""
        self._write(AcceptedCommand(command=command, at_ns=now_ns(), epoch=epoch))
        self.commands[command.command_id] = command

    def answer(self, command_id: str, code: str, reason: str) -> None:
        """Record the end of such a command."""
        record = Answered(command_id=command_id, code=code, reason=reason)
        self.answers[command_id] = record
        self._write(record)

    @property
    def pending_commands(self) -> list[OtherCommand]:
        """Accepted commands without an answer, oldest first."""
        return [command for command_id, command in self.commands.items() if command_id not in self.answers]

    # what the others have

    def published(self, bus_epoch: str, revisions: dict[str, int]) -> None:
        """Record that the bus acknowledged these revisions."""
        record = Published(bus_epoch=bus_epoch, revisions=revisions)
        self._write(record)
        self._apply(record)

    def forget_published(self) -> None:
        """The bus has lost its data: everything in here is news again."""
        for order in self.orders.values():
            order.published = 0

    def saw_trades(self, symbol: str, trade_id: int) -> None:
        """Record that all fills of `symbol` up to `trade_id` are in here."""
        if trade_id > self.trades_seen.get(symbol, -1):
            self._write(TradesSeen(symbol=symbol, trade_id=trade_id))
            self.trades_seen[symbol] = trade_id

    # the file

    def keep_small(self, *, now: bool = False) -> None:
        """Forget what nobody can ask for any more; rewrite the file when it has grown (or `now`)."""
        self._prune()
        if now or self._size > ROTATE_BYTES:
            self._rotate()

    def close(self) -> None:
        self._log.sync()
        self._log.close()

    def _write(self, record: AnyRecord) -> None:
        payload = self._encode(record)
        self._log.append(payload)
        self._size += len(payload) + 10

    def _rotate(self) -> None:
        """Write what still matters into a new file and put it in the old one's place, whole or not at all."""
        self._fresh_path.unlink(missing_ok=True)
        fresh = AppendLog(self._fresh_path)
        fresh.append_many([self._encode(record) for record in self._snapshot()])
        fresh.sync()
        self._fresh_path.replace(self.path)
        _sync_directory(self.path.parent)
        fresh.path = self.path
        self._log.close()
        self._log = fresh
        self._size = self.path.stat().st_size

    def _snapshot(self) -> Iterator[AnyRecord]:
        yield Published(bus_epoch=self.bus_epoch, revisions={})
        yield Forgot(until_ns=self.forgot_until_ns)
        for symbol, trade_id in self.trades_seen.items():
            yield TradesSeen(symbol=symbol, trade_id=trade_id)
        yield from self.orders.values()
        for command in self.commands.values():
            yield AcceptedCommand(command=command, at_ns=0, epoch=0)
        yield from self.answers.values()

    def _prune(self) -> None:
        """Drop the oldest finished orders and answered commands that cannot be redelivered any more."""
        limit_ns = now_ns() - REDELIVERY_NS
        finished = [order for order in self.orders.values() if order.finished_ns]
        for order in sorted(finished, key=lambda order: order.finished_ns)[: max(0, len(finished) - KEEP_FINISHED)]:
            if order.published >= order.revision and (order.command is None or order.command.expires_at_ns < limit_ns):
                del self.orders[order.client_order_id]
                if order.command is not None:
                    self.forgot_until_ns = max(self.forgot_until_ns, order.command.expires_at_ns)
        for command_id in [
            key for key, command in self.commands.items() if key in self.answers and command.expires_at_ns < limit_ns
        ]:
            del self.commands[command_id], self.answers[command_id]

    # reading back

    def _apply(self, record: AnyRecord) -> None:
        match record:
            case AcceptedOrder():
                self._apply_order(record)
            case Learned():
                self._apply_fact(record)
            case TrackedOrder():
                self._hold(record)
            case AcceptedCommand():
                self.commands[record.command.command_id] = record.command
            case Answered():
                self.answers[record.command_id] = record
            case Forgot():
                self.forgot_until_ns = record.until_ns
            case TradesSeen():
                self.trades_seen[record.symbol] = record.trade_id
            case Published():
                self.bus_epoch = record.bus_epoch
                for client_order_id, revision in record.revisions.items():
                    if order := self.orders.get(client_order_id):
                        order.published = max(order.published, revision)

    def _apply_order(self, record: AcceptedOrder) -> TrackedOrder:
        order = TrackedOrder(
            client_order_id=record.client_order_id,
            terms=OrderTerms.of(record.command),
            command=record.command,
            request=record.request,
            revision=1,
            accepted_ns=record.at_ns,
        )
        self.orders[record.client_order_id] = self._unfinished[record.client_order_id] = order
        return order

    def _hold(self, order: TrackedOrder) -> None:
        self.orders[order.client_order_id] = order
        self._note_end(order)

    def _apply_fact(self, record: Learned) -> None:
        order = self.orders.get(record.client_order_id)
        if order is None:
            raise JournalError(
                f"{self.path}: a fact about an order that is not in the file: {record.client_order_id}; restore a backup"
            )
        if order.add(record.fact):
            order.revision += 1
            self._note_end(order)

    def _note_end(self, order: TrackedOrder) -> None:
        """Follow the state: an end may be reached, and is left again when a dead order proves alive."""
        if not order.state.status.terminal:
            order.finished_ns = 0
            self._unfinished[order.client_order_id] = order
        elif self._unfinished.pop(order.client_order_id, None) is not None or not order.finished_ns:
            order.finished_ns = order.finished_ns or now_ns()


def _read(path: Path) -> Iterator[AnyRecord]:
    decoder = msgspec.json.Decoder(AnyRecord)
    for number, payload in enumerate(read_records(path), start=1):
        try:
            yield decoder.decode(payload)
        except msgspec.MsgspecError as error:
            raise JournalError(
                f"{path}:{number}: written by a newer version? {error}; run that version, do not edit the file"
            ) from error


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
