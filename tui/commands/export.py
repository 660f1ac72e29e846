"""`torch-tui export`: a recipe as a file that runs without torch-tui."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.recipe import Recipe

FORMATS = ("python",)


def export(recipe: Recipe, name: str, to: str, output: Path | None, *, force: bool) -> int:
    """Write the recipe to `output`, or print it; the exit status. Raises a StudioError that says what can't be done."""
    from engine.export.saving import ExportError, save

    if to not in FORMATS:
        raise ExportError("--to", f"'{to}' is nothing that can be written", f"There is {', '.join(FORMATS)}.")
    from engine.export.python import python_file  # torch takes 1.7 s to import

    text = python_file(recipe, name, output.name if output else "")
    if output is None:
        sys.stdout.write(text)
        return 0
    save(text, output, force=force)
    print(f"{output}: {text.count(chr(10))} lines. It trains by: python {output}")
    return 0
