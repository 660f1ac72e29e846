"""What torch offers, found by introspection: name → parameters, types, defaults, docstring.

Nothing here lists a class by hand, so a new torch release brings its new layers, losses, optimizers and schedulers with
it. Written down is only what introspection can't know: which parameter follows from the incoming shape or from the run.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from torch import nn

from engine.errors import RecipeError, first_line, nearest

Kind = Literal["layer", "loss", "optimizer", "scheduler", "transform"]
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
}
# What a scheduler must know of the run that it serves; see engine.training.optim.
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

    @property
    def type_text(self) -> str:
        """The annotation as a person reads it: `int or tuple[int, int]`."""
        return _type_text(self.annotation)

    @property
    def takes_tensor(self) -> bool:
        """Whether it is a tensor and nothing else (class weights): a recipe writes it as a list of numbers."""
        alternatives = set(typing.get_args(self.annotation) or (self.annotation,)) - {type(None)}
        return alternatives == {torch.Tensor}

    def check(self, value: Any, where: str) -> None:
        """Raise RecipeError if `value` can't be of the annotated type. Lists stand for tuples."""
        if isinstance(value, str) and self.name in _SYMBOLIC and value in _SYMBOLIC[self.name]:
            return
        adapter = _adapter(self.annotation)
        if self.takes_tensor and _numbers(value) is not None:
            return
        if adapter is None or any(_fits(adapter, candidate) for candidate in (value, as_tuples(value))):
            return
        if not _fits(adapter, self.default) and type(value) is type(self.default):
            return  # the annotation contradicts torch's own default, so it can't be trusted
        remedy = "" if self.default in (REQUIRED, None) else f"Try {self.default!r}."
        raise RecipeError(f"{where}.{self.name}", f"{value!r} is not {self.type_text}", remedy)


# Sizes that a recipe may leave to the dataset: `out_features = "classes"`.
_SYMBOLIC: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("out_features", "out_channels", "hidden_size"), ("classes", "targets")
)


@dataclass(frozen=True)
class Entry:
    """A class of torch that a recipe can name."""

    name: str
    kind: Kind
    target: Callable[..., Any]
    group: str

    @cached_property
    def doc(self) -> str:
        """The class's docstring without reST markup."""
        text = inspect.getdoc(self.target) or ""
        return _reflowed(_readable(re.sub(r"^__init__\([^)]*\)\s*", "", text)))

    @cached_property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        first = " ".join(self.doc.split("\n\n")[0].split())
        return re.split(r"(?<=[.:])\s", first)[0]

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What a recipe can set, in the order of the signature."""
        docs = _parameter_docs(inspect.getdoc(self.target) or "")
        hints = _hints(self.target)
        return tuple(
            Parameter(
                name=name,
                default=parameter.default,
                annotation=hints.get(name, parameter.annotation),
                doc=docs.get(name, ""),
                inferred=(self.kind == "layer" and name in FROM_SHAPE)
                or (self.kind == "scheduler" and name in FROM_RUN),
            )
            for name, parameter in _signature(self.target).items()
            if name not in _HIDDEN and not name.startswith("_")
        )

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
        for parameter in self.parameters:
            if parameter.required and parameter.name not in values:
                about = f" ({_first_sentence(parameter.doc)})" if parameter.doc else ""
                raise RecipeError(f"{where}.{parameter.name}", f"{self.name} needs it{about}", "Add it.")

    def make(self, values: Mapping[str, Any], where: str, *first: Any) -> Any:
        """An instance, with lists turned into the tuples and tensors that torch expects.

        Raises RecipeError with torch's own words when torch refuses the values.
        """
        ready = {name: self._ready(name, value) for name, value in values.items()}
        try:
            return self.target(*first, **ready)
        except Exception as error:  # torch checks values with every kind of exception, assert included
            text = first_line(error)
            raise RecipeError(where, f"{self.name} refuses its parameters: {text}", "Change them.") from error

    def _ready(self, name: str, value: Any) -> Any:
        parameter = self.parameter(name)
        numbers = _numbers(value) if parameter is not None and parameter.takes_tensor else None
        return as_tuples(value) if numbers is None else numbers


@cache
def layers() -> Mapping[str, Entry]:
    """Every layer of torch.nn that takes one tensor, grouped as torch.nn's source groups them."""
    skipped = {"container", "loss", "module", "distance", "lazy"}
    found = _classes(vars(nn), nn.Module, "torch.nn.modules")
    return {
        name: Entry(name, "layer", target, group)
        for name, target in found
        if (group := target.__module__.rpartition(".")[2]) not in skipped
        and not issubclass(target, nn.modules.lazy.LazyModuleMixin)
        and _takes_one_tensor(target)
    }


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
    """Every scheduler of torch.optim.lr_scheduler whose parameters a recipe can write down."""
    module = torch.optim.lr_scheduler
    entries = (
        Entry(name, "scheduler", target, "scheduler")
        for name, target in _classes(vars(module), module.LRScheduler, module.__name__)
        if target is not module.LRScheduler
    )
    return {entry.name: entry for entry in entries if not any(map(_needs_code, entry.parameters))}


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
    """The named parameters of a constructor; those of its first overload where it takes just `*args, **kwargs`."""
    source: Callable[..., Any] = target
    overloads = typing.get_overloads(target.__init__) if inspect.isclass(target) else []
    parameters = inspect.signature(target).parameters
    if overloads and all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values()):
        source = overloads[0]
    named = inspect.signature(source).parameters.items()
    return {name: p for name, p in named if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


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


def _needs_code(parameter: Parameter) -> bool:
    """Whether only Python code can give it: a function, or other schedulers."""
    text = parameter.type_text
    return parameter.required and any(word in text for word in ("Callable", "LRScheduler", "Optimizer"))


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Resolved annotations of the constructor; empty where they name what only a type checker sees."""
    try:
        overloads = typing.get_overloads(target.__init__) if inspect.isclass(target) else []
        return typing.get_type_hints(overloads[0] if overloads else getattr(target, "__init__", target))
    except (NameError, TypeError, AttributeError):
        return {}


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """pydantic's checker for an annotation; None where it says nothing that can be checked."""
    if annotation is REQUIRED or annotation is Any or isinstance(annotation, str):
        return None
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError):
        return None


