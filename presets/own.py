"""Presets of one's own: recipes that a person has saved under a name, a file each in their configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import RecipeError
from engine.paths import own_presets_root
from engine.recipe import Recipe
from presets import Preset, presets

if TYPE_CHECKING:
    from engine.recipe.file import RecipeFile

FAMILY = "yours"
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?")


@dataclass(frozen=True)
class Broken:
    """A file among one's own presets that is none."""

    name: str
    path: Path
    error: RecipeError

    @property
    def reason(self) -> str:
        """What is wrong with it, without its path."""
        return str(self.error).removeprefix(f"{self.path}: ")


def own_presets() -> tuple[Preset | Broken, ...]:
    """A person's own presets by name, read anew each time. What can't be read is told, not raised."""
    try:
        found = own_presets_root().absolute().iterdir()
        paths = sorted(path for path in found if path.suffix == ".toml" and path.name[0] != ".")
    except OSError:  # there is none, or it may not be looked into: nothing that the start should end for
        return ()
    return tuple(map(_read, paths))


def own_path(name: str) -> Path:
    """Where the preset of that name lies, be it there or not."""
    return (own_presets_root() / f"{name}.toml").absolute()


def name_problem(name: str) -> str:
    """Why a preset can't have that name; empty if it can."""
    if not name:
        return "A name is needed."
    if not _NAME.fullmatch(name):
        return "Small letters, digits, - and _, such as my-cnn; 64 at most."
    return "A preset that ships has this name." if _ships(name) else ""


def suggested_name(name: str) -> str:
    """A name that is still free, made of what the recipe is called."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.casefold()).strip("-_")[:50].strip("-_") or "recipe"
    first = plain if not name_problem(plain) else f"my-{plain}"
    number = 2
    free = first
    while own_path(free).exists():
        free, number = f"{first}-{number}", number + 1
    return free


def save_own(name: str, recipe: Recipe, like: RecipeFile | None = None) -> RecipeFile:
    """Save a recipe under a name, over the one that has it, in the words of `like`.

    Raises RecipeError for a name that can't be, and when it can't be written.
    """
    from engine.recipe.file import RecipeFile  # what the studio's start has no use for

    if problem := name_problem(name):
        raise RecipeError(name, problem, "Choose another name.")
    return RecipeFile.create(own_path(name), recipe, like)


def rename_own(name: str, other: str) -> Path:
    """Give a preset another name; its path. Raises RecipeError."""
    if problem := name_problem(other):
        raise RecipeError(other, problem, "Choose another name.")
    try:
        return own_path(name).replace(own_path(other))
    except OSError as error:
        raise RecipeError(str(own_path(name)), f"can't be renamed: {error.strerror}", "Rename it by hand.") from error


def remove_own(name: str) -> None:
    """Remove a preset. Raises RecipeError."""
    try:
        own_path(name).unlink()
    except OSError as error:
        raise RecipeError(str(own_path(name)), f"can't be removed: {error.strerror}", "Remove it by hand.") from error


def _read(path: Path) -> Preset | Broken:
    try:
        if _ships(path.stem):
            raise RecipeError(str(path), "has the name of a preset that ships", "Rename the file.")
        return Preset(path.stem, FAMILY, path, Recipe.load(path))
    except RecipeError as error:
        return Broken(path.stem, path, error)


def _ships(name: str) -> bool:
    return any(preset.name == name for preset in presets())
