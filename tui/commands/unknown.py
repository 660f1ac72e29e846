"""What to say of a word that is no command: it may be a preset, a recipe or data that some command takes."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import RecipeError, nearest_name

if TYPE_CHECKING:
    from typer import Typer


def check_command(arguments: Sequence[str], app: Typer) -> None:
    """Raise RecipeError if the first word is none of the app's commands; `--runs` may stand before it."""
    commands = [each.name or each.callback.__name__ for each in app.registered_commands if each.callback]
    words = list(arguments)
    if words and words[0].partition("=")[0] == "--runs":
        del words[: 1 if "=" in words[0] else 2]
    if words and words[0] not in commands and not words[0].startswith("-"):
        raise RecipeError(words[0], "is no command", _meant(words[0], commands) or "See: torch-tui --help.")


def _meant(word: str, commands: Collection[str]) -> str:
    """What may have been meant by a word; empty where there is no telling."""
    import presets as shipped  # pydantic is among what it needs, 0.2 s
    from presets.own import own_presets

    names = [preset.name for preset in (*shipped.presets(), *own_presets())]
    if word in names:
        return f"It is a preset: {_ways(word)}"
    if Path(f"{word}.toml").is_file():
        return f"There is a recipe of this name: {_ways(f'{word}.toml')}"
    if word and Path(word).expanduser().exists():
        return f"To look at data: torch-tui data {shlex.quote(word)}"
    near = nearest_name(word, [*commands, *names])
    if near in commands:
        return f"Did you mean '{near}'?"
    return f"There is a preset '{near}': {_ways(near)}" if near else ""


def _ways(recipe: str) -> str:
    return f"torch-tui train {shlex.quote(recipe)}, or torch-tui open {shlex.quote(recipe)}"
