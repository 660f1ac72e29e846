"""What torch offers, found by introspection: name → parameters, types, defaults, docstring.

No class is listed by hand, so a new torch release brings its new layers, losses, optimizers and schedulers. Written
down is only what introspection can't know: which parameter follows from the incoming shape or from the run.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType
from typing import Any, Literal

import torch
from torch import nn

from engine.annotations import adapter_of, fits, type_text
from engine.docstrings import first_sentence, parameter_docs, readable, reflowed
from engine.errors import RecipeError, first_line, nearest
from engine.models import columns, sequences
from engine.models.blocks import CONTAINERS
from engine.python_file import load_function
from engine.recipe.values import format_value, parse_value

Kind = Literal["layer", "loss", "optimizer", "scheduler", "transform", "own"]
REQUIRED: Any = inspect.Parameter.empty

# Which dimension of the incoming shape (batch first) gives the value of a parameter of that name.
FROM_SHAPE: dict[str, int] = {
    "in_features": -1,
    "in_channels": 1,
    "num_features": 1,
    "num_channels": 1,
    "input_size": -1,
    "normalized_shape": -1,
    "d_model": -1,
    "embed_dim": -1,
    "length": 1,
}
# What of the dataset gives it.
FROM_DATA: dict[str, str] = {"num_embeddings": "vocabulary", "cardinalities": "cardinalities"}
# What a scheduler must know of the run that it serves; see engine.optim.schedules.
FROM_RUN = ("T_max", "total_steps", "max_lr", "steps_per_epoch")
# Given by the trainer or of no use to a recipe.
_HIDDEN = {
    "self",
    "params",
    "optimizer",
    "device",
    "dtype",
    "inplace",
    "size_average",
    "reduce",
    "verbose",
    "last_epoch",
    "schedulers",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a class as its signature and docstring tell it."""

    name: str
    default: Any
    annotation: Any
    doc: str
    inferred: bool

    @property
    def required(self) -> bool:
        """Whether a recipe must name it."""
        return self.default is REQUIRED and not self.inferred

    @cached_property
    def type_text(self) -> str:
        """The annotation as a person reads it: `int or tuple[int, int]`."""
        return 'a function, "path/to/file.py:function"' if self.takes_function else type_text(self.annotation)

    @cached_property
    def takes_function(self) -> bool:
        """Whether only a function can be given (LambdaLR): a recipe writes it as `"path/to/file.py:function"`."""
        text = type_text(self.annotation)
        return "Callable" in text and not text.startswith("str or")

    @cached_property
    def takes_tensor(self) -> bool:
        """Whether it is a tensor and nothing else (class weights): a recipe writes it as a list of numbers."""
        alternatives = set(typing.get_args(self.annotation) or (self.annotation,)) - {type(None)}
        return alternatives == {torch.Tensor}

    @cached_property
    def takes_size(self) -> bool:
        """Whether it is a whole number, so that the dataset can give it."""
        adapter = adapter_of(self.annotation)
        return adapter is not None and fits(adapter, 1) and not fits(adapter, "classes")

    def check(self, value: Any, where: str) -> None:
        """Raise RecipeError if `value` can't be of the annotated type. Lists stand for tuples."""
        if isinstance(value, str) and value in SIZES and self.takes_size:
            return
        if self.takes_function:
            if value is not self.default and not (isinstance(value, str) and _FUNCTION.fullmatch(value)):
                raise RecipeError(f"{where}.{self.name}", f"{value!r} is not {self.type_text}", "Name one in quotes.")
            return
        adapter = adapter_of(self.annotation)
        if self.takes_tensor and _numbers(value) is not None:
            return
        if adapter is None or any(fits(adapter, candidate) for candidate in (value, as_tuples(value))):
            return
        if not fits(adapter, self.default) and type(value) is type(self.default):
            return  # the annotation contradicts torch's own default, so it can't be trusted
        words = [each for each in typing.get_args(self.annotation) if isinstance(each, str)]
        remedy = nearest(str(value), words) or self._proposal()
        raise RecipeError(f"{where}.{self.name}", f"{value!r} is not {self.type_text}", remedy)

    def _proposal(self) -> str:
        """`Try [0.02, 0.33].`: the default as a recipe takes it; empty where there is none that can be written."""
        if self.default in (REQUIRED, None):
            return ""
        written = repr(self.default) if isinstance(self.default, str) else format_value(self.default)
        return f"Try {written}." if as_tuples(parse_value(written)) == as_tuples(self.default) else ""


OURS: dict[ModuleType, str] = {sequences: "sequence", columns: "table"}
"""Modules with layers of ours, and the group of those that are not made of torch's."""
_FUNCTION = re.compile(r".+\.py:\w+")
SIZES = ("classes", "targets", "vocabulary", "channels", "height", "width", "length", "features")
"""Sizes that a recipe may leave to the dataset: `out_features = "classes"`."""


