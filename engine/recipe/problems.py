"""What pydantic finds wrong with a recipe, as file, key, value and remedy."""

from __future__ import annotations

import math

from pydantic import BaseModel, ValidationError

from engine.errors import RecipeError, nearest, with_article

_REMEDIES = {
    "int_type": "Try 10.",
    "float_type": "Try a number such as 0.01.",
    "string_type": "Put it in quotes.",
    "bool_type": "Try true or false.",
    "missing": "Add it.",
}


def explain(error: ValidationError, where: str, recipe: type[BaseModel]) -> RecipeError:
    """The first of pydantic's errors, as file, key, value and remedy."""
    first = min(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", len(e["loc"])))
    path = _dotted(first["loc"])
    kind, given = first["type"], first.get("input")
    at = f"{where}: {path}" if path else where
    if kind == "extra_forbidden":
        known = _fields_at(first["loc"][:-1], recipe)
        remedy = nearest(str(first["loc"][-1]), known) or f"Known here: {', '.join(known)}."
        return RecipeError(at, "is not a setting", remedy)
    if kind == "missing":
        return RecipeError(at, "is missing", _REMEDIES["missing"])
    if kind == "value_error":
        what, _, remedy = str(first["ctx"]["error"]).partition(". ")
        return RecipeError(at, what, remedy)
    shown = _shown(given)
    if isinstance(given, float) and not math.isfinite(given):
        return RecipeError(at, f"{shown} is not a finite number", "Try 0.01.")
    noun = {"int_type": "a whole number", "float_type": "a number", "string_type": "text", "bool_type": "true or false"}
    if kind in noun:
        return RecipeError(at, f"{shown} is not {noun[kind]}", _REMEDIES[kind])
    message = first["msg"].removeprefix("Input ")
    return RecipeError(at, f"{shown} {message}", _REMEDIES.get(kind, "Mend the value."))


def _shown(value: object) -> str:
    """A wrong value, short enough for a line."""
    if not isinstance(value, (str, int, float)):
        return with_article(type(value).__name__)
    try:
        text = str(value)
    except ValueError:  # Python refuses to print whole numbers of more than 4300 digits
        return "a number of thousands of digits"
    line = " ".join(text.split())
    return f"'{line}'" if len(line) <= 60 else f"'{line[:57]}…'"


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))


def _fields_at(location: tuple[int | str, ...], recipe: type[BaseModel]) -> list[str]:
    """The known keys of the section at `location`."""
    section = recipe
    for key in location:
        kind = section.model_fields[key].annotation if key in section.model_fields else None
        candidates = [kind, *getattr(kind, "__args__", ())]
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return []
        section = found[0]
    return list(section.model_fields)
