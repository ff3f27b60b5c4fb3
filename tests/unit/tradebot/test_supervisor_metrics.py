"""The supervisor's own /metrics: who is in which state, and how often each had to be started again."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.settings import Settings
from tests.support.exposition import fresh_process
from tradebot.managed_process import State
from tradebot.supervisor_metrics import SupervisorMetrics


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def test_restarts_and_states_are_served_until_it_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_process(monkeypatch)
    bot: Any = SimpleNamespace(spec=SimpleNamespace(name="bot"), restarts=0, state=State.READY)
    server = SupervisorMetrics(Settings(home=tmp_path), [bot])
    server.start()
    try:
        assert 'tradebot_process_restarts_total{mode="simulation",process="bot"} 0.0' in get(server.port, "/metrics")
        bot.restarts, bot.state = 3, State.RESTARTING
        text = get(server.port, "/metrics")
        assert 'tradebot_process_restarts_total{mode="simulation",process="bot"} 3.0' in text
        assert 'tradebot_process_state{mode="simulation",process="bot",state="restarting"} 1.0' in text
        assert 'tradebot_process_state{mode="simulation",process="bot",state="ready"} 0.0' in text
        assert 'tradebot_home_free_bytes{mode="simulation"}' in text
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(server.port, "/other")
    finally:
        server.stop()
    with pytest.raises(urllib.error.URLError):
        get(server.port, "/metrics")
