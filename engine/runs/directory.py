"""A run's directory: all there is to know about one training, and the only interface between processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import psutil

from engine.checkpoints.manifest import unrank
from engine.errors import RecipeError, RunError, first_line, nearest
from engine.insight.facts import HEALTH
from engine.paths import to_disk
from engine.recipe import Recipe
from engine.runs.history import LIVE, History, Progress, Summary
from engine.runs.metrics import copy_until, read_curves, read_events, read_facts, read_spreads, write_facts

_DATED = re.compile(r"\d{4}-\d\d-\d\d ")


_LONGEST_NAME = 200  # bytes; a file system takes 255, of which the date and a number need some


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run: recipe.toml, metrics.sqlite, log.txt, checkpoints/, split.npz, environment.json."""

    path: Path

    @classmethod
    def create(
        cls, root: Path, name: str, recipe: Recipe, device: str, *, fill: Callable[[RunDirectory], None] | None = None
    ) -> RunDirectory:
        """Make a new, empty run called `name-date-time` under `root`. Raises RunError.

        `fill` may put more into it. The recipe is written last: a process that is killed leaves a run or none.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
        plain = plain.encode()[:_LONGEST_NAME].decode(errors="ignore")
        for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
            path = root / f"{plain}-{stamp}{suffix}"
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError as error:
                if not path.exists():  # a parent is a file
                    raise _unwritable(root, error) from error
            except OSError as error:
                raise _unwritable(root, error) from error
        run = cls(path)
        try:
            run.checkpoints.mkdir()
            run.environment_file.write_text(json.dumps(_environment(device), indent=2) + "\n", encoding="utf-8")
            if fill:
                fill(run)
            _write_whole(run.recipe_file, recipe.to_toml())
        except BaseException as error:
            shutil.rmtree(path, ignore_errors=True)
            if isinstance(error, OSError):
                raise _unwritable(root, error) from error
            raise
        return run

    @classmethod
    def open(cls, name: Path | str, root: Path) -> RunDirectory:
        """The run of that name under `root`, or at that path. Raises RunError with the nearest name."""
        for path in (Path(name), root / str(name)):
            with contextlib.suppress(OSError):  # a name that is too long for a file
                if (path / "recipe.toml").is_file():
                    return cls(path)
        names = [run.name for run in all_runs(root)]
        matching = [candidate for candidate in names if candidate.startswith(str(name))]
        if len(matching) == 1:
            return cls(root / matching[0])
        remedy = f"It could be {', '.join(matching[:4])}." if matching else nearest(str(name), names)
        raise RunError(str(name), f"is no run in {root}", remedy or "See: torch-tui runs.")

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.resolve().name

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.sqlite"

    @property
    def log_file(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def split_file(self) -> Path:
        return self.path / "split.npz"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    def claim(self) -> IO[str]:
        """Lock the run for this process until the returned file is closed. Raises RunError if another has it."""
        if os.path.lexists(self.log_file) and not self.log_file.is_file():  # opening a pipe would wait for ever
            raise RunError(str(self.log_file), "is not a file", "Remove what lies there.")
        try:
            handle = self.log_file.open("a", encoding="utf-8")
        except OSError as error:
            raise RunError(
                str(self.path), f"can't be written: {error.strerror or error}", "Mend the folder."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.close()
            time.sleep(0.2)  # one that has taken it this very moment has not yet said who it is
            raise RunError(self.name, f"is being trained by {self.owner()}", "Stop it there first.") from error
        except OSError:
            pass  # a file system without locks (some network mounts): the owner in the facts must do
        with contextlib.suppress(RunError, sqlite3.Error):
            write_facts(self.metrics_file, {"claimed": owner_facts()})
        return handle

    def owner(self) -> str:
        """`process 4711 on lab3`: who trains it, or did last."""
        try:
            facts = read_facts(self.metrics_file)
            facts = facts.get("claimed", facts)
            return f"process {facts['pid']} on {facts['host']}"
        except (RunError, ValueError, TypeError, KeyError, AttributeError):
            return "another process"

    def begin_from(self, origin: RunDirectory, checkpoint: Path, step: int, *, ranked: bool) -> None:
        """Take over another run's `checkpoint` and what it had recorded up to `step`. Raises RunError.

        Where it came from is a fact of this run: `origin`. Without `ranked` the checkpoint loses its score.
        """
        try:
            copied = shutil.copytree(checkpoint, self.checkpoints / checkpoint.name, symlinks=True)
            if not ranked:
                unrank(copied)
            for path in (*copied.iterdir(), copied, self.checkpoints):
                to_disk(path)
            if origin.split_file.is_file():
                to_disk(Path(shutil.copyfile(origin.split_file, self.split_file)))
            fact = {"run": origin.name, "path": str(origin.path.resolve()), "checkpoint": checkpoint.name, "step": step}
            facts = {"state": "stopped", "origin": fact}
            copy_until(origin.metrics_file, self.metrics_file, step, facts)
        except OSError as error:
            raise _unwritable(self.path.parent, error) from error

    def recipe(self) -> Recipe:
        """The recipe as it was run. Raises RecipeError."""
        if not self.recipe_file.is_file():  # a pipe would be waited for
            raise RecipeError(str(self.recipe_file), "is missing", "See: torch-tui runs.")
        return Recipe.load(self.recipe_file)

    def status(self) -> RunStatus:
        """What the run has come to so far. Raises RunError, also for facts that nobody can have written in order."""
        try:
            # A process may have been killed before it had made the file.
            return self._status(read_facts(self.metrics_file) if self.metrics_file.exists() else {})
        except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
            raise RunError(str(self.metrics_file), f"is damaged: {first_line(error)}", "Remove the run.") from error

    def _status(self, facts: dict[str, Any]) -> RunStatus:
        state = facts.get("state", "preparing")
        if state in LIVE and not _alive(facts):
            state = "interrupted"
        summary = Summary(**facts["summary"]) if "summary" in facts else None
        return RunStatus(self.name, state, facts.get("reason", ""), facts.get("started", 0.0), facts, summary)

    def history(self) -> History:
        """All the run's curves and events, read back. Raises RunError."""
        history, status, recipe = History(), self.status(), self.recipe()
        if self.metrics_file.exists():
            history.series = read_curves(self.metrics_file, without=HEALTH)
            history.events = tuple(read_events(self.metrics_file))
            history.spreads = read_spreads(self.metrics_file)
        history.summary = status.summary
        last = max((series.last_step or 0 for series in history.series.values()), default=0)
        history.progress = Progress(
            state=status.state,  # type: ignore[arg-type]
            text=status.reason,
            epoch=status.facts.get("epoch", 0),
            epochs=status.facts.get("epochs", recipe.training.epochs),
            step=last,
            steps=status.facts.get("steps", last),
        )
        if self.log_file.is_file():
            with self.log_file.open(encoding="utf-8", errors="replace") as file:
                history.log.extend(line.rstrip("\n") for line in file if _DATED.match(line))  # tracebacks are not
            history.logged = len(history.log)
        return history


