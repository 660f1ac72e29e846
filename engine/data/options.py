"""The options of a dataset of the catalog as a catalog entry has its parameters: forms are made of it.

They are found where they are said: those of pictures in the signature and the docstring of the format `images` (with
boxes, of `coco`), those of Hugging Face's in that of `huggingface`, those that select among datasets of one name in
torchvision's docstrings.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from engine.catalog import Entry, Parameter
from engine.data.formats.catalog import format_entry
from engine.data.load import make_line
from engine.data.sources import HUGGING_FACE, Source, find, row_of
from engine.docstrings import parameter_docs

_FEW = 12  # values that a line can list as a type


@dataclass(frozen=True)
class _Selected(Entry):
    """A dataset whose options stand in several signatures."""

    about: str = ""
    found: Collection[Parameter] = ()

    @cached_property
    def summary(self) -> str:
        return self.about

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(self.found)


def dataset_entry(name: str) -> Entry:
    """What a dataset takes in `data.options`. Raises RecipeError for a name that there is not.

    Not for the screen's thread: torchvision takes a second to import.
    """
    source = find(name)
    if name.startswith(HUGGING_FACE):
        return replace(format_entry("huggingface"), name=name)
    if source.origin == "made":
        return Entry(name, "own", make_line, "dataset", frozenset({"source"}))
    return _Selected(name, "own", find, "dataset", about=source.about, found=_parameters(source))


def _parameters(source: Source) -> list[Parameter]:
    if not source.options:
        return []
    from engine.data.vision.introspection import classes  # torchvision takes a second to import

    pictures, row = format_entry("coco" if source.task == "detection" else "images"), row_of(source.name, {})
    docs = parameter_docs(inspect.getdoc(classes()[source.name]) or "")
    found = []
    for name, default in source.options.items():
        option, same = row.options.get(name), pictures.parameter(name)
        if option is None and same is not None:
            found.append(same)
            continue
        values = source.choices.get(name, ())
        annotation = Literal[tuple(values)] if 0 < len(values) <= _FEW else type(default)
        doc = (option.doc or docs.get(option.parameter or name, "")) if option else ""
        if len(values) > _FEW:
            doc = f"{doc.rstrip('.')}: {', '.join(map(str, values))}"
        found.append(Parameter(name, default, annotation, doc or f"as {source.name} has it", inferred=False))
    return found