@dataclass(frozen=True)
class Entry:
    """A class of torch that a recipe can name, or a person's own class or function."""

    name: str
    kind: Kind
    target: Callable[..., Any]
    group: str
    hidden: Collection[str] = frozenset(_HIDDEN)
    """Parameters that a recipe doesn't set."""

    @cached_property
    def doc(self) -> str:
        """The class's docstring without reST markup."""
        text = self._docstring
        return reflowed(readable(re.sub(r"^__init__\([^)]*\)\s*", "", text)))

    @cached_property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        first = " ".join(self.doc.split("\n\n")[0].split())
        return re.sub(":$", ".", re.split(r"(?<=[.:])\s", first)[0])  # the formula or list that follows is not shown

    @property
    def container(self) -> bool:
        """Whether it holds layers, or transforms, which a recipe lists under that name."""
        return self.group == "container"

    @cached_property
    def composed(self) -> bool:
        """Whether it is a scheduler made of schedulers, which a recipe lists under `schedulers`."""
        return self.kind == "scheduler" and "schedulers" in _signature(self.target)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What a recipe can set, in the signature's order."""
        docs = parameter_docs(self._docstring)
        hints = _hints(self.target)
        return tuple(
            Parameter(
                name=name,
                default=parameter.default,
                annotation=hints.get(name, parameter.annotation),
                doc=docs.get(name, "the docstring says nothing about it" if self.kind == "own" else ""),
                inferred=(self.kind == "layer" and (name in FROM_SHAPE or name in FROM_DATA))
                or (self.kind == "scheduler" and name in FROM_RUN),
            )
            for name, parameter in _signature(self.target).items()
            if name not in self.hidden and not name.startswith("_")
        )

    @cached_property
    def _docstring(self) -> str:
        if self.kind != "own" or not inspect.isclass(self.target):
            return inspect.getdoc(self.target) or ""
        # nn.Module's docstring, which they inherit, says nothing of theirs.
        texts = (vars(self.target).get("__doc__"), getattr(vars(self.target).get("__init__"), "__doc__", None))
        return "\n\n".join(inspect.cleandoc(text) for text in texts if text)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, if there is one."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def check(self, values: Mapping[str, Any], where: str) -> None:
        """Raise RecipeError for an unknown, missing or mistyped parameter, naming it under `where`."""
        for name, value in values.items():
            parameter = self.parameter(name)
            if parameter is None:
                known = [each.name for each in self.parameters]
                remedy = nearest(name, known) or (f"It takes {', '.join(known)}." if known else "It takes none.")
                raise RecipeError(f"{where}.{name}", f"is not a parameter of {self.name}", remedy)
            parameter.check(value, where)
            if self.kind != "own" and isinstance(value, float) and math.isnan(value):
                raise RecipeError(f"{where}.{name}", "is NaN, which is no number", "Give one, or remove it.")
        for parameter in self.parameters:
            if parameter.required and parameter.name not in values:
                about = f" ({first_sentence(parameter.doc)})" if parameter.doc else ""
                raise RecipeError(f"{where}.{parameter.name}", f"{self.name} needs it{about}", "Add it.")

    def make(self, values: Mapping[str, Any], where: str, *first: Any) -> Any:
        """An instance, with lists turned into the tuples and tensors that torch expects, and functions loaded.

        Raises RecipeError with torch's own words when torch refuses the values.
        """
        ready = {name: self.ready(name, value, f"{where}.{name}") for name, value in values.items()}
        try:
            return self.target(*first, **ready)
        except Exception as error:  # torch checks values with every kind of exception, assert included
            if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
                raise
            text = first_line(error)
            raise RecipeError(where, f"{self.name} refuses its parameters: {text}", "Change them.") from error

    def ready(self, name: str, value: Any, where: str = "") -> Any:
        """The value as torch expects it: lists as tuples or tensors, functions loaded."""
        parameter = self.parameter(name)
        if parameter is not None and parameter.takes_function and isinstance(value, str):
            return load_function(value, where) if self.kind == "transform" else _to_number(load_function(value, where))
        numbers = _numbers(value) if parameter is not None and parameter.takes_tensor else None
        return as_tuples(value) if numbers is None else numbers


@cache
def layers() -> Mapping[str, Entry]:
    """Every layer of torch.nn that takes one tensor, in the groups of torch.nn's source, ours, and `container`."""
    skipped = {"container", "loss", "module", "distance", "lazy"}
    found = _classes(vars(nn), nn.Module, "torch.nn.modules")
    torchs = {
        name: Entry(name, "layer", target, group)
        for name, target in found
        if (group := target.__module__.rpartition(".")[2]) not in skipped
        and not issubclass(target, nn.modules.lazy.LazyModuleMixin)
        and _takes_one_tensor(target)
    }
    for ours, theme in OURS.items():
        for name, target in _classes(vars(ours), nn.Module, ours.__name__):
            group = _torchs(target).__module__.rpartition(".")[2]
            torchs[name] = Entry(name, "layer", target, theme if group == "module" else group)
    for target in CONTAINERS:
        torchs[target.__name__] = Entry(target.__name__, "layer", target, "container")
    return dict(sorted(torchs.items()))


