"""Typed values ⇄ the text that a person writes for them: `--set`, and the fields of the settings."""

from __future__ import annotations

import tomllib
from typing import Any

import tomlkit

from engine.errors import RecipeError


def parse_override(text: str) -> tuple[str, Any]:
    """Read `optimizer.lr=0.1`. The value is TOML where it can be, else the text; `none` removes the key.

    Raises RecipeError when there is no `=`.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {text}", "is not KEY=VALUE", "Try --set optimizer.lr=0.1.")
    return key.strip(), parse_value(raw)


def parse_value(raw: str) -> Any:
    """A typed value from text: TOML where it can be, else the text itself; `none` and `None` are None."""
    raw = raw.strip()
    if raw in ("none", "None"):
        return None
    if raw in ("True", "False"):
        return raw == "True"
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return raw


def format_value(value: object) -> str:
    """The text that `parse_value` reads back as `value`, as short as it can be."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, str):
        return value if parse_value(value) == value else _quoted(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_quoted(v) if isinstance(v, str) else format_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return tomlkit.item(value, _parent=tomlkit.array()).as_string()
    return str(value)


def _quoted(text: str) -> str:
    """`text` as a TOML string; in single quotes where it can be, as they need no escapes and read well in a list."""
    plain = text.isprintable() and "'" not in text
    return f"'{text}'" if plain else tomlkit.item(text).as_string()
