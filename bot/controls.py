"""The emergency stop as the bot sees it: words on the control stream, read from its start. The connector enforces it by itself."""

from __future__ import annotations

from common_models import Control, ControlAction

EVERYTHING = "*"


class Controls:
    """Which halts are in force. A halt without a target stops everything; a resume without one releases everything."""

    def __init__(self) -> None:
        self._halts: dict[str, str] = {}

    def update(self, control: Control) -> None:
        """Take in one word; enabling and disabling plugins is not decided here."""
        target = control.target or EVERYTHING
        if control.action is ControlAction.HALT:
            self._halts[target] = f"{control.reason or 'no reason given'} ({control.actor})"
        elif control.action is ControlAction.RESUME and target == EVERYTHING:
            self._halts.clear()
        elif control.action is ControlAction.RESUME:
            self._halts.pop(target, None)

    def halted_by(self, exchange: str, account: str) -> str | None:
        """Why new risk is forbidden on an account, None when it is not."""
        if not self._halts:
            return None
        for target in (EVERYTHING, exchange, account, f"{exchange}/{account}"):
            if target in self._halts:
                return self._halts[target]
        return None
