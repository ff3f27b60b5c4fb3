"""Write every dashboard's JSON file, and remove those of boards that are no more."""

from __future__ import annotations

import sys
from pathlib import Path

from monitoring.dashboards.catalogue import boards, written

FOLDER = Path(__file__).resolve().parents[1] / "grafana" / "dashboards"


def main() -> None:
    files = written(boards())
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.json"):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text)
    sys.stdout.write(f"wrote {len(files)} dashboards into {FOLDER}\n")


if __name__ == "__main__":
    main()