def _numbers(value: Any) -> torch.Tensor | None:
    """A list of numbers (or of such lists) as a tensor of floats; None for anything else."""
    try:
        return torch.tensor(value, dtype=torch.float32) if isinstance(value, list) else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _fits(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _type_text(annotation: Any) -> str:
    if annotation is REQUIRED:
        return "a value"
    if isinstance(annotation, str):
        return annotation
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return " or ".join("none" if a is type(None) else _type_text(a) for a in arguments)
    if arguments:
        inner = ", ".join("…" if a is Ellipsis else _type_text(a) for a in arguments if not isinstance(a, list))
        return f"{_name_of(annotation)}[{inner}]"
    return _name_of(annotation)


def _name_of(annotation: Any) -> str:
    return getattr(annotation, "__name__", str(annotation).rpartition(".")[2])


_ARGUMENTS = re.compile(r"^(?:Args|Arguments|Parameters):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^\s{2,6}\*{0,2}(\w+)(?:\s*\([^\n]*?\))?\s*:\s?(.*)$")


def _parameter_docs(doc: str) -> dict[str, str]:
    """Parameter name → text, from the `Args:` section of a torch docstring."""
    docs: dict[str, list[str]] = {}
    indent, current = 0, ""
    for block in _ARGUMENTS.split(doc)[1:]:
        for line in block.split("\n"):
            depth = len(line) - len(line.lstrip())
            if line.strip() and depth == 0:
                break
            found = _ARGUMENT.match(line)
            if found and (not indent or depth <= indent):
                indent, current = depth, found[1]
                docs.setdefault(current, []).append(found[2])
            elif current:
                docs[current].append(line.strip())
    return {name: _readable(" ".join(" ".join(lines).split())) for name, lines in docs.items()}


_MARKUP: Iterable[tuple[str, str]] = (
    (r"(?ms)^[ \t]*\\begin\{(\w+)\}.*?\\end\{\1\}", ""),  # algorithms set in LaTeX
    (r":(?:math|class|func|meth|attr|ref|mod|obj|paramref|doc):`~?([^`<]*?)(?:\s*<[^>]*>)?`", r"\1"),
    (r"(?m)^\.\. (?:image|_).*\n?(?:[ \t]+http.*)?$", ""),  # pictures, and the targets of links
    (r"(?m)^\.\. (?:note|warning|math|code-block|versionadded|testcode|seealso)::?", ""),
    (r"``([^`]*)``", r"\1"),
    (r"`([^`<]+?)\s*(?:<[^>]*>)?`_*", r"\1"),
    (r"\\(?:text|mathrm|mathbf|operatorname)\{([^}]*)\}", r"\1"),
    (r"\\d?frac\{((?:[^{}]|\{[^{}]*\})*)\}\{((?:[^{}]|\{[^{}]*\})*)\}", r"(\1)/(\2)"),
    (r"__? https?://\S+", ""),
    (r"::$", ":"),
    (r"\\_", "_"),
    (r"\\[,;! ]", " "),
)
_SYMBOLS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ", "lambda": "λ",
    "mu": "μ", "nu": "ν", "rho": "ρ", "sigma": "σ", "phi": "φ", "times": "×", "cdot": "·", "sum": "Σ", "leq": "≤",
    "geq": "≥", "le": "≤", "ge": "≥", "infty": "∞", "sqrt": "√", "ast": "*", "star": "⋆", "left": "", "right": "",
    "begin": "", "end": "", "quad": " ", "in": "∈", "pm": "±", "neq": "≠", "partial": "∂", "pi": "π", "Phi": "Φ",
    "dots": "…", "ldots": "…",
}  # fmt: skip


def _readable(text: str) -> str:
    """A docstring without the markup that a terminal can't show."""
    for pattern, replacement in _MARKUP:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"\\([a-zA-Z]+)", lambda found: _SYMBOLS.get(found[1], found[1]), text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)[ \t]+$", "", text)).strip()


def _reflowed(text: str) -> str:
    """`text` with each paragraph on one line, so that it wraps at any width; indented lines stay lines."""
    return re.sub(r"(?<=\S)\n(?=[\w(])", " ", text)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.;])\s", text)[0].rstrip(".;")
