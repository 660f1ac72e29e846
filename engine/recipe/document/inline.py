"""Values that stand behind a key: written anew, or changed with as little of their text as can be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tomlkit

from engine.recipe.document.differences import matches, same
from engine.recipe.document.statements import TOKEN, Statement, statements

_WIDTH = 100  # a list of tables that is wider gets a line an item
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_COMMENT = re.compile(r"[^\S\n]*#[^\n]*")


def rendered(value: Any) -> str:
    """A value as TOML on one line, or a list of tables on a line each where they are many."""
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{key_text(key)} = {rendered(item)}" for key, item in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, (list, tuple)):
        items = [rendered(item) for item in value]
        line = "[" + ", ".join(items) + "]"
        if len(line) <= _WIDTH or not isinstance(value[0], Mapping) or "\n" in line:
            return line
        return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
    return str(tomlkit.item(value).as_string())


def key_text(key: str) -> str:
    """A key as TOML."""
    return key if _BARE.fullmatch(key) else str(tomlkit.item(key).as_string())


def dropped(key: str, after: Mapping[str, Any], brief: Mapping[str, Any]) -> bool:
    """Whether a key is not to be written: it is gone, or back at a default that is nothing at all."""
    return key not in after or (key not in brief and after[key] in ("", [], {}))


def edited(text: str, before: Any, after: Any, brief: Any) -> str:
    """The text of a value with what has changed in it; `brief` is `after` without the defaults."""
    if same(before, after):
        return text
    if isinstance(before, dict) and isinstance(after, dict) and text.startswith("{"):
        return _edited_table(text, before, after, brief)
    if isinstance(before, list) and isinstance(after, list) and before and after:
        return _edited_array(text, before, after, brief)
    return rendered(brief if isinstance(after, dict) else after)


@dataclass(frozen=True)
class _Item:
    """An item between two commas: spaces and comments above it, itself, those before and on the line of its comma."""

    lead: str
    text: str
    post: str = ""
    trail: str = ""


def _edited_table(text: str, before: Mapping[str, Any], after: Mapping[str, Any], brief: Mapping[str, Any]) -> str:
    items, close, _ = _items(text)
    assignments = [next(statements(item.text)) for item in items]
    if any(len(assignment.path) > 1 for assignment in assignments):  # dotted: `{ a.b = 1 }`
        return rendered(brief)
    by_key = {assignment.path[0]: place for place, assignment in enumerate(assignments)}
    kept: list[_Item | None] = [*items]
    for key in {**before, **after}:
        if key in before and key in after and same(before[key], after[key]):
            continue
        gone = dropped(key, after, brief)
        if key in by_key:
            place = by_key[key]
            old = assignments[place]
            kept[place] = None if gone else replace(items[place], text=_with_value(old, before, after, brief, key))
        elif not gone:
            kept.append(_Item(" ", f"{key_text(key)} = {rendered(brief.get(key, after[key]))}"))
    left = [item for item in kept if item is not None]
    if not left:
        return "{}"
    if not items:
        return rendered(brief)
    left[0] = replace(left[0], lead=items[0].lead)
    return "{" + ",".join(item.lead + item.text + item.post for item in left) + close + "}"


def _with_value(
    old: Statement, before: Mapping[str, Any], after: Mapping[str, Any], brief: Mapping[str, Any], key: str
) -> str:
    changed = replace(old)
    changed.put(edited(old.value, before.get(key), after[key], brief.get(key, after[key])))
    return changed.text


def _edited_array(text: str, before: Sequence[Any], after: Sequence[Any], brief: Sequence[Any]) -> str:
    items, close, comma = _items(text)
    if len(items) != len(before):
        return rendered(brief)
    first = _space(items[0].lead)
    later = _space(items[1].lead) if len(items) > 1 else first if "\n" in first else " "
    kept: list[_Item] = []
    for place, was in enumerate(matches(before, after)):
        space = later if place else first
        if was is None:
            kept.append(_Item(space, rendered(brief[place])))
            continue
        lead = items[was].lead
        if "#" not in lead and bool(was) != bool(place):  # it has become the first, or is so no more
            lead = space
        kept.append(
            replace(items[was], lead=lead, text=edited(items[was].text, before[was], after[place], brief[place]))
        )
    last = len(kept) - 1
    return (
        "["
        + "".join(
            item.lead + item.text + item.post + ("," if place < last or comma else "") + item.trail
            for place, item in enumerate(kept)
        )
        + close
        + "]"
    )


def _items(text: str) -> tuple[list[_Item], str, bool]:
    """The items of an array or inline table, what stands before its end, and whether its last item has a comma."""
    items: list[_Item] = []
    inside = text[1:-1]
    begin = depth = 0
    start = end = -1
    comma = False
    for token in TOKEN.finditer(inside):
        kind = token.group()
        if kind == "," and depth == 0:
            items.append(_Item(inside[begin:start], inside[start:end], inside[end : token.start()]))
            trail = _COMMENT.match(inside, token.end())
            if trail:
                items[-1] = replace(items[-1], trail=trail.group())
            begin, start, end, comma = (trail or token).end(), -1, -1, True
        elif kind[0] != "#" and not kind.isspace():
            depth += (kind in "[{") - (kind in "]}")
            start, end, comma = start if start >= 0 else token.start(), token.end(), False
    if start < 0:
        return items, inside[begin:], comma
    trail = _COMMENT.match(inside, end)
    items.append(_Item(inside[begin:start], inside[start:end], trail=trail.group() if trail else ""))
    return items, inside[trail.end() if trail else end :], False


def _space(lead: str) -> str:
    """The spaces before an item, without its comments."""
    newline = "\r\n" if "\r\n" in lead else "\n"
    return newline + lead.rpartition("\n")[2] if "\n" in lead else lead
