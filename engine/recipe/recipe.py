"""The whole recipe: read, written, compared and changed by dotted keys."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError

from engine.errors import RecipeError
from engine.recipe.problems import explain
from engine.recipe.sections import Data, Loss, Model, Optimizer, Scheduler, Section, TaskName, Training

TENSOR_FILES = (".npy", ".npz", ".pt")
"""How files of numbers end that a transform can take."""


class Recipe(Section):
    """Everything needed to train one thing. Frozen: a change makes another recipe."""

    title: str = ""
    about: str = ""
    task: TaskName = "classification"
    data: Data
    model: Model = Model()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    scheduler: Scheduler | None = None
    training: Training = Training()

    @classmethod
    def load(cls, path: Path | str) -> Recipe:
        """Read a recipe file. Paths of data and of Python files in it are taken from the file's own folder.

        Raises RecipeError for a missing or malformed file and for every wrong key or value.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise RecipeError(str(path), str(what), "Check the path.") from error
        return cls.from_toml(text, str(path), folder=path.parent)

    @classmethod
    def from_toml(cls, text: str, where: str = "recipe", *, folder: Path | None = None) -> Recipe:
        """Read TOML; `where` names it in errors, `folder` is where relative paths begin."""
        try:
            values = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise RecipeError(where, f"is not TOML: {error}", "Mend the line named here.") from error
        if folder is not None:
            _anchor(values, folder)
        return cls.from_values(values, where)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """Validate a nested dict of plain values; `where` names it in errors."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise explain(error, where, cls) from error

    def values(self) -> dict[str, Any]:
        """The recipe as nested plain values, defaults filled in, absent sections left out."""
        return self.model_dump(mode="python", exclude_none=True)

    def to_toml(self) -> str:
        """The recipe as TOML, defaults filled in; `Recipe.from_toml` gives the same recipe back."""
        return tomlkit.dumps(plain(_without_empty(self, self.values())))

    def anchored(self, folder: Path) -> Recipe:
        """The recipe with relative paths taken from `folder`, as `load` takes them from the file's."""
        values: dict[str, Any] = plain(self.values())
        if not named_paths(values):
            return self
        _anchor(values, folder)
        return type(self).from_values(values)

    def override(self, changes: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """A recipe with dotted keys set: `{"optimizer.lr": 0.1, "model.layers.1.out_features": 64}`.

        A value of None removes the key, so that its default returns.
        """
        values = self.values()
        for key, value in changes.items():
            _set(values, key, value, where)
        return type(self).from_values(values, where)


def changed_settings(before: Recipe, after: Recipe) -> dict[str, Any]:
    """The dotted keys in which two recipes differ, with the value that each had before (None: it was not there)."""
    ours, theirs = _flat(before.values()), _flat(after.values())
    return {key: ours.get(key) for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)}


def named_paths(values: Mapping[str, Any]) -> list[tuple[Any, Any, str, str]]:
    """Where a recipe's values name a file or folder: dict or list, key or index, path, what follows it.

    `":function"` follows where it is a function of a Python file.
    """
    sections = ("data", "model", "scheduler")
    found = [found for each in sections for found in _python_files(values.get(each), everywhere=each == "scheduler")]
    data = values.get("data")
    if isinstance(data, dict):
        for key in ("transforms", "augment"):
            found.extend(_python_files(data.get(key), everywhere=True))
        mixed = data.get("mix")
        for each in (data, *(mixed if isinstance(mixed, list) else ())):
            if isinstance(each, dict) and each.get("path") and isinstance(each["path"], str):
                found.append((each, "path", each["path"], ""))
            if each is not data:
                found.extend(_python_files(each, everywhere=False))
    return found


def steps_name_files(recipe: Recipe) -> bool:
    """Whether its transforms or augmentation take a function or numbers out of a person's own file."""
    steps = plain([part.model_dump() for part in (*recipe.data.transforms, *recipe.data.augment)])
    return any(True for _ in _python_files(steps, everywhere=True))


def _python_files(section: object, *, everywhere: bool) -> Iterator[tuple[Any, Any, str, str]]:
    """`everywhere`: any text inside the section like "file.py:function", or a file of numbers, under whatever key."""
    items = section.items() if isinstance(section, dict) else enumerate(section) if isinstance(section, list) else ()
    for key, value in items:
        if not isinstance(value, str):
            if everywhere:
                yield from _python_files(value, everywhere=True)
            continue
        file, colon, function = value.rpartition(":")
        if everywhere and value.endswith(TENSOR_FILES):
            yield section, key, value, ""
        elif colon and (key == "python" or (everywhere and file.endswith(".py"))):
            yield section, key, file, f":{function}"


def _anchor(values: Mapping[str, Any], folder: Path) -> None:
    """Make each relative path absolute, seen from `folder`."""
    for section, key, path, rest in named_paths(values):
        # Not resolve(): it raises for loops of links and null bytes, which loading the file names better.
        section[key] = os.path.abspath(folder / os.path.expanduser(path)) + rest


def _without_empty(section: Section, values: dict[str, Any]) -> dict[str, Any]:
    """`values` of a section without its own empty text, tables and lists: each of them is a default, and noise.

    What is passed on to torch or to a dataset stays: empty means something else there.
    """
    kept = {}
    for key, item in values.items():
        inner = getattr(section, key, None)
        item = _without_empty(inner, item) if isinstance(inner, Section) else item
        if key not in type(section).model_fields or item not in ("", {}, (), []):
            kept[key] = item
    return kept


def plain(value: Any) -> Any:
    """`value` with tuples as lists, as TOML has no tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _set(values: dict[str, Any], dotted: str, value: Any, where: str) -> None:
    """Set or remove (None) the value at a dotted path; list items are addressed by their index."""
    at: Any = values
    *parents, last = dotted.split(".")
    for depth, key in enumerate(parents):
        if value is None and isinstance(at, dict) and key not in at:
            return  # nothing there to remove
        try:
            at = at[int(key)] if isinstance(at, (list, tuple)) else at.setdefault(key, {})
        except (IndexError, ValueError) as error:
            here = ".".join(parents[: depth + 1])
            raise RecipeError(f"{where}: {here}", f"there is no item {key}", f"There are {len(at)} of them.") from error
        if not isinstance(at, (dict, list, tuple)):
            here = ".".join(parents[: depth + 1])
            raise RecipeError(f"{where}: {dotted}", f"{here} is a value and has no keys", f"Set {here} itself.")
    if isinstance(at, (list, tuple)):
        raise RecipeError(f"{where}: {dotted}", "names a whole list item", f"Name a key of it: {dotted}.name.")
    if value is None:
        at.pop(last, None)
    else:
        at[last] = value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
