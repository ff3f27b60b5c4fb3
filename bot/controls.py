"""What people forbade: the emergency stop, which the connectors enforce by themselves, and pauses, which the bot alone keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from common_models import Control, ControlAction
from runtime.endpoints import write_private

EVERYTHING = "*"


class Pauses(msgspec.Struct):
    """The content of the file: who paused what and why, by target, and when the last word was heard (UTC nanoseconds)."""

    paused: dict[str, str] = {}
    heard_ns: int = 0


class ControlsError(Exception):
    """The file of pauses cannot be read; the text says where and what to do."""


class Controls:
    """Which halts and pauses are in force. One without a target stops everything; a release without one releases everything.

    Halts are read from the control stream, from its start. Pauses are also kept in `path`: nobody else remembers them.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._halts: dict[str, str] = {}
        self._pauses = Pauses()

    def open(self) -> None:
        """Read what was paused in an earlier life; raises ControlsError for a file that is not ours."""
        if self._path is None:
            return
        try:
            self._pauses = msgspec.json.decode(self._path.read_bytes(), type=Pauses)
        except FileNotFoundError:
            return
        except msgspec.MsgspecError as error:
            raise ControlsError(f"{self._path}: {error}; delete the file to start without pauses") from error

    def update(self, control: Control) -> bool:
        """Take in one word; enabling and disabling plugins is not decided here. Returns whether it is news."""
        match control.action:
            case ControlAction.HALT | ControlAction.RESUME:
                _apply(self._halts, control, starts=control.action is ControlAction.HALT)
                return True
            case ControlAction.PAUSE | ControlAction.CONTINUE if control.created_at_ns > self._pauses.heard_ns:
                _apply(self._pauses.paused, control, starts=control.action is ControlAction.PAUSE)
                self._pauses.heard_ns = control.created_at_ns
                if self._path is not None:
                    write_private(self._path, msgspec.json.encode(self._pauses).decode())
                return True
        return False

    def halted_by(self, exchange: str, account: str) -> str | None:
        """Why new risk is forbidden on an account, None when it is not."""
        return _in_force(self._halts, exchange, account)

    def paused_by(self, exchange: str, account: str) -> str | None:
        """Why nothing new is entered on an account, None when it may be; exits go on."""
        return _in_force(self._pauses.paused, exchange, account)

    @property
    def pauses(self) -> Mapping[str, str]:
        """Who paused what and why, by target; `*` is everything."""
        return self._pauses.paused


def _apply(in_force: dict[str, str], control: Control, *, starts: bool) -> None:
    target = control.target or EVERYTHING
    if starts:
        in_force[target] = f"{control.reason or 'no reason given'} ({control.actor})"
    elif target == EVERYTHING:
        in_force.clear()
    else:
        in_force.pop(target, None)


def _in_force(in_force: Mapping[str, str], exchange: str, account: str) -> str | None:
    if not in_force:
        return None
    for target in (EVERYTHING, exchange, account, f"{exchange}/{account}"):
        if target in in_force:
            return in_force[target]
    return None
