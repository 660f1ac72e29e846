"""The manifest of a checkpoint: what it is, and the hash of each of its files. Trusts nothing that it reads."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from engine.errors import RunError, words

FORMAT = 2
STATE = "state.pt"
WEIGHTS = "model.safetensors"
AVERAGE = "average.safetensors"
NAME = "manifest.json"
_MOST_BYTES = 1_000_000
_MOST = 10**15  # epochs or steps; more is damage


def can_rank(score: float) -> bool:
    """Whether checkpoints can be ordered by `score`: NaN is neither best nor worst, and no loss is that large."""
    return abs(score) < 1e300


def rank(score: float | None, loss: float | None) -> tuple[float, float] | None:
    """What checkpoints are ordered by, the greatest is best: the score, and among equal ones the lower loss.

    Classifiers often tie: a small validation part has few accuracies, while the loss still tells them apart.
    """
    score, loss = ranked(score, loss)
    return None if score is None else (score, -math.inf if loss is None else -loss)


def ranked(score: float | None, loss: float | None) -> tuple[float | None, float | None]:
    """Both as they are kept: None for what can't rank."""
    score = score if score is not None and can_rank(score) else None
    return score, loss if score is not None and loss is not None and can_rank(loss) else None


def folder_name(epoch: int, step: int) -> str:
    """The name of a checkpoint's directory."""
    return f"epoch-{epoch:05d}-step-{step:09d}"


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's position, its score (greater is better) with the loss beside it, and file name → sha256 in hex."""

    epoch: int
    step: int
    score: float | None
    hashes: Mapping[str, str]
    loss: float | None = None

    def text(self) -> str:
        """The manifest as JSON, with a hash of its own: a score with a flipped bit would choose another best."""
        files = {name: {"sha256": value} for name, value in self.hashes.items()}
        ranked = {"score": self.score, "loss": self.loss}
        values = {"format": FORMAT, "epoch": self.epoch, "step": self.step, **ranked, "files": files}
        return json.dumps({**values, "sha256": seal(values)}, indent=2) + "\n"


def seal(values: Mapping[str, Any]) -> str:
    """The hash of a manifest's values, however they are written; its own hash is left out."""
    others = {key: value for key, value in values.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> Manifest:
    """The manifest of the checkpoint in directory `path`. Raises RunError for whatever is wrong with it."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise RunError(str(path), "is not a directory")
        with open_file(path / NAME) as file:
            content = file.read(_MOST_BYTES + 1)
        values: Any = json.loads(content.decode("utf-8")) if len(content) <= _MOST_BYTES else None
        problem = _problem(values, path.name)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(str(path), f"can't be read: {words(error)}") from error
    if problem:
        raise RunError(str(path), f"can't be read: {NAME} {problem}")
    hashes = {name: entry["sha256"] for name, entry in values["files"].items()}
    score, loss = (None if number is None else float(number) for number in (values["score"], values.get("loss")))
    return Manifest(values["epoch"], values["step"], score, hashes, loss)


def unrank(path: Path) -> None:
    """Take the score off the checkpoint at `path`: it was measured otherwise. Raises RunError or OSError."""
    (path / NAME).write_text(replace(read(path), score=None, loss=None).text(), encoding="utf-8")


def prove(path: Path) -> None:
    """Raise RunError unless every file that the manifest of `path` names matches its hash."""
    for name, expected in read(path).hashes.items():
        try:
            found = sha256(path / name)
        except OSError as error:
            raise RunError(str(path), f"can't be read: {words(error)}") from error
        _compare(path, name, found, expected)


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file that the manifest of `path` names, once it has matched its hash. Raises RunError.

    What is loaded is then what was proven: a file that is mapped into memory changes with what happens to it later.
    """
    for name, expected in read(path).hashes.items():
        try:
            with open_file(path / name) as file:
                content = file.read()
        except (OSError, MemoryError) as error:
            raise RunError(str(path), f"can't be read: {words(error)}") from error
        _compare(path, name, hashlib.sha256(content).hexdigest(), expected)
        yield name, content


def _compare(path: Path, name: str, found: str, expected: str) -> None:
    if found != expected:
        raise RunError(str(path), f"{name} does not match its hash")


def sha256(path: Path) -> str:
    """The hash of a regular file. Raises OSError."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_file(path: Path) -> BufferedReader:
    """`path` for reading if it is a regular file: a link leads elsewhere, a pipe never ends. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path.name} is not a regular file")
    return os.fdopen(handle, "rb")


def _problem(values: Any, name: str) -> str:
    """What is wrong with a manifest's values, an empty string if nothing is."""
    if not isinstance(values, dict):
        return "is not a table of values"
    if type(values.get("format")) is not int or values["format"] != FORMAT:
        return f"has format {values.get('format')!r:.40}, this torch-tui reads {FORMAT}"
    if values.get("sha256") != seal(values):
        return "does not match its own hash"
    for key in ("epoch", "step"):
        if type(values.get(key)) is not int or not 0 <= values[key] <= _MOST:
            return f"has no {key} that can be"
    if folder_name(values["epoch"], values["step"]) != name:
        return "belongs to another position"
    for key, number in (("score", values.get("score", "")), ("loss", values.get("loss"))):
        if number is not None and not (type(number) in (int, float) and can_rank(number)):
            return f"has no {key} that can be"
    return _files_problem(values.get("files"))


def _files_problem(files: Any) -> str:
    if not isinstance(files, dict) or not files.keys() <= {STATE, WEIGHTS, AVERAGE}:
        return "names other files than a checkpoint has"
    for name in (WEIGHTS, STATE, *files):
        entry = files.get(name)
        value = entry.get("sha256") if isinstance(entry, dict) else None
        if not isinstance(value, str) or len(value) != 64:
            return f"has no hash of {name}"
    return ""
