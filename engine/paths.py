"""Where files live, the environment variables that say so, and when they are safe there."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def runs_root(given: Path | str | None = None) -> Path:
    """The folder of all runs: `given`, else TORCH_TUI_RUNS, else `./runs`."""
    return Path(given or os.environ.get("TORCH_TUI_RUNS") or "runs")


def data_root() -> Path:
    """The folder of downloaded datasets, shared by all projects: TORCH_TUI_DATA, else the user's cache."""
    return Path(os.environ.get("TORCH_TUI_DATA") or platformdirs.user_cache_path("torch-tui") / "datasets")


def cache_root() -> Path:
    """The folder of what can be found out anew at any time: TORCH_TUI_CACHE, else the user's cache."""
    return Path(os.environ.get("TORCH_TUI_CACHE") or platformdirs.user_cache_path("torch-tui"))


def archives_root() -> Path:
    """The folder of what was taken out of a person's archives, in the same cache."""
    return data_root() / "archives"


def own_presets_root() -> Path:
    """The folder of a person's own presets, in TORCH_TUI_CONFIG, else in the user's configuration."""
    return Path(os.environ.get("TORCH_TUI_CONFIG") or platformdirs.user_config_path("torch-tui")) / "presets"


def bundled(name: str) -> Path:
    """A file of real data that ships with torch-tui."""
    return Path(__file__).parent / "data" / "bundled" / name


def to_disk(path: Path) -> None:
    """Wait until what was written to a file, or renamed in a folder, outlives a loss of power. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that lies there does not hold us up
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
