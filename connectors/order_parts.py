"""What carrying out an account's commands takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common_models import Instrument
from connectors.account_ledger import AccountLedger
from connectors.journal_records import TrackedOrder
from connectors.order_entry import OrderEntry
from connectors.rate_budget import RateBudget
from connectors.send_gate import SendGate
from connectors.task_pool import TaskPool


@dataclass(frozen=True, slots=True)
class OrderParts:
    """Handed to gateway and cancels. `epoch` is the lease's; `look` has reconciliation find out about an order soon."""

    entry: OrderEntry
    ledger: AccountLedger
    gate: SendGate
    budget: RateBudget
    instruments: Callable[[], Mapping[str, Instrument]]
    pool: TaskPool
    epoch: int
    look: Callable[[TrackedOrder], None]
