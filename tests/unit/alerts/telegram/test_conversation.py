"""Who may do what by Telegram: nobody but those on the list, nothing old, nothing twice, nothing that loosens without a code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from alerts.telegram import confirmations
from common_models import CancelAll
from runtime import emergency_stop
from tests.support.telegram_bot import ADMIN, TRADER, VIEWER, Chat, bot, settings_for
from tests.support.telegram_server import BotApiServer, Sent, person
from tests.support.waiting import eventually

STRANGER, GROUP, OTHER_GROUP = 999, -100_200, -100_300


@pytest.fixture(autouse=True)
def _bus_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of the real bus are tried in tests/integration."""

    async def yes(*_: Any) -> bool:
        return True

    monkeypatch.setattr("alerts.telegram.bus_words.BusWords.reachable", yes)
    monkeypatch.setattr("alerts.telegram.actions.EVIDENCE_S", 0.0)


def code_of(message: Sent) -> str:
    found = re.search(r"send (?:/confirm )?(\d{6})", message.text)
    assert found, message.text
    return found[1]


def pressed(chat: Chat) -> bool:
    return emergency_stop.read(chat.settings.home).pressed


def message(chat: Chat, text: str, user: int = ADMIN, **fields: Any) -> dict[str, Any]:
    return chat.server.message(text, user, **fields)


async def test_stop_is_one_step_durable_and_told(chat: Chat) -> None:
    answer = await chat.ask("/stop", TRADER)
    assert "emergency stop is pressed" in answer.text
    assert chat.publisher.said == ["halt"]
    state = emergency_stop.read(chat.settings.home)
    assert (state.pressed, state.actor) == (True, f"telegram:{TRADER}")


async def test_kill_also_cancels_on_every_account(chat: Chat) -> None:
    answer = await chat.ask("/kill", TRADER)
    cancels = [sent for sent in chat.publisher.messages if isinstance(sent, CancelAll)]
    assert [(cancel.exchange, cancel.account, cancel.strategy) for cancel in cancels] == [("binance", "main", f"telegram:{TRADER}")]
    assert pressed(chat)
    assert "asked to cancel" in answer.text


@pytest.mark.parametrize("text", ["/stopentry", "/stopbuy", "/pause", "/PAUSE@Local_Tradebot"])
async def test_pause_has_the_names_that_people_know(chat: Chat, text: str) -> None:
    await chat.ask(text, TRADER)
    assert chat.publisher.said == ["pause"]


# nobody else


def refused_updates(chat: Chat) -> list[tuple[str, dict[str, Any]]]:
    """Everything that says /stop and must do nothing."""
    good = message(chat, "/stop")
    group = {"id": GROUP, "type": "supergroup", "title": "Group"}
    return [
        ("message", message(chat, "/stop", STRANGER)),
        ("message", {**good, "from": person(STRANGER, username=f"person{ADMIN}")}),  # the name of an admin
        ("message", {**good, "from": {**person(ADMIN), "id": str(ADMIN)}}),
        ("message", {**good, "chat": group}),  # an admin in a group that is not on the list
        ("message", {**good, "from": person(STRANGER), "chat": group}),
        ("message", {**good, "from": person(STRANGER)}),  # another member in the admin's chat
        ("edited_message", {**good, "edit_date": good["date"] + 1}),
        ("message", {**good, "edit_date": good["date"] + 1}),
        ("channel_post", {**good, "sender_chat": {"id": GROUP, "type": "channel"}}),
        ("edited_channel_post", good),
        ("business_message", {**good, "business_connection_id": "b"}),
        ("message", {**good, "business_connection_id": "b"}),
        ("message", {**good, "forward_origin": {"type": "user", "date": 1, "sender_user": person(ADMIN)}}),
        ("message", {**good, "forward_from": person(ADMIN), "forward_date": 1}),
        ("message", {**good, "forward_sender_name": "Person", "forward_date": 1}),
        ("message", {**good, "forward_from_chat": {"id": GROUP, "type": "channel"}, "forward_date": 1}),
        ("message", {**good, "is_automatic_forward": True}),
        ("message", {**good, "via_bot": person(7, is_bot=True)}),
        ("message", {**good, "sender_chat": group}),  # an anonymous admin of a group
        ("message", {**good, "from": person(ADMIN, is_bot=True)}),
        ("message", {key: value for key, value in good.items() if key != "from"}),
        ("message", {**good, "text": None, "caption": "/stop"}),
        ("message", {**good, "text": "stop"}),
        ("message", {**good, "text": "please /stop"}),
        ("message", {**good, "text": "/stop@other_bot"}),
        ("inline_query", {"id": "1", "from": person(ADMIN), "query": "/stop", "offset": ""}),
        ("my_chat_member", {"from": person(ADMIN), "chat": good["chat"], "date": 1}),
        ("callback_query", {"id": "1", "from": person(ADMIN), "data": "/stop", "inline_message_id": "x"}),
        ("callback_query", {"id": "1", "from": person(ADMIN), "data": "yes:000000", "message": good}),
    ]


