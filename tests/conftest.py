"""Fixtures of all tests; lying here it also puts `small_runs` on their import path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch loads, and for the processes that tests start: on a busy machine threads that wait for each other in
# every small matrix product make a training of a fraction of a second take many.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for runs."""
    return tmp_path / "runs"
