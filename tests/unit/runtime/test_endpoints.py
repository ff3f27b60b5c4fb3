"""Addresses that come as files: private ones only, read anew each time, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import secrets
from runtime.endpoints import NotRunning, bus_url, postgres_url
from runtime.secrets import SecretError, read_secret
from runtime.settings_loader import ConfigError, load_settings

URL = "redis://bot:secret-word@redis:6379/0"


def private(path: Path, text: str = URL, mode: int = 0o600) -> Path:
    path.write_text(f"{text}\n")
    path.chmod(mode)
    return path


def test_an_address_may_come_as_a_file_which_is_read_each_time(tmp_path: Path) -> None:
    file = private(tmp_path / "bus_url")
    settings = load_settings(tmp_path, environ={"TRADEBOT__BUS__URL_FILE": str(file), "TRADEBOT__POSTGRES__URL_FILE": str(file)})
    assert bus_url(settings) == postgres_url(settings) == URL
    private(file, URL.replace("secret", "other"))
    assert "other-word" in bus_url(settings)
    assert not settings.bus.bundled


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o666])
def test_a_file_that_is_open_to_others_is_refused_without_showing_it(tmp_path: Path, mode: int) -> None:
    settings = load_settings(tmp_path, environ={"TRADEBOT__BUS__URL_FILE": str(private(tmp_path / "bus_url", mode=mode))})
    with pytest.raises(NotRunning, match=r"TRADEBOT__BUS__URL_FILE: .*chmod 600") as refusal:
        bus_url(settings)
    assert "secret-word" not in str(refusal.value)


@pytest.mark.parametrize(("mode", "usable"), [(0o444, True), (0o644, True), (0o400, True), (0o666, False), (0o464, False)])
def test_a_secret_of_a_container_may_be_readable_and_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, usable: bool
) -> None:
    monkeypatch.setattr(secrets, "CONTAINER_SECRETS", tmp_path)
    environ = {"THE_KEY_FILE": str(private(tmp_path / "the_key", mode=mode))}
    if usable:
        assert read_secret("THE_KEY", environ).get_secret_value() == URL
    else:
        with pytest.raises(SecretError, match="THE_KEY_FILE"):
            read_secret("THE_KEY", environ)


@pytest.mark.parametrize(("text", "reason"), [("", "is empty"), (None, "No such file")])
def test_a_file_without_an_address_says_which(tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        private(tmp_path / "bus_url", text)
    settings = load_settings(tmp_path, environ={"TRADEBOT__BUS__URL_FILE": str(tmp_path / "bus_url")})
    with pytest.raises(NotRunning, match=reason):
        bus_url(settings)


def test_an_address_is_said_once(tmp_path: Path) -> None:
    environ = {"TRADEBOT__BUS__URL": URL, "TRADEBOT__BUS__URL_FILE": "/run/secrets/bus_url"}
    with pytest.raises(ConfigError, match="both url and url_file") as refusal:
        load_settings(tmp_path, environ=environ)
    assert "secret-word" not in str(refusal.value)


def test_without_either_the_server_is_bundled(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environ={})
    assert settings.bus.bundled
    assert settings.postgres.bundled
    with pytest.raises(NotRunning, match="tradebot up"):
        bus_url(settings)
