"""Pauses: what the bot keeps of them, and telling it another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bot.controls import EVERYTHING, Controls, ControlsError
from common_models import ControlAction
from runtime.clock import monotonic_s
from runtime.settings import Settings
from tradebot.control_messages import send_control

HEARD_WITHIN_S = 5.0
LOOK_EVERY_S = 0.05


def paused(settings: Settings) -> Mapping[str, str]:
    """Why nothing is entered, by exchange; `*` is everything. Nothing when the bot's file cannot be read: it says why itself."""
    controls = Controls(settings.home / "bot" / settings.mode.value / "pauses.json")
    try:
        controls.open()
    except (ControlsError, OSError):
        return {}
    return controls.pauses


def in_words(pauses: Mapping[str, str]) -> str:
    """Pauses as one line."""
    return "; ".join(f"{'everything' if target == EVERYTHING else target}, {why}" for target, why in pauses.items())


async def steer_entries(settings: Settings, action: ControlAction, exchange: str | None, reason: str) -> Mapping[str, str] | None:
    """Send PAUSE or CONTINUE; returns what is paused once the bot has taken it in, None when it has not been seen to."""
    control = await send_control(settings, action, reason, exchange)
    target = exchange or EVERYTHING

    def shown(pauses: Mapping[str, str]) -> bool:
        if action is ControlAction.PAUSE:
            return pauses.get(target, "").endswith(f"{reason} ({control.actor})")
        return target not in pauses and (exchange is not None or not pauses)

    deadline_s = monotonic_s() + HEARD_WITHIN_S
    while monotonic_s() < deadline_s:
        pauses = paused(settings)
        if shown(pauses):
            return pauses
        await asyncio.sleep(LOOK_EVERY_S)
    return None
