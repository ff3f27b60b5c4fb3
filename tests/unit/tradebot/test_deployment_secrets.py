"""`make env`: made once, kept for ever, private, and of one piece."""

from __future__ import annotations

import json
import stat
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dotenv import dotenv_values

from runtime.settings import Settings
from runtime.settings_loader import load_settings
from tradebot import deployment_secrets
from tradebot.deployment_secrets import DeploymentError, Outcome, prepare

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the example in it, and an operator who is not root."""
    monkeypatch.setattr(deployment_secrets.os, "getuid", lambda: 1234)
    monkeypatch.setattr(deployment_secrets.os, "getgid", lambda: 2345)
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    return tmp_path


@pytest.fixture
def settings() -> Settings:
    return load_settings(ROOT, environ={}, files=[ROOT / "config/exchanges.yaml"])


def outcomes(checkout: Path, settings: Settings) -> dict[str, Outcome]:
    return {done.path: done.outcome for done in prepare(checkout, settings)}


def texts(checkout: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (checkout / "secrets").iterdir()}


def test_a_first_call_makes_everything_and_a_second_keeps_it(checkout: Path, settings: Settings) -> None:
    first = outcomes(checkout, settings)
    before = texts(checkout)
    second = outcomes(checkout, settings)

    assert {*first.values()} == {Outcome.MADE}
    assert {*second.values()} == {Outcome.KEPT}
    assert texts(checkout) == before


def test_everything_is_private(checkout: Path, settings: Settings) -> None:
    prepare(checkout, settings)

    assert stat.S_IMODE((checkout / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((checkout / "backups").stat().st_mode) == 0o700
    for path in (checkout / ".env", *(checkout / "secrets").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_files_that_became_readable_to_others_are_closed_again(checkout: Path, settings: Settings) -> None:
    prepare(checkout, settings)
    for name in ("redis_password_bot", "redis_url_bot", "telegram_bot_token"):
        (checkout / "secrets" / name).chmod(0o644)

    prepare(checkout, settings)

    assert {stat.S_IMODE(path.stat().st_mode) for path in (checkout / "secrets").iterdir()} == {0o600}


def test_containers_run_as_the_one_who_asks(checkout: Path, settings: Settings) -> None:
    prepare(checkout, settings)

    known = dotenv_values(checkout / ".env")
    assert (known["TRADEBOT_UID"], known["TRADEBOT_GID"]) == ("1234", "2345")


def test_for_root_the_files_belong_to_a_user_without_rights(
    checkout: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(deployment_secrets.os, "getuid", lambda: 0)
    monkeypatch.setattr(deployment_secrets.os, "getgid", lambda: 0)
    monkeypatch.setattr(deployment_secrets.os, "chown", lambda path, uid, gid: owners.update({path.name: (uid, gid)}))

    prepare(checkout, settings)

    assert dotenv_values(checkout / ".env")["TRADEBOT_UID"] == "10001"
    assert owners.keys() == {*texts(checkout), "backups"}
    assert {*owners.values()} == {(10001, 10001)}


def test_another_user_than_that_of_the_containers_is_refused(checkout: Path, settings: Settings) -> None:
    (checkout / ".env").write_text("TRADEBOT_UID=4321\n")

    with pytest.raises(DeploymentError, match="TRADEBOT_UID=1234"):
        prepare(checkout, settings)
    assert not (checkout / "secrets").exists() or not texts(checkout)


@pytest.mark.parametrize("number", ["0", "me", "-1"])
def test_containers_never_run_as_root_or_nobody_knows_whom(checkout: Path, settings: Settings, number: str) -> None:
    (checkout / ".env").write_text(f"TRADEBOT_UID={number}\n")

    with pytest.raises(DeploymentError, match="numbers above 0"):
        prepare(checkout, settings)


def test_what_is_in_env_already_stays(checkout: Path, settings: Settings) -> None:
    mine = "# mine\nTRADEBOT__LOG__LEVEL=DEBUG\nGRAFANA_PORT=4000\n"
    (checkout / ".env").write_text(mine)

    done = outcomes(checkout, settings)

    assert done[".env"] is Outcome.RENEWED
    assert (checkout / ".env").read_text() == mine + "TRADEBOT_UID=1234\nTRADEBOT_GID=2345\n"


def test_a_changed_password_reaches_every_file_that_depends_on_it(checkout: Path, settings: Settings) -> None:
    prepare(checkout, settings)
    (checkout / "secrets/redis_password_exporter").unlink()

    done = outcomes(checkout, settings)

    found = texts(checkout)
    password = found["redis_password_exporter"].strip()
    changed = {"redis_password_exporter", "redis_url_exporter", "redis_exporter.json", "redis_users.acl"}
    assert {Path(path).name for path, outcome in done.items() if outcome is not Outcome.KEPT} == changed
    assert f"#{sha256(password.encode()).hexdigest()}" in found["redis_users.acl"]
    assert {*json.loads(found["redis_exporter.json"]).values()} == {password}


def test_addresses_name_the_services_of_the_compose_file(checkout: Path, settings: Settings) -> None:
    prepare(checkout, settings)

    for name, text in texts(checkout).items():
        if name.startswith(("redis_url_", "postgres_url_")):
            url = urlsplit(text.strip())
            server, _, who = name.split("_", 2)
            assert url.hostname == server
            assert url.username in (who, f"tradebot_{who}", "postgres")
            assert url.password == texts(checkout)[f"{server}_password_{who}"].strip()


def test_what_its_owner_filled_in_stays(checkout: Path, settings: Settings) -> None:
    prepare(checkout, settings)
    (checkout / "secrets/telegram_bot_token").write_text("123456789:a-token\n")

    done = outcomes(checkout, settings)

    assert done["secrets/telegram_bot_token"] is Outcome.KEPT
    assert texts(checkout)["telegram_bot_token"] == "123456789:a-token\n"
