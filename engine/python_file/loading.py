"""`file.py:function` → the function, run once as long as its project's files stay what they are."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import pickle
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from engine.errors import RecipeError
from engine.python_file.calls import line_of, said, shown
from engine.python_file.project import PREFIX, Project, projects

# The projects that files are loaded from now, by folder. Others stay importable while a training may need them.
_current: dict[Path, Project] = {}
_numbers: dict[Path, Iterator[int]] = defaultdict(lambda: itertools.count(1))
_trainings = 0
_lock = threading.RLock()  # the studio's checks load files beside a training that loads its own


def load_function(reference: str, where: str) -> Callable[..., Any]:
    """The function (or class) that `file.py:name` refers to.

    The file and what it imports from its folder are run anew after one of them has changed. Their modules' names are
    private, so that a file called `engine.py` shadows nothing of ours. Raises RecipeError with file and line when the
    file is missing, fails to run or lacks the name.
    """
    file, colon, name = reference.rpartition(":")
    path = Path(file)
    if not colon or not name.isidentifier():
        raise RecipeError(where, f"'{reference}' does not name a function", 'Write "path/to/file.py:function".')
    if not path.is_file():
        raise RecipeError(where, f"there is no file {path}", "Check the path; it is taken from the recipe's folder.")
    if importlib.util.spec_from_file_location(PREFIX, path) is None:
        raise RecipeError(where, f"{path} is not a Python file", "Name a file that ends in .py.")
    path = path.resolve()  # as Python does to find the folder of a script
    try:
        with _lock:
            module = _project(path.parent).load(path)
    except BaseException as error:  # a module may raise anything, SystemExit included
        raise RecipeError(where, f"{line_of(error) or shown(str(path))}: {said(error)}", "Mend the file.") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RecipeError(where, f"{path} has no function '{name}'", "Check the name after the colon.")
    return function  # type: ignore[no-any-return]


def reload() -> list[Path]:
    """Have every file run anew when it is next asked for; the files that have changed since they were run."""
    with _lock:
        changed = [path for project in _current.values() for path in project.changed()]
        _current.clear()
        _end_retired()
    return changed


@contextlib.contextmanager
def loaded_anew() -> Iterator[None]:
    """A training: it runs all files anew, as in a fresh process, and what it loaded stays importable to its end."""
    global _trainings
    with _lock:
        _current.clear()
        _trainings += 1
    try:
        yield
    finally:
        with _lock:
            _trainings -= 1
            _end_retired()


class Packed:
    """A value on its way to another process, with the person's files that it may need, as they were run here."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        needed = [(each.name, str(each.folder), dict(each.files), dict(each.sources)) for each in projects()]
        # Not pickle.dumps, so that tensors go through shared memory.
        return _unpack, (needed, bytes(ForkingPickler.dumps(self.value)))


def _unpack(needed: list[tuple[str, str, dict[str, str], Mapping[str, bytes]]], value: bytes) -> Packed:
    known = {project.name for project in projects()}
    for name, folder, files, sources in needed:
        if name not in known:
            project = Project(Path(folder), name)
            project.files, project.shipped = files, sources
            project.begin()
    return Packed(pickle.loads(value))


def _project(folder: Path) -> Project:
    project = _current.get(folder)
    if project is None or project.changed():
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        # A name of its own for each: what a training made of the files as they were must find them under theirs.
        project = _current[folder] = Project(folder, f"{PREFIX}{digest}_{next(_numbers[folder])}")
        project.begin()
        _end_retired()
    return project


def _end_retired() -> None:
    if not _trainings:
        for project in projects():
            if project not in _current.values():
                project.end()
