"""A person's function called with the options of a recipe, and its failures told in one line with file and line."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import RecipeError, StudioError, first_line
from engine.python_file.project import PREFIX, projects

_PRIVATE = re.compile(rf"{PREFIX}\w+\.")


def call(
    function: Callable[..., Any],
    offered: Mapping[str, Any],
    options: Mapping[str, Any],
    section: str,
    kind: type[StudioError],
) -> Any:
    """What `function` returns for the options of `[section]` and what its signature names of `offered`.

    Raises RecipeError for options that don't fit the signature, `kind` for whatever the function raises.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some builtins nothing is known
        signature = inspect.Signature([inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)])
    # Only what the signature names is given: a function without parameters is as good as one that wants the shape.
    arguments = {key: value for key, value in offered.items() if key in signature.parameters} | dict(options)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        takes = [key for key, each in signature.parameters.items() if key not in offered and each.kind not in variable]
        remedy = f"It takes {', '.join(takes)}." if takes else "It takes none."
        raise RecipeError(f"{section}.options", f"{name}: {error}", remedy) from error
    try:
        return function(**arguments)
    except StudioError:
        raise
    except BaseException as error:  # a person's file may raise anything, SystemExit included
        line = line_of(error)
        what = f"{line}: {name} fails: {said(error)}" if line else f"{name} fails: {said(error)}"
        raise kind(f"{section}.python", what, "Mend the function.") from error


def line_of(error: BaseException) -> str:
    """`file:line` of the deepest frame in a person's project; empty if it has none."""
    theirs = {file for project in projects() for file in project.sources}
    if isinstance(error, SyntaxError) and error.filename in theirs and error.lineno is not None:
        return f"{shown(error.filename)}:{error.lineno}"
    lines = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__) if f.filename in theirs]
    return f"{shown(lines[-1][0])}:{lines[-1][1]}" if lines else ""


def said(error: BaseException) -> str:
    """`KeyError: 'depth'`, in one line, with the person's modules under their own names."""
    kind, text = type(error).__name__, _PRIVATE.sub("", first_line(error))
    return kind if text == kind else f"{kind}: {text}"


def shown(file: str) -> str:
    """A file as seen from the folder one works in, if it lies there."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # that folder may be gone
        return file
    return file if relative.startswith("..") else relative