async def test_whatever_is_not_a_plain_new_message_of_somebody_on_the_list_does_nothing(chat: Chat) -> None:
    updates = refused_updates(chat)
    for kind, content in updates:
        chat.server.force(kind, content)
    await chat.settled()

    assert chat.publisher.messages == []
    assert not pressed(chat)
    assert set(chat.outcomes) <= {"denied", "ignored", "unknown"}
    assert sum(chat.outcomes.values()) == len(updates)
    assert not [sent for sent in chat.server.sent if sent.chat_id not in (ADMIN,)]
    await chat.ask("/stop")
    assert pressed(chat), "the bot still obeys the right one"


async def test_strangers_get_no_answer(chat: Chat) -> None:
    chat.server.chats.add(STRANGER)
    for _ in range(20):
        chat.server.say("/status", STRANGER)
    await chat.settled()
    assert chat.server.sent == []
    assert chat.outcomes == {"denied": 20}


async def test_in_a_listed_group_only_those_on_the_list_are_heard(server: BotApiServer, tmp_path: Path) -> None:
    server.chats |= {GROUP, OTHER_GROUP}
    async with bot(server, settings_for(tmp_path, server, chats=(GROUP,))) as chat:
        server.say("/ping", STRANGER, GROUP)
        server.say("/ping", ADMIN, OTHER_GROUP)
        server.say("/ping", ADMIN)  # the private chat is not on the list
        server.say("just talking", ADMIN, GROUP)
        answer = await chat.ask("/ping@local_tradebot", ADMIN, GROUP)
        await chat.settled()
    assert (answer.chat_id, answer.text) == (GROUP, "pong")
    assert len(server.sent) == 1


@pytest.mark.parametrize(
    ("user", "text", "needed"),
    [(VIEWER, "/stop", "trader"), (VIEWER, "/ack k3f9", "trader"), (VIEWER, "/logs", "admin"), (TRADER, "/resume_trading", "admin"),
     (TRADER, "/enable sma live", "admin"), (VIEWER, "/resume", "trader")],
)  # fmt: skip
async def test_a_role_may_what_it_may(chat: Chat, user: int, text: str, needed: str) -> None:
    answer = await chat.ask(text, user)
    assert f"for {needed}s" in answer.text
    assert chat.publisher.messages == []
    assert not pressed(chat)


# nothing old, nothing twice


async def test_old_commands_that_loosen_are_refused_and_stopping_ones_obeyed(chat: Chat) -> None:
    answer = await chat.ask("/resume_trading", age_s=3600)
    assert "1 h old, so nothing was done" in answer.text
    assert not answer.buttons
    await chat.ask("/stop", age_s=86_000)
    assert pressed(chat)


async def test_a_replayed_update_does_nothing(chat: Chat) -> None:
    content = message(chat, "/pause")
    update_id = chat.server.push("message", content)
    await chat.answer(0)
    for _ in range(3):
        chat.server.replay(update_id, "message", content)
        chat.server.say("/ping")
    await chat.settled()
    assert chat.publisher.said == ["pause"]


async def test_replays_are_known_after_a_restart(server: BotApiServer, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, server)
    async with bot(server, settings) as chat:
        content = message(chat, "/pause")
        update_id = server.push("message", content)
        await chat.answer(0)
    server.replay(update_id, "message", content)
    async with bot(server, settings) as chat:
        await chat.ask("/ping")
        assert chat.publisher.said == []


# the code


async def test_what_loosens_takes_the_code_of_its_question(chat: Chat) -> None:
    await chat.ask("/stop")
    question = await chat.ask("/resume_trading")
    assert pressed(chat)
    answer = await chat.ask(code_of(question))
    assert "released" in answer.text
    assert not pressed(chat)
    assert chat.publisher.said == ["halt", "resume"]


async def test_a_button_confirms_once(chat: Chat) -> None:
    question = await chat.ask("/resume")
    yes = question.buttons[0]["callback_data"]
    for _ in range(3):
        chat.server.press(question, yes)
    await eventually(lambda: len(chat.server.answered) == 3)
    await chat.settled()
    assert chat.publisher.said == ["continue"]


