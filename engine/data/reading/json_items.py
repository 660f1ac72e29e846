"""JSON whose long lists are read item by item: as one call of the library no other thread would run beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")


def loads(raw: bytes, compact: Mapping[str, Callable[[Any], Any]] = {}) -> Any:
    """`json.loads(raw)`. Raises what that raises.

    `compact` says what becomes of each item of an object's lists, by their names. A tuple of numbers and names is none
    of the garbage collector's business; each collection looks at all dicts, of which 300,000 take it 0.1 s.
    """
    text = raw.decode(json.detect_encoding(raw), "surrogatepass")
    try:
        return _Items(text, compact).of_object()
    except (ValueError, IndexError):  # it is no object, or no JSON, of which the library says why
        return json.loads(text)


class _Items:
    """Reads an object whose values may be lists. Raises ValueError or IndexError for anything else."""

    def __init__(self, text: str, compact: Mapping[str, Callable[[Any], Any]]) -> None:
        self._text, self._at, self._compact = text, 0, compact
        self._scan = json.JSONDecoder().raw_decode
        self._names: dict[str, str] = {}

    def of_object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._take("{")
        while True:
            name = self._value()
            if not isinstance(name, str):
                raise ValueError(name)
            self._take(":")
            found[name] = self._list(self._compact.get(name)) if self._next() == "[" else self._value()
            if self._next() != ",":
                break
            self._take(",")
        self._take("}")
        if _SPACE.fullmatch(self._text, self._at) is None:
            raise ValueError
        return found

    def _list(self, compact: Callable[[Any], Any] | None) -> list[Any]:
        found: list[Any] = []
        self._take("[")
        while self._next() != "]":
            item = self._value()
            if compact is not None:
                item = compact(item)
            elif type(item) is dict:  # the library gives each the same names; here it would begin anew with each
                item = {self._names.setdefault(name, name): value for name, value in item.items()}
            found.append(item)
            if self._next() != ",":
                break
            self._take(",")
            if self._next() == "]":
                raise ValueError
        self._take("]")
        return found

    def _next(self) -> str:
        """The next character that is no space."""
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
        return self._text[self._at]

    def _take(self, sign: str) -> None:
        if self._next() != sign:
            raise ValueError(sign)
        self._at += 1

    def _value(self) -> Any:
        self._next()
        value, self._at = self._scan(self._text, self._at)
        return value
