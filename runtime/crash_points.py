"""Named places at which a test may kill this very process: `CHAOS_CRASH=after-sent:3` ends it the third time it gets there.

The hook does what SIGKILL does (no clean-up, exit code 137), but at an exact instant. It works in simulation mode only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from runtime.settings import Mode

VARIABLE = "CHAOS_CRASH"


class _Armed:
    """Which point is armed, and how many more visits it survives; nothing by default."""

    name = ""
    visits_left = 0


def arm(mode: Mode, environ: Mapping[str, str] | None = None) -> None:
    """Read the variable once, at the start of a process; raises ValueError when it is not `name:number`."""
    text = (os.environ if environ is None else environ).get(VARIABLE, "")
    if not text or mode is not Mode.SIMULATION:
        _Armed.name = ""
        return
    name, _, number = text.partition(":")
    if not name or not (number or "1").isdecimal():
        raise ValueError(f"{VARIABLE}={text!r}: write the name of a crash point and a number, such as after-sent:3")
    _Armed.name, _Armed.visits_left = name, int(number or 1)


def crash_point(name: str) -> None:
    """End the process here when this point is armed and its turn has come."""
    if _Armed.name and name == _Armed.name:
        _Armed.visits_left -= 1
        if _Armed.visits_left <= 0:
            os._exit(137)
