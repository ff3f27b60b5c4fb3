"""The same decision makes the same command; another makes another."""

from __future__ import annotations

import hashlib
from typing import Any

from bot.order_planner import ENTRY, EXIT, command_id, order_mark

PARTS: list[Any] = ["simulation", "main", "consensus", "connector.tickers:1:7", ENTRY]


def test_a_command_id_follows_from_the_decision_alone() -> None:
    assert command_id(*PARTS) == hashlib.sha256(b"simulation\nmain\nconsensus\nconnector.tickers:1:7\n0").hexdigest()


def test_every_part_of_a_decision_makes_another_id() -> None:
    ids = {command_id(*PARTS)}
    for place, other in enumerate(["live", "second", "sma", "connector.tickers:1:8", EXIT]):
        ids.add(command_id(*PARTS[:place], other, *PARTS[place + 1 :]))

    assert len(ids) == 6


def test_the_mark_is_what_connectors_put_into_client_order_ids() -> None:
    from connectors.client_order_id import ClientOrderIds
    from runtime.settings import Mode

    made_of = command_id(*PARTS)
    assert ClientOrderIds(Mode.SIMULATION, "abcdef0").of(made_of)[-24:] == order_mark(made_of)
