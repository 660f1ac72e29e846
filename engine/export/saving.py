"""What is exported, written to a file that nobody has yet."""

from __future__ import annotations

from pathlib import Path

from engine.errors import StudioError


class ExportError(StudioError):
    """What is asked for can't be exported, or not there."""


def save(text: str, path: Path, *, force: bool = False) -> None:
    """Write `text` to `path`. Raises ExportError where a file is there already, unless `force`, and for a bad path."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ExportError(str(path), "is there already", "Choose another name, or write over it by --force.") from error
    except OSError as error:
        raise ExportError(str(path), f"can't be written: {error.strerror}", "Choose another place.") from error


def free(path: Path) -> Path:
    """`path`, or with a number at its name where a file is there."""
    chosen, number = path, 1
    while chosen.exists() or chosen.is_symlink():
        number += 1
        chosen = path.with_stem(f"{path.stem}_{number}")
    return chosen
