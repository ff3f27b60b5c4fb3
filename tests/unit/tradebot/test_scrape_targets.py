"""The file that tells Prometheus where this home's processes are."""

from __future__ import annotations

import json
from pathlib import Path

from tradebot.scrape_targets import TARGETS_FILE, ScrapeTargets


def told(run_dir: Path) -> dict[str, str]:
    rows = json.loads((run_dir / TARGETS_FILE).read_text())
    assert all(row["labels"] == {"job": row["labels"]["job"], "instance": row["labels"]["job"]} for row in rows)
    return {row["labels"]["job"]: row["targets"][0] for row in rows}


def test_a_process_that_died_keeps_its_last_address_until_it_says_another(tmp_path: Path) -> None:
    targets = ScrapeTargets(tmp_path, "127.0.0.1")
    targets.update({"bot": 5000, "recorder": None})
    assert told(tmp_path) == {"bot": "127.0.0.1:5000"}
    targets.update({"bot": None, "recorder": 5002})
    assert told(tmp_path) == {"bot": "127.0.0.1:5000", "recorder": "127.0.0.1:5002"}
    targets.update({"bot": 41234, "recorder": 5002})
    assert told(tmp_path)["bot"] == "127.0.0.1:41234"


def test_the_file_is_written_when_something_changed_and_gone_when_all_has_stopped(tmp_path: Path) -> None:
    targets = ScrapeTargets(tmp_path, "::1")
    targets.update({"bot": 5000})
    before = (tmp_path / TARGETS_FILE).stat().st_ino
    targets.update({"bot": 5000})
    assert (tmp_path / TARGETS_FILE).stat().st_ino == before
    assert told(tmp_path) == {"bot": "[::1]:5000"}
    targets.forget()
    assert not (tmp_path / TARGETS_FILE).exists()
    targets.update({"bot": 5000})
    assert told(tmp_path) == {"bot": "[::1]:5000"}
