"""Taken ports are moved on from."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tradebot import ports
from tradebot.ports import NoFreePort, free_port, is_free

HOST = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_free_port_is_kept_and_zero_takes_any(taken: int) -> None:
    any_port = free_port(HOST, 0)
    assert is_free(HOST, any_port)
    assert free_port(HOST, any_port) == any_port
    assert not is_free(HOST, taken)


def test_a_taken_port_moves_past_those_that_others_want(taken: int) -> None:
    found = free_port(HOST, taken, avoid=range(taken + 1, taken + 3))
    assert found >= taken + 3


def test_no_free_port_at_all_is_told(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "ATTEMPTS", 1)
    with pytest.raises(NoFreePort, match=f"ports {taken} to {taken} are all taken"):
        free_port(HOST, taken)
