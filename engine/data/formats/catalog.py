"""The formats of a person's own files that a recipe can name, and which of them a file or folder is in.

A format is a function `open_…(path, task, progress, *, options…) -> Loaded`: the options stand in its signature, what
they mean in its docstring, so that forms, checks and documentation are made of it.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from engine.catalog import Entry
from engine.errors import DataError, RecipeError, nearest

_WHERE = {
    "images": "engine.data.formats.images",
    "masks": "engine.data.formats.masks",
    "coco": "engine.data.formats.coco",
    "table": "engine.data.formats.table",
    "arrays": "engine.data.formats.arrays",
    "text": "engine.data.formats.text",
    "audio": "engine.data.formats.audio",
    "huggingface": "engine.data.formats.huggingface",
}
_GIVEN = frozenset({"path", "task", "progress"})
_SUFFIXES = {
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "table",
    ".npy": "arrays",
    ".npz": "arrays",
    ".txt": "text",
    ".jsonl": "text",
    ".json": "coco",
    ".wav": "audio",
    ".flac": "audio",
    ".ogg": "audio",
    ".mp3": "audio",
}
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_LOOKED_AT = 200  # names in a folder, on the way down


def formats() -> Mapping[str, Entry]:
    """Every format by name, with its options as a catalog entry has its parameters."""
    return {name: format_entry(name) for name in _WHERE}


@cache
def format_entry(name: str) -> Entry:
    """One format, whose module is imported for it and no other."""
    target: Callable[..., Any] = getattr(importlib.import_module(_WHERE[name]), f"open_{name}")
    return Entry(name, "own", target, "format", _GIVEN)


def find_format(name: str, path: Path, where: str = "data") -> Entry:
    """The format called `name`; for "auto" the one that the files look like. Raises RecipeError, DataError."""
    if name == "auto":
        name = guess(path, where)
    if name not in _WHERE:
        remedy = nearest(name, _WHERE) or f"There are {', '.join(_WHERE)}."
        raise RecipeError(f"{where}.format", f"there is no format '{name}'", remedy)
    return format_entry(name)


def guess(path: Path, where: str = "data") -> str:
    """Which format a file or folder is in, by its names alone. Raises DataError when they do not tell."""
    if path.is_file():
        if path.suffix.lower() in _SUFFIXES:
            return _SUFFIXES[path.suffix.lower()]
        known = ", ".join(_WHERE)
        raise DataError(f"{where}.path: {path}", "is in no format that its name tells", f"Set format: {known}.")
    if not path.exists():
        raise DataError(f"{where}.path: {path}", "does not exist", "Check the path.")
    names = {entry.name.lower() for entry in path.iterdir()}
    if names & {"dataset_dict.json", "state.json"} and (names & {"dataset_info.json"} or "dataset_dict.json" in names):
        return "huggingface"
    for folder in (path, path / "train"):
        if folder.is_dir() and {"images", "masks"} <= {entry.name.lower() for entry in folder.iterdir()}:
            return "masks"
    suffixes = (file.suffix.lower() for file in _files(path, _LOOKED_AT))
    kinds = Counter("images" if suffix in IMAGES else _SUFFIXES.get(suffix, "") for suffix in suffixes)
    kinds.pop("", None)
    if kinds:
        return kinds.most_common(1)[0][0]
    raise DataError(
        f"{where}.path: {path}", "has no files of a format that is known", f"Set format: {', '.join(_WHERE)}."
    )


def _files(folder: Path, limit: int) -> list[Path]:
    """Some files in a folder and the folders in it, breadth first."""
    found: list[Path] = []
    level = [folder]
    while level and len(found) < limit:
        below: list[Path] = []
        for each in level[:20]:
            for entry in sorted(each.iterdir())[:limit]:
                (below if entry.is_dir() else found).append(entry)
        level = below
    return [file for file in found if not file.name.startswith(".")]
