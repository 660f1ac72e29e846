"""What torchvision's dataset classes tell of themselves: how a part is selected, which options there are."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from torchvision import datasets

from engine.data.vision.table import (
    EXCLUDED,
    EXCLUDED_MODULES,
    EXCLUDED_PARAMETERS,
    ROWS,
    USUAL,
    Option,
    Reason,
    Row,
)
from engine.docstrings import parameter_docs, readable

_SELECTORS = ("train", "split", "image_set", "version")
_OURS = {"root", "transform", "target_transform", "transforms", "download", "loader", "is_valid_file", "allow_empty"}
_CALLED = {
    "train": ("train", "trainval", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_PLAIN = (str, int, float, bool)


@cache
def classes() -> Mapping[str, type[Any]]:
    """Every dataset class that torchvision offers, by name."""
    found = ((name, value) for name, value in vars(datasets).items() if inspect.isclass(value))
    return {name: value for name, value in sorted(found) if issubclass(value, datasets.VisionDataset)}


def excluded(name: str) -> Reason | None:
    """Why a class of torchvision is not offered; None if it is, or if there is none of this name."""
    target = classes().get(name)
    if target is None or name in EXCLUDED:
        return EXCLUDED.get(name)
    module = EXCLUDED_MODULES.get(target.__module__.rpartition(".")[2])
    return module or next((EXCLUDED_PARAMETERS[key] for key in parameters(target) if key in EXCLUDED_PARAMETERS), None)


def parameters(target: type[Any]) -> dict[str, inspect.Parameter]:
    """What a class takes, and where it passes on what it is given, what the class below it takes."""
    found: dict[str, inspect.Parameter] = {}
    for each in target.__mro__:
        if "__init__" not in vars(each):
            continue
        own = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
        found = {**{p.name: p for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}, **found}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
    return found


def selector(target: type[Any], options: Collection[str] = ()) -> str:
    """The parameter that selects a part, unless that is one of the `options`; empty if the dataset comes in one."""
    taken = parameters(target)
    return next((name for name in _SELECTORS if name in taken and name not in options), "")


def selection(target: type[Any], row: Row, part: str) -> dict[str, Any]:
    """What selects a part, as the class takes it."""
    name = selector(target, [name for name, option in row.options.items() if option.parameter is None])
    if not name or (part == "all" and part not in row.parts):
        return {}
    return {name: part == "train" if name == "train" else row.parts.get(part, part)}


def downloads(target: type[Any]) -> bool:
    """Whether it can be told to download."""
    return "download" in parameters(target)


def said_parts(target: type[Any]) -> dict[str, str]:
    """What its parts are called, by our names for them, as far as the docstring says."""
    if selector(target) == "train":
        return {"train": "train", "test": "test"}
    doc = parameter_docs(inspect.getdoc(target) or "").get(selector(target), "")
    words = set(re.findall(r"[\w-]+", doc.replace('"', " ")))
    return {
        part: name for part, names in _CALLED.items() for name in reversed(names) if name in words and selector(target)
    }


@cache
def unknown() -> Mapping[str, Row]:
    """Datasets that this torchvision has and the table does not know, by what their classes tell."""
    known = {row.name for row in ROWS}
    return {name: _told(name) for name in classes() if name not in known and not excluded(name)}


def _told(name: str) -> Row:
    target = classes()[name]
    about = readable((inspect.getdoc(target) or name).strip().split("\n\n")[0]).replace("\n", " ")
    parts = said_parts(target)
    options = {
        key: Option(parameter.default if isinstance(parameter.default, _PLAIN) else "")
        for key, parameter in parameters(target).items()
        if key not in _OURS
        and key != selector(target)
        and (isinstance(parameter.default, _PLAIN) or parameter.default is inspect.Parameter.empty)
    }
    return Row(
        name=name,
        about=f"{about.rstrip('.')}.",
        shape=(3, USUAL, USUAL),
        outputs=0,
        sizes=dict.fromkeys(parts or ("all",), 0),
        mb=0,
        parts=parts,
        options=options,
    )
