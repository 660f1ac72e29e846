"""A person's function or class as the catalog has torch's own: its parameters, for a form."""

from __future__ import annotations

import inspect
from collections.abc import Collection

from engine.catalog import REQUIRED, Entry, Parameter
from engine.errors import RecipeError, first_line
from engine.python_file.loading import load_function


def own_entry(reference: str, where: str, given: Collection[str] = ()) -> Entry:
    """What `file.py:name` takes, without what it is `given` anyway and what no recipe can say, such as functions.

    Raises RecipeError for a file that does not load, or a signature that Python can't tell.
    """
    target = load_function(reference, where)
    name = reference.rpartition(":")[2]
    try:
        inspect.signature(target)
    except (TypeError, ValueError) as error:
        raise RecipeError(where, f"{name} has no signature: {first_line(error)}", "Set its options by hand.") from error
    every = Entry(name, "own", target, "own", frozenset(given)).parameters
    return Entry(name, "own", target, "own", frozenset(given) | {each.name for each in every if not _is_plain(each)})


def _is_plain(parameter: Parameter) -> bool:
    """Whether a recipe can give it."""
    return not parameter.takes_function and (parameter.default is REQUIRED or not isinstance(parameter.default, type))
