"""A person's own files → their samples. What was read last is kept: shapes are asked for at every edit."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.data.archives import is_archive, opened
from engine.data.formats.catalog import find_format
from engine.data.samples import BadSample, Loaded, Progress
from engine.errors import DataError, first_line
from engine.recipe import Dataset, TaskName

_KEPT = 3
_kept: OrderedDict[tuple[object, ...], Loaded] = OrderedDict()
_reading = threading.Lock()


def open_files(data: Dataset, task: TaskName, progress: Progress, where: str = "data") -> Loaded:
    """Read what `path` names in its format, unless it was just read and has not changed since.

    An archive is opened as the folder in it; what was left out of it stands first among the bad samples.

    Raises RecipeError for a format or option that does not exist, DataError for files that can't be read.
    """
    path = Path(data.path)
    try:
        signed = _signature(path)
    except OSError as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
        raise DataError(f"{where}.path: {path}", what, "Check the path.") from error
    left_out: list[BadSample] = []
    given = path
    if is_archive(path):
        try:
            path, left_out = opened(path, progress)
        except OSError as error:
            raise DataError(f"{where}.path: {path}", f"can't be unpacked: {error.strerror or error}", "") from error
    entry = find_format(data.format, path, where)
    entry.check(data.options, f"{where}.options")
    key = (os.path.abspath(given), entry.name, task, json.dumps(data.options, sort_keys=True, default=str), signed)
    with _reading:  # the studio asks for shapes and for samples at the same time: once is enough
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
        try:
            loaded: Loaded = entry.target(path, task, progress, **_ready(entry, data.options))
        except OSError as error:
            at = f"{where}.path: {error.filename or path}"
            raise DataError(
                at, str(error.strerror or first_line(error)), "Check the files and their permissions."
            ) from error
        if given != path:
            about = loaded.source.about.replace(str(path), given.name)
            source = replace(loaded.source, name=given.name, about=about, path=str(given))
            loaded = replace(loaded, source=source, bad=(*left_out, *loaded.bad))
        _kept[key] = loaded
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
        return loaded


def forget() -> None:
    """Read everything anew when it is next asked for: files may have changed without their folder showing it."""
    with _reading:
        _kept.clear()


def _ready(entry: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {name: entry.ready(name, value) for name, value in options.items()}


def _signature(path: Path) -> tuple[object, ...]:
    """What changes when files come or go: of a file its size and time, of a folder the times of all folders in it."""
    own = path.stat()
    if not path.is_dir():
        return own.st_ino, own.st_size, own.st_mtime_ns
    found: list[tuple[str, int]] = [("", own.st_mtime_ns)]
    with os.scandir(path) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, entry.stat(follow_symlinks=False).st_mtime_ns))
    return tuple(sorted(found))
