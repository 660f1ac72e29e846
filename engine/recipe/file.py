"""A recipe's file on disk: opened, saved in place without losing what anybody else wrote, made anew."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from engine.errors import RecipeError
from engine.paths import to_disk
from engine.recipe.document import fresh, updated
from engine.recipe.recipe import Recipe


class ChangedOnDisk(RecipeError):  # noqa: N818 - what has happened, not what went wrong
    """The file is not what it was when it was read: writing would lose what somebody else did."""


class RecipeFile:
    """A file and what it said when it was last read or written."""

    def __init__(self, path: Path, text: str, recipe: Recipe) -> None:
        self.path = path
        self.text = text
        self.recipe = recipe

    @classmethod
    def open(cls, path: Path) -> RecipeFile:
        """Read a recipe's file. Raises RecipeError like `Recipe.load`."""
        text, path = _read(path), path.absolute()
        return cls(path, text, Recipe.from_toml(text, str(path), folder=path.parent))

    @classmethod
    def create(cls, path: Path, recipe: Recipe, like: RecipeFile | None = None) -> RecipeFile:
        """Write a recipe to a new place, or over what is there, in the words of the file `like` where there is one.

        Raises RecipeError when it can't be written.
        """
        recipe = recipe.anchored(Path.cwd())
        if like is None:
            text = fresh(recipe, path.parent)
        else:
            # Its relative paths mean other files from here: read as they stand, they differ from what is meant.
            text = updated(like.text, Recipe.from_toml(like.text, str(like.path)), recipe, path.parent)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error
        write_whole(path, text)
        return cls(path, text, Recipe.from_toml(text, str(path), folder=path.parent))

    def holds(self, recipe: Recipe) -> bool:
        """Whether this file says just this recipe."""
        return recipe == self.recipe or recipe.anchored(Path.cwd()) == self.recipe

    def save(self, recipe: Recipe, *, overwrite: bool = False) -> None:
        """Write the recipe's changes into the file.

        Raises ChangedOnDisk when the file is not what it was, unless it may `overwrite` that; RecipeError when it can't
        be written, and then it is as it was.
        """
        if not overwrite and (now := _content(self.path)) != self.text:
            what = "has been changed by something else" if now is not None else "has been removed"
            raise ChangedOnDisk(str(self.path), f"{what} since it was opened", "Save again, or reload it.")
        recipe = recipe.anchored(Path.cwd())
        text = updated(self.text, self.recipe, recipe, self.path.parent)
        write_whole(self.path, text)
        self.text, self.recipe = text, recipe

    def reload(self) -> Recipe:
        """Read the file again. Raises RecipeError, and then remembers what it said before."""
        again = RecipeFile.open(self.path)
        self.text, self.recipe = again.text, again.recipe
        return self.recipe


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole, also after the power was lost, or as it was before.

    Permissions stay; a link stays one, and what it leads to is written. Raises RecipeError.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError("the file is read-only")
        aside = target.with_name(f".{target.name}.{os.getpid()}.writing")
        try:
            _write_synced(aside, text.encode(), target)
            aside.replace(target)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()
        with contextlib.suppress(OSError):  # some file systems have no such thing
            to_disk(target.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write_synced(aside: Path, content: bytes, target: Path) -> None:
    with aside.open("xb") as file:
        if target.exists():
            os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> str:
    """A file's text with its own line ends."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise RecipeError(str(path), str(what), "Check the path.") from error


def _content(path: Path) -> str | None:
    """What stands in a file now; None where there is none."""
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RecipeError:
    what = f"can't be written: {(error.strerror or str(error)).lower()}"
    return RecipeError(str(path), what, "Mend that and save again: nothing was written, and nothing is lost.")
