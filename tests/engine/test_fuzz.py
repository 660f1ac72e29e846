"""Damage by chance: whatever a file holds, the answer is a right result or one clear message, and it comes soon."""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import tomlkit
from nursery import Nursery, call
from small_runs import line, same, stop_at, train, weights

from engine.check import check
from engine.devices.monitor import Monitor
from engine.errors import RecipeError, StudioError
from engine.job import Job
from engine.recipe import Recipe
from engine.runs.directory import RunDirectory, all_runs

PRESETS = sorted((Path(__file__).parents[2] / "presets").glob("*/*.toml"))
WRONG: list[Any] = [
    True, -1, 0, 10**12, 2**62, 2**63, -(10**30), 1e308, -1e-300, float("nan"), float("inf"), "", "x" * 5000,
    "数\u202e", "none", [], [[[[]]]], [1, "a"], {}, {"name": {"name": 1}}, [{}], {"a": [{"b": {"c": 1}}]}, "auto", 3,
]  # fmt: skip


class TookTooLongError(BaseException):
    """A call that does not come back."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise TookTooLongError

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# Recipes


def mutated(text: str, chance: random.Random) -> bytes:
    """A preset with something wrong, perhaps."""
    kind = chance.randrange(6)
    lines = text.splitlines()
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    if kind == 0:
        content = bytearray(text.encode())
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        return bytes(content)
    if kind == 1:
        lines.insert(at, lines.pop(other)) if chance.random() < 0.5 else lines.pop(at)
    elif kind == 2:
        lines.insert(at, lines[other])
    elif kind == 3:
        keys = [number for number, each in enumerate(lines) if re.match(r"\w+ *=", each)]
        at = chance.choice(keys)
        spot = chance.randrange(3)
        lines[at] = lines[at][:spot] + chance.choice("xé_0") + lines[at][spot:]
    elif kind == 4:
        dates = ["1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "0xFFFFFFFFFFFFFFFFFF", "1e400", "'''\n'''"]
        keys = [number for number, each in enumerate(lines) if re.match(r"\w+ *=", each)]
        at = chance.choice(keys)
        lines[at] = f"{lines[at].partition('=')[0]}= {chance.choice(dates)}"
    else:
        values = tomllib.loads(text)
        replace_somewhere(values, chance)
        return tomlkit.dumps(values).encode("utf-8", "surrogatepass")
    return "\n".join(lines).encode()


def replace_somewhere(values: Any, chance: random.Random) -> None:
    """Put a wrong value, or another section, in place of one that is there."""
    places: list[tuple[Any, Any]] = []

    def walk(at: Any) -> None:
        for key, item in at.items() if isinstance(at, dict) else enumerate(at):
            places.append((at, key))
            if isinstance(item, (dict, list)):
                walk(item)

    walk(values)
    holder, key = chance.choice(places)
    holder[key] = chance.choice(WRONG)
    if chance.random() < 0.3 and isinstance(values, dict):
        section = chance.choice([key for key in values if isinstance(values[key], dict)] or ["task"])
        values[chance.choice(["loss", "scheduler", "modle", "training"])] = values.pop(section, 1)


def feed_recipes(folder: str) -> None:
    """500 mutated presets; prints what went wrong and how many were taken."""
    wrong, taken, refused, problems = [], 0, 0, 0
    path = Path(folder) / "mutated.toml"
    for number in range(500):
        chance = random.Random(number)
        content = mutated(PRESETS[number % len(PRESETS)].read_text(encoding="utf-8"), chance)
        path.write_bytes(content)
        began = time.monotonic()
        try:
            with limited(10):
                recipe = Recipe.load(path)
                problems += bool(check(recipe).problems)
                assert Recipe.from_toml(recipe.to_toml()) == recipe or "nan" in recipe.to_toml()
            taken += 1
        except RecipeError as error:
            refused += 1
            if complaint := badly_said(error, path, content):
                wrong.append([number, complaint, str(error)])
        except BaseException as error:
            wrong.append([number, repr(error), content.decode(errors="replace")[-300:]])
        if time.monotonic() - began > 5:
            wrong.append([number, f"took {time.monotonic() - began:.1f} s", ""])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"wrong": wrong, "taken": taken, "refused": refused, "problems": problems, "gigabytes": used}))


def badly_said(error: RecipeError, path: Path, content: bytes) -> str:
    """What the message lacks."""
    if not error.where.startswith(str(path)):
        return "does not name the file"
    if "\n" in str(error):
        return "is not one line"
    try:
        tomllib.loads(content.decode())
    except (ValueError, RecursionError):
        return ""
    return "" if re.match(re.escape(str(path)) + r": \S", error.where) else "does not name the key"


# Run directories


def truncated(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(max(path.stat().st_size, 1)))


def flipped(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 20)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def junk(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.choice([0, 1, 100, 10_000])))


def gone(path: Path, chance: random.Random) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def folder(path: Path, chance: random.Random) -> None:
    gone(path, chance)
    path.mkdir()


def pipe(path: Path, chance: random.Random) -> None:
    gone(path, chance)
    os.mkfifo(path)


def link(path: Path, chance: random.Random) -> None:
    gone(path, chance)
    path.symlink_to(chance.choice(["/dev/zero", "/dev/null", path.name, "nowhere", "recipe.toml"]))


DAMAGES: list[Callable[[Path, random.Random], None]] = [truncated, flipped, junk, gone, folder, pipe, link]


def damage(run: RunDirectory, chance: random.Random) -> str:
    """Damage one or two things in a run; which, and how."""
    done = []
    for _ in range(chance.choice([1, 1, 2])):
        paths = [path for path in sorted(run.path.rglob("*")) if not path.is_symlink() and not path.is_fifo()]
        path = chance.choice(paths)
        ways = DAMAGES[3:] if path.is_dir() or not path.stat().st_size else DAMAGES
        way = chance.choice(ways)
        way(path, chance)
        done.append(f"{way.__name__} {path.relative_to(run.path)}")
    return " and ".join(done)


def feed_runs(origin: str, undisturbed: str, root: str) -> None:
    """200 damaged runs; prints what went wrong and how they ended."""
    right = weights(RunDirectory(Path(undisturbed)))
    wrong: list[list[str]] = []
    endings: dict[str, int] = {}
    monitor = Monitor()  # one for all, and never started: a job's own costs more than the training
    for number in range(200):
        run = RunDirectory(Path(root) / f"run-{number}")
        shutil.copytree(origin, run.path)
        what = damage(run, random.Random(number))
        try:
            with limited(15):
                ending = outcome(run, right, monitor)
        except BaseException as error:
            ending = f"WRONG {error!r}"
        endings[ending.split(":")[0]] = endings.get(ending.split(":")[0], 0) + 1
        if ending.startswith("WRONG"):
            wrong.append([str(number), what, ending])
        if number == 9:  # by now torch has loaded what it loads late; no run's search for garbage needs to go there
            gc.freeze()
        shutil.rmtree(run.path, ignore_errors=True)
    print(json.dumps({"wrong": wrong, "endings": endings}))
    os._exit(0)  # a thread that hangs would keep the process


def outcome(run: RunDirectory, right: Any, monitor: Monitor | None = None) -> str:
    """How it goes to look at a damaged run, and to resume it."""
    for look in (run.status, run.history, run.recipe, lambda: [each.status() for each in all_runs(run.path.parent)]):
        try:
            look()
        except StudioError as error:
            if "\n" in str(error):
                return f"WRONG: two lines: {error}"
    try:
        job = Job.resumed(run, monitor=monitor)
    except StudioError:
        return "refused"
    job.start()
    job.join(12)
    if job.alive:
        return "WRONG: it hangs"
    state, reason = job.history.progress.state, job.history.error
    if state == "failed":
        known = isinstance(reason, StudioError) and "\n" not in str(reason) and "The traceback is in" not in str(reason)
        return "failed with a message" if known else f"WRONG: {reason}"
    if state != "done":
        return f"WRONG: {state}"
    try:
        if same(weights(run), right):
            return "right"
    except (StudioError, IndexError):
        pass
    said = [text for text in job.history.log if "changed since" in text or "can't be" in text]
    return "done, and said what changed" if said else f"WRONG: other weights, and said {job.history.log}"


def told(text: str) -> Any:
    try:
        return json.loads(text.splitlines()[-1])
    except (ValueError, IndexError):
        raise AssertionError(text) from None


def test_500_mutated_presets_are_recipes_or_errors_that_name_the_key(nursery: Nursery, tmp_path: Path) -> None:
    result = told(call(nursery, "test_fuzz", "feed_recipes", tmp_path, seconds=120))

    assert result["wrong"] == []
    assert result["taken"] > 50
    assert result["refused"] > 150
    assert result["problems"] > 10
    assert result["gigabytes"] < 2


@pytest.mark.parametrize("error", [RecipeError("recipe", "is odd"), RecipeError("x.toml", "is odd")])
def test_an_error_that_names_no_file_or_no_key_would_be_found(error: RecipeError) -> None:
    assert badly_said(error, Path("x.toml"), b"a = 1")


def test_200_damaged_runs_are_refused_or_end_right(nursery: Nursery, tmp_path: Path) -> None:
    recipe = line({"optimizer.momentum": 0.9, "training.epochs": 2})
    undisturbed = train(recipe, tmp_path / "undisturbed").directory
    cut = train(recipe, tmp_path / "cut", stop_at(10)).directory
    (tmp_path / "runs").mkdir()

    text = call(nursery, "test_fuzz", "feed_runs", cut.path, undisturbed.path, tmp_path / "runs", seconds=160)

    result = told(text)
    assert result["wrong"] == []
    assert result["endings"]["right"] > 50
    assert sum(count for ending, count in result["endings"].items() if ending != "right") > 50


def test_weights_that_are_not_the_right_ones_would_be_found(tmp_path: Path) -> None:
    cut = train(line(), tmp_path, stop_at(3)).directory

    assert outcome(cut, weights(cut)).startswith("WRONG: other weights")


def test_a_call_that_does_not_come_back_would_be_found() -> None:
    with pytest.raises(TookTooLongError), limited(0.05):
        for _ in itertools.count():
            pass
