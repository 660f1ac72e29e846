"""A person's own files → their samples. What was read last is kept: shapes are asked for at every edit."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.data.fetching.archives import is_archive, opened
from engine.data.fetching.turns import turn
from engine.data.formats.catalog import find_format
from engine.data.reading.watch import Seen, watching
from engine.data.samples import BadSample, Loaded, Progress
from engine.errors import DataError, first_line
from engine.recipe import Dataset, TaskName

_KEPT = 2
_room = [_KEPT]
_kept: OrderedDict[tuple[object, ...], tuple[Loaded, Seen]] = OrderedDict()
"""Each with the times of all that was looked into for it."""
_forgotten = [0]  # how often
_reading = threading.Lock()
_LOOKED_AT = 4096
"""Entries that a signature costs at most: a few milliseconds, at every edit."""
_WRITTEN_AGAIN = frozenset({".csv", ".tsv", ".parquet", ".npy", ".npz", ".jsonl", ".json", ".txt", ".arrow"})


def open_files(data: Dataset, task: TaskName, progress: Progress, where: str = "data") -> Loaded:
    """Read what `path` names in its format, unless it was just read and has not changed since.

    An archive is opened as the folder in it; what was left out of it stands first among the bad samples.

    Raises RecipeError for a format or option that does not exist, DataError for files that can't be read.
    """
    path = Path(data.path)
    try:
        signed = _signature(path), _beside(path, data.options)
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
    # The studio asks for shapes and for samples at the same time: once is enough.
    with turn(_reading, path.name, progress):
        if (known := _kept.pop(key, None)) is not None and known[1].unchanged():
            _kept[key] = known  # the last one again
            return known[0]
        begun = _forgotten[0]
        try:
            with watching() as seen:
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
        if begun == _forgotten[0]:
            _kept[key] = loaded, seen
            while len(_kept) > _room[0]:
                _kept.popitem(last=False)
        return loaded


def make_room(datasets: int) -> None:
    """Keep as many as a recipe has, which are all asked for at every edit, and no more: they may take gigabytes."""
    _room[0] = max(_KEPT, datasets)


def forget() -> None:
    """Read everything anew when it is next asked for: files may have changed without their folder showing it.

    What is being read at this moment is not waited for, and not kept.
    """
    _forgotten[0] += 1
    _kept.clear()


def _ready(entry: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {name: entry.ready(name, value) for name, value in options.items()}


def _signature(path: Path) -> tuple[object, ...]:
    """What changes when files come or go: of a file its size and time, of a folder the times of the folders in it.

    Of tables and texts beside these folders also sizes and times: they are written again in place. Folders are looked
    into from the top on, as far as a look may cost; deeper ones are watched by what reads them.
    """
    own = path.stat()
    if not path.is_dir():
        return own.st_ino, own.st_size, own.st_mtime_ns
    found: list[tuple[str, int, int]] = [("", 0, own.st_mtime_ns)]
    level, left = [str(path)], _LOOKED_AT
    while level and left > 0:
        below: list[str] = []
        for folder in level:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                # Those of a folder in the disk's order, which stays the same while nothing comes or goes.
                for entry in itertools.islice(entries, left):
                    left -= 1
                    if entry.is_dir(follow_symlinks=False):
                        about = entry.stat(follow_symlinks=False)
                        found.append((entry.path, 0, about.st_mtime_ns))
                        if about.st_nlink != 2:  # else it has no folders, on disks that count them
                            below.append(entry.path)
                    elif os.path.splitext(entry.name)[1].lower() in _WRITTEN_AGAIN:
                        about = entry.stat()
                        found.append((entry.path, about.st_size, about.st_mtime_ns))
            if left <= 0:
                break
        level = sorted(below)
    return tuple(sorted(found))


def _beside(path: Path, options: dict[str, Any]) -> tuple[object, ...]:
    """The same of files that lie beside a path and are read with it: labels of pictures, targets of arrays."""
    folder = path.parent
    if path.is_dir():
        files = [folder / f"{path.name}.csv", folder / "labels.csv"]
    else:
        files = sorted(folder.glob("*.npy")) if path.suffix.lower() == ".npy" else []
    said = [value for value in options.values() if isinstance(value, str) and value]
    files += [each / value for value in said for each in (path, folder)]
    found: list[tuple[str, int, int]] = []
    for file in files:
        with contextlib.suppress(OSError, ValueError):  # most of them are not there, or no names of files
            about = file.stat()
            found.append((str(file), about.st_size, about.st_mtime_ns))
    return tuple(found)