@dataclass(frozen=True)
class RunStatus:
    """One line about a run, for lists."""

    name: str
    state: str
    reason: str
    started: float
    facts: dict[str, Any]
    summary: Summary | None


def all_runs(root: Path) -> Iterator[RunDirectory]:
    """Every run under `root`, the newest first; empty when there is no such folder."""
    try:
        found = [path for path in root.iterdir() if (path / "recipe.toml").is_file()]
    except OSError:
        return
    for path in sorted(found, key=lambda path: ((path / "recipe.toml").stat().st_mtime, path.name), reverse=True):
        yield RunDirectory(path)


def owner_facts() -> dict[str, Any]:
    """Who trains: enough to tell later whether the process is still alive."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "process_started": psutil.Process().create_time()}


def _alive(facts: dict[str, Any]) -> bool:
    """Whether the process that wrote `facts` still runs. One on another host is taken to; no process is none."""
    if "host" not in facts:
        return False
    if facts.get("host") != socket.gethostname():
        return True
    try:
        process = psutil.Process(facts.get("pid", -1))
        if process.status() == psutil.STATUS_ZOMBIE:  # in many containers nobody buries the dead
            return False
        return bool(abs(process.create_time() - facts.get("process_started", 0.0)) < 1.0)
    except (psutil.Error, ValueError):
        return False


def _write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole, also after the power was lost, or not at all. Raises OSError."""
    aside = path.with_name(f".writing-{path.name}")
    aside.write_text(text, encoding="utf-8")
    to_disk(aside)
    aside.rename(path)
    to_disk(path.parent)
    to_disk(path.parent.parent)


def _unwritable(root: Path, error: OSError) -> RunError:
    remedy = "Choose another folder with --runs or TORCH_TUI_RUNS."
    return RunError(str(root), f"a run can't be written there: {error.strerror or error}", remedy)


def _environment(device: str) -> dict[str, Any]:
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "device": device,
        "git_commit": _git_commit(),
        "versions": {name: _version(name) for name in ("torch-tui", "torch", "torchvision", "numpy")},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git_commit() -> str:
    """The commit of the working directory, marked when it has changes; empty outside git."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=5, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return run.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
