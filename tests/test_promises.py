"""The table of promises names tests that exist, and every failure that it should."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PROMISES = REPOSITORY / "docs" / "promises.md"


def named() -> list[str]:
    """Every `path::name` of the table."""
    return re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", PROMISES.read_text(encoding="utf-8"))


def exists(name: str) -> bool:
    """Whether there is such a test: a function, or a method of a class, in that file."""
    path, *parts = name.split("::")
    if not (REPOSITORY / path).is_file():
        return False
    body: list[ast.stmt] = ast.parse((REPOSITORY / path).read_text(encoding="utf-8")).body
    for part in parts:
        found = [
            each
            for each in body
            if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and each.name == part
        ]
        if not found:
            return False
        body = found[0].body
    return parts[-1].startswith("test_")


@pytest.mark.parametrize("name", named())
def test_what_shows_a_promise_is_a_test(name: str) -> None:
    assert exists(name)


def test_every_row_names_a_test() -> None:
    rows = [line for line in PROMISES.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]

    assert len(rows) > 20
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize(
    "name", ["tests/nowhere.py::test_a", "tests/test_promises.py::test_no", "tests/test_promises.py::named"]
)
def test_what_is_no_test_would_be_found(name: str) -> None:
    assert not exists(name)
