"""No update whatever raises, and none but the two good forms means anything."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.telegram.updates import ButtonPress, Ignored, Sender, TextMessage, read_update
from tests.support.telegram_server import BotApiServer, Sent

ME = BotApiServer.bot_id
SERVER = BotApiServer()
MESSAGE = {"update_id": 5, "message": SERVER.message("/stop")}
SERVER.press(Sent(7, 501, "question", False, at=1_795_000_000.0), "yes:123456")
PRESS = next(iter(SERVER._queue.values())) | {"update_id": 6}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


def paths(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [before]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*before, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths(inner, (*before, index))
    return found


def test_a_plain_message_and_a_press_on_our_button_are_read() -> None:
    message, press = read_update(MESSAGE, ME), read_update(PRESS, ME)
    assert isinstance(message, TextMessage)
    assert (message.update_id, message.sender, message.text) == (5, Sender(501, 501, True), "/stop")
    assert isinstance(press, ButtonPress)
    assert (press.sender.user_id, press.message_id, press.data) == (501, 7, "yes:123456")


def test_a_button_of_another_bot_is_not_ours() -> None:
    assert isinstance(read_update(PRESS, ME + 1), Ignored)


@given(JSON)
def test_any_json_is_ignored_or_understood(raw: Any) -> None:
    read_update(raw, ME)
    read_update({"update_id": 1, "message": raw}, ME)
    read_update({"update_id": 1, "callback_query": raw}, ME)


@settings(max_examples=150)
@given(st.sampled_from([MESSAGE, PRESS]), st.data(), JSON)
def test_any_value_anywhere_is_ignored_or_understood_and_never_changes_who_speaks(
    good: Any, data: st.DataObject, nasty: Any
) -> None:
    raw = copy.deepcopy(good)
    path = data.draw(st.sampled_from(paths(raw)[1:]))
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = nasty
    found = read_update(raw, ME)
    if not isinstance(found, Ignored):
        assert isinstance(found.sender.user_id, int)
        sender = raw["message"]["from"] if "message" in raw else raw["callback_query"]["from"]
        assert found.sender.user_id == sender["id"]


@pytest.mark.parametrize("depth", [100, 5_000])
def test_deep_nesting_is_no_error(depth: int) -> None:
    nested: Any = "x"
    for _ in range(depth):
        nested = [nested]
    assert isinstance(read_update({"update_id": 1, "message": {"from": nested}}, ME), Ignored)


def test_two_kinds_in_one_update_mean_nothing() -> None:
    assert isinstance(read_update({**MESSAGE, "edited_message": MESSAGE["message"]}, ME), Ignored)


def test_a_supergroup_with_the_id_of_a_user_is_not_private() -> None:
    raw = copy.deepcopy(MESSAGE)
    raw["message"]["chat"]["type"] = "supergroup"  # type: ignore[index]
    found = read_update(raw, ME)
    assert isinstance(found, TextMessage)
    assert not found.sender.private


def test_long_texts_are_cut() -> None:
    found = read_update({"update_id": 1, "message": SERVER.message("/stop " + "x" * random.Random(1).randrange(5_000, 9_000))}, ME)
    assert isinstance(found, TextMessage)
    assert len(found.text) == 512
