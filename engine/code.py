"""Values and calls as Python text, laid out as ruff would lay them out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.catalog import Entry

WIDTH = 120


def literal(value: Any) -> str:
    """The expression that gives `value`: numbers, text, containers of them, and tensors of floats."""
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if isinstance(value, str):
        return '"' + "".join(_character(each) for each in value) + '"'
    if isinstance(value, Tensor):
        return f"torch.tensor({literal(value.tolist())})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def _character(each: str) -> str:
    if each in ('"', "\\"):
        return f"\\{each}"
    return each if each.isprintable() else each.encode("unicode_escape").decode()


def arguments(entry: Entry, values: Mapping[str, Any], *first: str, positional: int = 2) -> list[str]:
    """What stands between the brackets where `entry` is called with a recipe's `values`.

    Of the parameters that must be given, the first `positional` stand without their names; a function of a person's own
    is `imported(path, name)`.
    """
    written = list(first)
    bare = True
    for parameter in entry.parameters:
        if parameter.name not in values:
            bare = False
            continue
        value = values[parameter.name]
        if parameter.takes_function and isinstance(value, str):
            text = imported(value)
        else:
            text = literal(entry.ready(parameter.name, value))
        bare = bare and (parameter.required or parameter.inferred) and len(written) < len(first) + positional
        written.append(text if bare else f"{parameter.name}={text}")
    return written


def imported(reference: str) -> str:
    """The call that loads a person's `path/to/file.py:function`."""
    file, _, name = reference.rpartition(":")
    return f"imported({literal(str(Path(file).resolve()))}, {literal(name)})"


def call(name: str, written: Sequence[str]) -> str:
    """The call in one line."""
    return f"{name}({', '.join(written)})"


def spread(name: str, written: Sequence[str], indent: int, *, before: str = "", after: str = "") -> list[str]:
    """The call between `before` and `after`: one line if it fits into WIDTH, else a line for each argument."""
    space = " " * indent
    line = f"{space}{before}{call(name, written)}{after}"
    if len(line) <= WIDTH or not written:
        return [line]
    return [f"{space}{before}{name}(", *(f"{space}    {each}," for each in written), f"{space}){after}"]


def wrapped(line: str) -> list[str]:
    """A line that is longer than WIDTH as several: what stands in its last brackets gets lines of its own."""
    if len(line) <= WIDTH:
        return [line]
    outer = _last_brackets(line)
    if outer is None:
        return [f"{line}  # noqa: E501"]  # a path of the person's own
    opening, closing, commas = outer
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    inside = f"{indent}{line[opening + 1 : closing]}"
    before = line[opening - 1]
    applied = before.isidentifier() or before.isdigit() or before in ")]"
    called = line[opening] == "(" and applied
    if called and len(inside) <= WIDTH:
        middle = [inside]
    else:
        ends = [*commas, closing]
        items = [line[begin + 1 : end].strip() for begin, end in zip([opening, *commas], ends, strict=True)]
        # A comma behind a single item would make a tuple of an index, and of what stands in brackets by itself.
        comma = "," if commas or (line[opening] == "(") == applied else ""
        middle = [part for item in items for part in wrapped(f"{indent}{item}{comma}")]
    return [line[: opening + 1], *middle, f"{indent[4:]}{line[closing:]}"]


def _last_brackets(line: str) -> tuple[int, int, list[int]] | None:
    """Where the last outermost brackets that can be opened begin and end, and the commas right inside them."""
    found, open_at, commas, quoted, escaped = None, list[int](), list[list[int]](), False, False
    for place, character in enumerate(line):
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "([{":
            open_at.append(place)
            commas.append([])
        elif character in ")]}":
            opening, inner = open_at.pop(), commas.pop()
            if not open_at and opening < WIDTH and place > opening + 1:
                found = opening, place, inner
        elif character == "," and commas:
            commas[-1].append(place)
    return found


def block(lines: Iterable[str], indent: int = 4) -> list[str]:
    """The lines further to the right."""
    return [f"{' ' * indent}{line}" if line else "" for line in lines]
