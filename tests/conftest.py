"""Fixtures of all tests; lying here it also puts `small_runs` on their import path."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch loads, and for the processes that tests start: on a busy machine threads that wait for each other in
# every small matrix product make a training of a fraction of a second take many.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module", autouse=True)
def _what_is_loaded_is_no_garbage() -> None:
    """Every run ends with a search for garbage, which takes 0.2 s through all of torch: let it pass over that.

    What a test makes is still searched, and found by the tests that look for what is left behind.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Else modules in C complain, as the process ends, that nobody took them down."""
    gc.unfreeze()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for runs."""
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def _presets_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the presets and the cache of whoever runs it."""
    # Not the fixture: it would outlive those that look whether the environment is as it was.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_TUI_CONFIG", str(tmp_path_factory.mktemp("config")))
        patch.setenv("TORCH_TUI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
