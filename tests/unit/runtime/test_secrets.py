"""Where secrets are looked for, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.secrets import SecretError, optional_secret, read_secret


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_secret_comes_from_the_environment_a_file_of_one_s_own_or_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_secret("KEY", {"KEY": "a"}).get_secret_value() == "a"
    assert read_secret("KEY", {"KEY_FILE": str(written(tmp_path / "key", "b\n"))}).get_secret_value() == "b"
    monkeypatch.chdir(tmp_path)
    written(tmp_path / ".env", "KEY_OF_A_TEST=c$HOME\nOTHER_KEY=\n")
    assert read_secret("KEY_OF_A_TEST").get_secret_value() == "c$HOME"
    assert optional_secret("OTHER_KEY") is None
    monkeypatch.setenv("KEY_OF_A_TEST", "stronger")
    assert read_secret("KEY_OF_A_TEST").get_secret_value() == "stronger"


def test_what_is_missing_doubled_or_open_to_others_is_refused_without_being_shown(tmp_path: Path) -> None:
    file = written(tmp_path / "key", "canary", 0o640)
    for environ in ({}, {"KEY": "canary", "KEY_FILE": str(file)}, {"KEY_FILE": str(file)}, {"KEY_FILE": str(tmp_path / "none")}):
        with pytest.raises(SecretError) as raised:
            read_secret("KEY", environ)
        assert "canary" not in str(raised.value)


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    assert optional_secret("KEY", {"KEY_FILE": str(written(tmp_path / "key", "\n"))}) is None
