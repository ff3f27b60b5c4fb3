"""Where Prometheus finds the processes of this home: a file for its file_sd, kept current although ports are ephemeral."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from runtime.endpoints import write_private

TARGETS_FILE = "prometheus-targets.json"


class ScrapeTargets:
    """`<home>/run/prometheus-targets.json`. A process that died keeps its last address: `up` then says 0 and does not vanish."""

    def __init__(self, run_dir: Path, host: str) -> None:
        self._file = run_dir / TARGETS_FILE
        self._host = f"[{host}]" if ":" in host else host
        self._ports: dict[str, int] = {}
        self._text = ""

    def update(self, ports: Mapping[str, int | None]) -> None:
        """Take in the ports of the processes by name, None where it is not known now; raises OSError when the disk refuses."""
        self._ports.update({name: port for name, port in ports.items() if port is not None})
        text = json.dumps([self._target(name, port) for name, port in sorted(self._ports.items())], indent=1)
        if text != self._text:
            write_private(self._file, text)
            self._text = text

    def forget(self) -> None:
        """The stack has stopped in order: nothing is to be scraped, and nothing is missing."""
        self._file.unlink(missing_ok=True)
        self._text = ""

    def _target(self, name: str, port: int) -> dict[str, object]:
        labels = {"job": name, "instance": name}
        return {"targets": [f"{self._host}:{port}"], "labels": labels}
