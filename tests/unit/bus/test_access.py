"""The ACL file: a line for each user, no password in it, and nothing that nobody asked for."""

from __future__ import annotations

import hashlib

import pytest

from bus.access import acl_file, user_names, users
from bus.streams import Streams

ACCOUNTS = {"binance": "main", "kraken": "second"}
PASSWORDS = {name: f"a password of {name}" for name in user_names(ACCOUNTS)}


def lines(mode: str = "simulation") -> dict[str, str]:
    return {line.split()[1]: line for line in acl_file(PASSWORDS, mode, ACCOUNTS).splitlines()}


def test_every_user_has_a_line_with_the_hash_of_its_password_only() -> None:
    found = lines()
    assert found.keys() == {"default", *PASSWORDS}
    for name, password in PASSWORDS.items():
        assert f"on #{hashlib.sha256(password.encode()).hexdigest()} " in found[name]
        assert password not in "".join(found.values())
    assert found["default"].startswith("user default off ")


def test_no_user_has_a_category_a_wildcard_or_another_mode() -> None:
    for line in lines("paper").values():
        assert "+@" not in line
        assert "~*" not in line
        assert "allkeys" not in line
        assert "~simulation:" not in line
        assert "~live:" not in line


def test_a_connector_knows_its_own_exchange_only() -> None:
    found = lines()
    assert "kraken" not in found["connector-binance"]
    assert "{kraken}:second" in found["connector-kraken"]
    assert "{binance}:main" in found["bot"]
    assert "{kraken}:second" in found["bot"]


def test_in_live_mode_last_values_have_no_mode_in_front() -> None:
    assert "%W~binance_spot:*" in lines("live")["connector-binance"]
    assert "%W~paper:binance_spot:*" in lines("paper")["connector-binance"]


def test_only_the_connector_holds_leases_and_only_recorder_and_operator_remove() -> None:
    for user in users(Streams("simulation"), ACCOUNTS):
        commands = {command for grant in user.grants for command in grant.commands}
        assert ("eval" in commands) is user.name.startswith("connector-")
        assert bool(commands & {"xtrim", "xdel"}) is (user.name in ("recorder", "operator"))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"bot": None}, "wrong: bot"), ({"stranger": "a password of nobody"}, "wrong: stranger"), ({"bot": "short"}, "too short: bot"),
     ({"bot": PASSWORDS["alerts"]}, "same password")],
)  # fmt: skip
def test_a_password_that_is_missing_unknown_short_or_shared_is_refused(change: dict[str, str | None], message: str) -> None:
    passwords = {name: password for name, password in {**PASSWORDS, **change}.items() if password is not None}
    with pytest.raises(ValueError, match=message):
        acl_file(passwords, "simulation", ACCOUNTS)
