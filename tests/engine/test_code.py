"""Values and calls as Python text."""

from __future__ import annotations

import ast
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import catalog
from engine.code import WIDTH, arguments, literal, wrapped

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@given(VALUES)
def test_any_value_is_written_so_that_python_reads_it_back(value: Any) -> None:
    assert eval(literal(value)) == value


def test_numbers_that_are_none_are_written_too() -> None:
    assert math.isnan(eval(literal(math.nan)))
    assert eval(literal([-math.inf])) == [-math.inf]
    assert literal(torch.tensor([1.0, 2.5])) == "torch.tensor([1.0, 2.5])"


def test_what_must_be_given_stands_first_without_its_name() -> None:
    entry = catalog.layers()["Conv2d"]
    values = {"padding": 2, "out_channels": 8, "in_channels": 3, "kernel_size": [3, 5]}
    assert arguments(entry, values) == ["3", "8", "kernel_size=(3, 5)", "padding=2"]
    assert arguments(entry, values, positional=0)[:2] == ["in_channels=3", "out_channels=8"]


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("x = f(1)", ["x = f(1)"]),
        (f"x = f({'a' * 60}, {'b' * 60})", ["x = f(", f"    {'a' * 60},", f"    {'b' * 60},", ")"]),
        (f"x = f({'a' * 50}, {'b' * 62})", ["x = f(", f"    {'a' * 50}, {'b' * 62}", ")"]),
        (f"x = [{'a' * 50}, {'b' * 66}]", ["x = [", f"    {'a' * 50},", f"    {'b' * 66},", "]"]),
        (f'x = f("{"(" * 50}", {"b" * 62})', ["x = f(", f'    "{"(" * 50}", {"b" * 62}', ")"]),
        (f'x = "{"a" * 130}"', [f'x = "{"a" * 130}"  # noqa: E501']),
    ],
)
def test_a_line_that_is_too_long_is_laid_out_anew(line: str, lines: list[str]) -> None:
    assert wrapped(line) == lines


@pytest.mark.parametrize("form", ["f({0}, [{0}], {1})", "f({1})[{0}]", "{1}[{0}]", "({1} + {0})", "f(({1}), g[{1}])"])
@given(VALUES)
@settings(max_examples=30)
def test_laying_a_line_out_changes_no_value(form: str, value: Any) -> None:
    line = f"x = {form.format(literal(value), 'a' * WIDTH)}"
    assert ast.dump(ast.parse("\n".join(wrapped(line)))) == ast.dump(ast.parse(line))
