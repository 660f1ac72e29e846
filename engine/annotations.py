"""Annotations of signatures: what fits them, and how a person reads them."""

from __future__ import annotations

import inspect
import typing
from functools import cache
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError


@cache
def adapter_of(annotation: Any) -> TypeAdapter[Any] | None:
    """pydantic's checker for an annotation; None where it says nothing that can be checked."""
    if annotation is inspect.Parameter.empty or annotation is Any or isinstance(annotation, str):
        return None
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError):
        return None


def fits(adapter: TypeAdapter[Any], value: Any) -> bool:
    """Whether `value` is of the annotated type as it stands."""
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def type_text(annotation: Any) -> str:
    """An annotation as a person reads it: `int or tuple[int, int]`."""
    if annotation is inspect.Parameter.empty:
        return "a value"
    if isinstance(annotation, str):
        return annotation
    name: str = getattr(annotation, "__name__", str(annotation).rpartition(".")[2])
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return " or ".join("none" if a is type(None) else type_text(a) for a in arguments)
    if arguments:
        inner = ", ".join("…" if a is Ellipsis else type_text(a) for a in arguments if not isinstance(a, list))
        return f"{name}[{inner}]"
    return name
