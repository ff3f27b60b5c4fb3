"""Whatever is to be said reaches Telegram in messages that it takes, and people read what was meant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerts.telegram.markup import MAX_CAPTION_UNITS, MAX_UNITS, Line, Style, bold, caption, clean, cut, plain, render, table, units
from tests.support.telegram_markup import shown_html, utf16_length

TEXTS = st.text(alphabet=st.characters(), max_size=300) | st.sampled_from(
    ["<b>", "&amp;", "</pre>", "🚨" * 50, "a" * 9000, "\x00\x1b[31m", "\ud83d"]
)
LINES = st.lists(st.builds(Line, TEXTS, st.sampled_from(list(Style))), max_size=40)


@given(LINES)
def test_every_message_can_be_parsed_is_short_enough_and_reads_as_its_plain_form(lines: list[Line]) -> None:
    messages = render(lines)
    assert 1 <= len(messages) <= 4
    for message in messages:
        shown = shown_html(message.html)
        assert shown == message.plain
        assert utf16_length(shown) <= MAX_UNITS
        assert shown.strip(), "Telegram refuses an empty message"
        assert message.html.encode()


@given(LINES, st.integers(min_value=40, max_value=200))
def test_nothing_is_lost_while_there_is_room(lines: list[Line], most: int) -> None:
    messages = render(lines, max_units=most, max_messages=10_000)
    said = "".join("".join(message.plain for message in messages).split())
    meant = "".join("".join(clean(line.text) for line in lines).split())
    assert said == (meant or "-")
    assert all(units(message.plain) <= most for message in messages)


def test_a_text_that_is_too_long_says_how_much_is_left_out() -> None:
    messages = render(plain(*(f"line {number:05d}" for number in range(5_000))))
    assert len(messages) == 4
    assert messages[0].plain.startswith("line 00000\n")
    assert "more lines left out" in messages[-1].plain
    assert units(messages[-1].plain) <= MAX_UNITS


def test_emoji_count_twice_and_are_never_halved() -> None:
    assert [units(message.plain) for message in render(plain("🚨" * 3000))] == [MAX_UNITS, 6000 - MAX_UNITS]
    assert cut("🚨🚨🚨", 4) == "🚨…"
    assert units(caption("🚨" * 1000)) <= MAX_CAPTION_UNITS


def test_a_table_is_aligned_and_keeps_to_one_block() -> None:
    (message,) = render(
        [bold("Head"), *table([("symbol", "profit"), ("BTC/USDT", "+1.5"), ("<x>", "-10")], right=(1,)), *plain("end")]
    )
    assert message.html == "<b>Head</b>\n<pre>symbol   profit\nBTC/USDT   +1.5\n&lt;x&gt;         -10</pre>\nend"
