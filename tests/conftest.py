"""Fixtures of all tests; lying here it also puts `small_runs` on their import path."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nursery import Nursery

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


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """One for all tests: it takes three seconds to begin."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for runs."""
    return tmp_path / "runs"


@pytest.fixture
def disk_keeps_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings wait for each checkpoint; a step is shorter than a write, and newer ones replace those that wait."""
    from engine.checkpoints.writer import CheckpointWriter  # most tests need no torch

    save = CheckpointWriter.save

    def save_and_wait(self: CheckpointWriter, *arguments: Any, **options: Any) -> None:
        save(self, *arguments, **options)
        assert self.wait(60)

    monkeypatch.setattr(CheckpointWriter, "save", save_and_wait)


@pytest.fixture(scope="session")
def _nobodys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new folder each time; `mktemp` would look through all there are for a number, 5 ms a test and ever more."""
    home = tmp_path_factory.mktemp("nobody")
    return (home / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _presets_of_nobody(_nobodys: Iterator[Path]) -> Iterator[None]:
    """No test reads or writes the presets and the cache of whoever runs it."""
    home = next(_nobodys)
    for name in ("config", "cache"):
        (home / name).mkdir(parents=True)
    # Not the fixture: it would outlive those that look whether the environment is as it was.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_TUI_CONFIG", str(home / "config"))
        patch.setenv("TORCH_TUI_CACHE", str(home / "cache"))
        yield