async def test_a_code_is_bound_to_the_person_the_chat_and_the_message(server: BotApiServer, tmp_path: Path) -> None:
    server.chats |= {GROUP}
    async with bot(server, settings_for(tmp_path, server, chats=(GROUP, ADMIN, TRADER))) as chat:
        question = await chat.ask("/resume", TRADER, GROUP)
        code, yes = code_of(question), question.buttons[0]["callback_data"]
        other = await chat.ask("/ping", ADMIN)
        server.press(question, yes, ADMIN)  # another person presses
        server.say(f"/confirm {code}", ADMIN, GROUP)
        server.say(f"/confirm {code}", TRADER)  # the same person elsewhere
        server.press(other, yes, TRADER)  # and there below another message
        server.press(await chat.ask("/ping", TRADER, GROUP), yes, TRADER)  # in the right chat below another message
        server.press(question, yes, STRANGER)
        server.press(
            question,
            yes,
            TRADER,
            message={"message_id": question.message_id, "date": 0, "chat": {"id": GROUP, "type": "supergroup"}},
        )
        await chat.settled()
        assert chat.publisher.said == []
        server.press(question, yes, TRADER)
        await eventually(lambda: chat.publisher.said == ["continue"])


async def test_a_code_expires(server: BotApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bot(server, settings_for(tmp_path, server, confirm_s=30)) as chat:
        question = await chat.ask("/resume")
        clock = chat.telegram._conversation._confirmations
        later = clock._clock() + 31
        monkeypatch.setattr(clock, "_clock", lambda: later)
        answer = await chat.ask(code_of(question))
        assert "expired" in answer.text
        assert chat.publisher.said == []


async def test_a_code_of_yesterday_typed_now_or_typed_yesterday_does_nothing(chat: Chat) -> None:
    question = await chat.ask("/resume")
    await chat.ask(code_of(question), age_s=120)
    assert chat.publisher.said == []


async def test_wrong_codes_lock_the_person_out(chat: Chat) -> None:
    question = await chat.ask("/resume")
    wrong = f"{(int(code_of(question)) + 1) % 1_000_000:06d}"
    for left in range(confirmations.MAX_WRONG):
        answer = await chat.ask(f"/confirm {wrong}")
        assert "wrong code" in answer.text, left
    assert "too many wrong codes" in (await chat.ask(f"/confirm {code_of(question)}")).text
    assert "too many wrong codes" in (await chat.ask("/resume")).text
    assert chat.publisher.said == []
    await chat.ask("/stop")
    assert pressed(chat), "stopping needs no code"


async def test_cancel_and_a_newer_question_void_a_code(chat: Chat) -> None:
    first = await chat.ask("/resume")
    second = await chat.ask("/resume_trading")
    if code_of(first) != code_of(second):
        assert "wrong code" in (await chat.ask(f"/confirm {code_of(first)}")).text
    assert (await chat.ask("/cancel")).text == "Forgotten."
    assert "nothing to confirm" in (await chat.ask(f"/confirm {code_of(second)}")).text
    assert chat.publisher.said == []


async def test_what_cannot_be_recorded_is_not_done_unless_it_stops(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    question = await chat.ask("/resume")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(chat.telegram._updates, "take", full)
    assert "Not done: the disk" in (await chat.ask(code_of(question))).text
    assert chat.publisher.said == []
    await chat.ask("/stop")
    assert pressed(chat)


# answers


async def test_alerts_are_acknowledged_by_tapping_their_id(chat: Chat) -> None:
    assert "/ack_k3f9" in (await chat.ask("/alerts")).text
    assert "acknowledged" in (await chat.ask("/ack_k3f9", TRADER)).text
    assert chat.desk.state.changed_by == f"telegram:{TRADER}"
    assert "resolved" in (await chat.ask("/resolve k3f9", TRADER)).text
    assert "no open alert" in (await chat.ask("/ack nope", TRADER)).text
    assert (await chat.ask("/alerts")).text == "no open alerts"


async def test_unknown_words_get_a_short_help(chat: Chat) -> None:
    assert "/help" in (await chat.ask("/frobnicate <b>")).text
    assert "/help" in (await chat.ask("hello")).text


async def test_reading_goes_on_while_the_history_and_the_bus_are_away(chat: Chat) -> None:
    assert "the history is not reachable" in (await chat.ask("/profit", VIEWER)).text
    assert "the bus is not reachable" in (await chat.ask("/plugins", VIEWER)).text
    status = (await chat.ask("/status table", VIEWER)).text
    assert "simulation mode" in status
    assert "the history is not reachable" in status


async def test_a_failing_answer_is_told_and_ends_nothing(chat: Chat) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    chat.telegram._conversation._readers["version"] = broken  # type: ignore[index]
    assert "/version failed" in (await chat.ask("/version")).text
    assert (await chat.ask("/ping")).text == "pong"
    await chat.settled()
    assert (chat.outcomes["failed"], chat.outcomes["done"]) == (1, 1)


async def test_a_flood_of_questions_delays_no_stop(chat: Chat) -> None:
    for _ in range(300):
        chat.server.say("/help", VIEWER)
    chat.server.say("/stop", TRADER)
    await eventually(lambda: pressed(chat))
    await chat.settled()


async def test_the_menu_is_filled(chat: Chat) -> None:
    await chat.ask("/ping")
    names = {command["command"] for command in chat.server.commands}
    assert {"status", "stop", "kill", "resume_trading", "help"} <= names
