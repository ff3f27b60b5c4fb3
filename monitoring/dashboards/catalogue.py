"""All dashboards, and their files."""

from __future__ import annotations

import json
from collections.abc import Sequence

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.dashboards import bus, orders, overview, portfolio, strategies, system, venues
from monitoring.dashboards.board import Board


def boards() -> list[Board]:
    """A new set of all boards, in the order of a first reading."""
    return [module.board() for module in (overview, portfolio, strategies, orders, venues, bus, system)]


def written(found: Sequence[Board]) -> dict[str, str]:
    """The text of each file by its name, ready for Grafana's provisioning; the same boards always give the same text."""
    return {f"{board.name}.json": json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n" for board in found}
