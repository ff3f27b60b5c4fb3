"""Halts and resumes, as the whole control stream tells them."""

from __future__ import annotations

from bot.controls import Controls
from common_models import Control, ControlAction

HALT, RESUME = ControlAction.HALT, ControlAction.RESUME


def after(*words: tuple[ControlAction, str | None]) -> Controls:
    controls = Controls()
    for action, target in words:
        controls.update(Control(action=action, actor="me", reason="why", created_at_ns=1, target=target))
    return controls


def test_a_halt_without_a_target_stops_everything_until_it_is_resumed() -> None:
    assert after((HALT, None)).halted_by("binance", "main") == "why (me)"
    assert after((HALT, None), (RESUME, None)).halted_by("binance", "main") is None
    assert after((HALT, None), (RESUME, "binance")).halted_by("binance", "main") is not None


def test_a_halt_of_an_exchange_or_account_stops_that_one() -> None:
    for target in ("binance", "main", "binance/main"):
        assert after((HALT, target)).halted_by("binance", "main") is not None
        assert after((HALT, target), (RESUME, target)).halted_by("binance", "main") is None
        assert after((HALT, target), (RESUME, None)).halted_by("binance", "main") is None
    assert after((HALT, "kraken")).halted_by("binance", "main") is None