@cache
def losses() -> Mapping[str, Entry]:
    """Every loss of torch.nn that takes an output and a target."""
    return {
        name: Entry(name, "loss", target, "loss")
        for name, target in _classes(vars(nn), nn.Module, "torch.nn.modules.loss")
        if list(_forward(target))[1:2] == ["target"] and len(_forward(target)) == 2
    }


@cache
def optimizers() -> Mapping[str, Entry]:
    """Every optimizer of torch.optim."""
    return {
        name: Entry(name, "optimizer", target, "optimizer")
        for name, target in _classes(vars(torch.optim), torch.optim.Optimizer, "torch.optim")
        if target is not torch.optim.Optimizer
    }


@cache
def schedulers() -> Mapping[str, Entry]:
    """Every scheduler of torch.optim.lr_scheduler."""
    module = torch.optim.lr_scheduler
    return {
        name: Entry(name, "scheduler", target, "scheduler")
        for name, target in _classes(vars(module), module.LRScheduler, module.__name__)
        if target is not module.LRScheduler
    }


def find(kind: Kind, entries: Mapping[str, Entry], name: str, where: str) -> Entry:
    """The entry called `name`. Raises RecipeError with the nearest name."""
    if name in entries:
        return entries[name]
    remedy = nearest(name, entries) or f"For example {next(iter(entries))}."
    raise RecipeError(f"{where}.name", f"torch has no {kind} '{name}' that fits here", remedy)


def as_tuples(value: Any) -> Any:
    """`value` with every list as a tuple."""
    return tuple(map(as_tuples, value)) if isinstance(value, (list, tuple)) else value


def _signature(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The named parameters of a constructor; those of its first overload where it takes just `*args, **kwargs`.

    A layer of ours that passes on what it is given to torch's takes torch's parameters too.
    """
    if target.__module__ == sequences.__name__ and "args" in inspect.signature(target).parameters:
        torchs, ours = _torchs(target), inspect.signature(target).parameters.items()
        return {**_signature(torchs), **{name: p for name, p in ours if p.kind is p.KEYWORD_ONLY}}
    source: Callable[..., Any] = target
    overloads = typing.get_overloads(target.__init__) if inspect.isclass(target) else []
    parameters = inspect.signature(target).parameters
    if overloads and all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values()):
        source = overloads[0]
    named = inspect.signature(source).parameters.items()
    return {name: p for name, p in named if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _torchs(target: Any) -> type[nn.Module]:
    """The class of torch that a layer of ours is made of; nn.Module for one of our own making."""
    bases: tuple[type[nn.Module], ...] = target.__mro__
    return next(base for base in bases if base.__module__.startswith("torch.nn.modules"))


def _classes(names: Mapping[str, Any], base: type, module: str) -> Iterator[tuple[str, Any]]:
    for name, target in sorted(names.items()):
        public = inspect.isclass(target) and not name.startswith("_") and not name.endswith("Base")
        if public and issubclass(target, base) and target.__module__.startswith(module):
            yield name, target


def _forward(target: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The parameters of forward without self."""
    return dict(list(inspect.signature(target.forward).parameters.items())[1:])


def _takes_one_tensor(target: type[nn.Module]) -> bool:
    parameters = list(_forward(target).values())
    return bool(parameters) and all(parameter.default is not REQUIRED for parameter in parameters[1:])


def _to_number(function: Callable[..., Any]) -> Callable[..., float]:
    """`function` with a plain float as its value, whatever kind of number or object with a state it is.

    A scheduler keeps the number, and saves the state of a function that is an object; both must stay loadable.
    """

    def number(*arguments: Any) -> float:
        return float(function(*arguments))

    return number


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Resolved annotations of the constructor; empty where they name what only a type checker sees."""
    try:
        overloads = typing.get_overloads(target.__init__) if inspect.isclass(target) else []
        constructor = target.__init__ if inspect.isclass(target) else target
        return typing.get_type_hints(overloads[0] if overloads else constructor)
    except (NameError, TypeError, AttributeError):
        return {}


def _numbers(value: Any) -> torch.Tensor | None:
    """A list of numbers (or of such lists) as a tensor of floats; None for anything else."""
    try:
        return torch.tensor(value, dtype=torch.float32) if isinstance(value, list) else None
    except (TypeError, ValueError, RuntimeError):
        return None
