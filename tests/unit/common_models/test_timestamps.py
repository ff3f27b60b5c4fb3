from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common_models.timestamps import EARLIEST_NS, LATEST_NS, TimestampError, ms_to_ns, ns_to_rfc3339, rfc3339_to_ns


@given(st.integers(EARLIEST_NS, LATEST_NS - 1))
def test_rfc3339_keeps_every_nanosecond(ns: int) -> None:
    assert rfc3339_to_ns(ns_to_rfc3339(ns)) == ns


@given(st.integers(EARLIEST_NS, LATEST_NS - 1), st.integers(EARLIEST_NS, LATEST_NS - 1))
def test_texts_sort_as_times_do(first: int, second: int) -> None:
    assert (first < second) == (ns_to_rfc3339(first) < ns_to_rfc3339(second))


@pytest.mark.parametrize("seconds_or_us", [1_732_190_000, 1_732_190_000_000_000, 0, -1])
def test_a_time_in_another_unit_is_refused(seconds_or_us: int) -> None:
    with pytest.raises(TimestampError):
        ms_to_ns(seconds_or_us)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-21T12:00:00", "2026-11-21T12:00:00.Z", "2026-11-21T12:00:00.0123456789Z"]
)
def test_text_that_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(TimestampError):
        rfc3339_to_ns(text)


def test_offsets_count() -> None:
    assert rfc3339_to_ns("2026-11-21T13:00:00.5+01:00") == rfc3339_to_ns("2026-11-21T12:00:00.500Z")
