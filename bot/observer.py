"""Who is told of which event: synchronously, in order of subscription, within the turn of the loop that the event came in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Observer = Callable[[Any], None]
"""Called with each event of the subscribed types. It must be quick and must not fail."""


class Observable:
    """Something that tells observers of events by their exact type."""

    def __init__(self) -> None:
        self._observers: dict[type, tuple[Observer, ...]] = {}

    def add_observer(self, observer: Observer, *types: type) -> None:
        """Tell `observer` of every event of these types from now on."""
        for kind in types:
            self._observers[kind] = (*self._observers.get(kind, ()), observer)

    def delete_observer(self, observer: Observer) -> None:
        """Tell `observer` of nothing any more."""
        for kind, observers in self._observers.items():
            self._observers[kind] = tuple(known for known in observers if known != observer)

    def notify_observers(self, event: object) -> None:
        """Tell everyone who subscribed to the event's type."""
        for observer in self._observers.get(type(event), ()):
            observer(event)
