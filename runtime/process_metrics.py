"""What every process tells of itself beside the figures of its work."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runtime import metrics


def expose_process(service: str, mode: str, home: Path) -> None:
    """Name the process and its mode on every series that follows, and watch the disk under `home`: call it before anything else."""
    metrics.label_all({"mode": mode})
    info = {"service": service, "version": package_version()}
    metrics.expose_gauge("tradebot_build_info", "What runs; always 1", info, lambda: 1)
    metrics.expose_gauge("tradebot_home_free_bytes", "Room where this process keeps its state", {}, lambda: _disk(home).free)
    metrics.expose_gauge("tradebot_home_size_bytes", "Size of that file system", {}, lambda: _disk(home).total)
    metrics.expose_counter(
        "tradebot_metrics_unreadable", "Series that a scrape could not read", {}, lambda: metrics.process.failures
    )


def package_version() -> str:
    """The installed version, or `source` where the code runs from a plain directory."""
    try:
        return version("tradebot")
    except PackageNotFoundError:
        return "source"


def _disk(home: Path) -> shutil._ntuple_diskusage:
    """The file system of `home`, or of the nearest folder above it that exists."""
    return shutil.disk_usage(next(folder for folder in (home, *home.absolute().parents) if folder.exists()))
