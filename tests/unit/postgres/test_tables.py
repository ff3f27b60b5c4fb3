"""Every kind of message has its place, or is known to have none."""

from __future__ import annotations

import subprocess
import sys

import pytest

import common_models as cm
from postgres.queries import OPEN_STATUSES
from postgres.schema import HEAD, SchemaError, check_version, schema_name
from postgres.tables import TABLES
from tests.unit.postgres.samples import aggregate, one_of_each, trade

WITHOUT_TABLE = {
    *(cm.PlaceOrder, cm.CancelOrder, cm.CancelAll, cm.AmendOrder),  # the connector's journal has them
    *(cm.Heartbeat, cm.FundingPayment, cm.MarketMetrics, cm.OnchainMetrics),
}


def test_every_message_type_has_a_table_or_is_listed_here() -> None:
    every = {getattr(kind, "__origin__", kind) for kind in cm.MESSAGE_TYPES}
    assert set(TABLES) | WITHOUT_TABLE == every
    assert not set(TABLES) & WITHOUT_TABLE


def test_the_recorder_loads_none_of_the_heavy_libraries_that_migrations_and_tools_need() -> None:
    heavy = ("sqlalchemy", "alembic", "yaml", "ccxt", "numpy")
    code = f"import sys, postgres.recorder, postgres.queries; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_row_has_a_value_for_each_column() -> None:
    for message in one_of_each():
        table = TABLES[type(message)]
        row = dict(zip(table.columns, table.row(message), strict=True))
        assert row["message_id"] == message.message_id, type(message)


def test_trades_and_aggregates_differ_by_kind_and_a_missing_venue_time_becomes_ours() -> None:
    table = TABLES[cm.Trade]
    rows = [dict(zip(table.columns, table.row(event), strict=True)) for event in (trade(ts_event_ns=None), aggregate())]
    assert [row["kind"] for row in rows] == ["trade", "aggregate"]
    assert rows[0]["ts_event_ns"] == rows[0]["ts_recv_ns"]
    assert (rows[0]["first_trade_id"], rows[1]["first_trade_id"]) == (None, "7")


def test_open_means_every_status_that_is_not_terminal() -> None:
    assert {cm.OrderStatus(status) for status in OPEN_STATUSES} == {status for status in cm.OrderStatus if not status.terminal}


def test_versions_that_do_not_match_say_which_way() -> None:
    check_version(HEAD, "paper")
    for found, advice in ((None, "db migrate"), ("0000", "db migrate"), ("9999", "update tradebot")):
        with pytest.raises(SchemaError, match=advice):
            check_version(found, "paper")


@pytest.mark.parametrize("mode", ["", "Live", "a-b", 'x"y', "1a", "ü"])
def test_only_plain_words_become_schema_names(mode: str) -> None:
    with pytest.raises(ValueError, match="not a mode"):
        schema_name(mode)
