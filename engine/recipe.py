"""Recipe: everything needed to train one thing, as a TOML file and as a validated object.

This module loads no torch, so it checks form only: types, ranges, known keys. Whether `optimizer.name` exists and takes
`momentum` is for `engine.catalog` to say, because only torch knows.
"""

from __future__ import annotations

import copy
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomlkit
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.durations import Duration
from engine.errors import RecipeError, nearest

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0, lt=2**63)]
TaskName = Literal["classification", "regression"]


def _duration(text: str) -> str:
    Duration.parse(text)
    return text


def _optional_duration(text: str) -> str:
    return _duration(text) if text else text


DurationText = Annotated[str, AfterValidator(_duration)]
OptionalDurationText = Annotated[str, AfterValidator(_optional_duration)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the recipe. Unknown keys are errors; values are never bent to fit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Part(Section):
    """A named class of torch with its parameters under torch's own names: `{ name = "Linear", out_features = 10 }`."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str = Field(min_length=1)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters to hand to torch, without the name."""
        return copy.deepcopy(self.__pydantic_extra__ or {})


Parts = Annotated[tuple[Part, ...], Field(strict=False)]


class Loss(Part):
    """`[loss]`: any loss of torch.nn that fits the task.

    `class_weights = "balanced"` weighs each class by n / (classes · n of the class), counted on the training samples.
    """

    name: str = "CrossEntropyLoss"
    class_weights: Literal["none", "balanced"] = "none"


class Optimizer(Part):
    """`[optimizer]`: any class in torch.optim, its parameters under their own names, and what torch leaves to us.

    Norms and biases are not decayed unless `weight_decay_on_norms`; everything before the last layer with weights
    learns at `lr · backbone_lr_factor`; the rate rises linearly from nothing over `warmup`, a duration.
    """

    name: str = "AdamW"
    lr: Positive = 1e-3
    weight_decay_on_norms: bool = False
    backbone_lr_factor: Positive = 1.0
    warmup: OptionalDurationText = ""

    @property
    def parameters(self) -> dict[str, Any]:
        return {"lr": self.lr, **super().parameters}


class Scheduler(Part):
    """`[scheduler]`: any class in torch.optim.lr_scheduler, advanced every step or every epoch.

    SequentialLR and ChainedScheduler take a list of `schedulers`.
    """

    every: Literal["step", "epoch"] = "epoch"
    schedulers: Parts = ()


class Split(Section):
    """Shares of the samples. A dataset with a test set of its own keeps it, and only train and val are drawn."""

    train: Annotated[float, Field(gt=0, le=1)] = 0.8
    val: Fraction = 0.1
    test: Fraction = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _at_most_everything(self) -> Self:
        total = self.train + self.val + self.test
        if total > 1 + 1e-9:
            raise ValueError(f"train + val + test is {total:g}. Make them add up to at most 1.")
        return self


class Data(Section):
    """`[data]`: which dataset, how it is split, transformed and served.

    `python = "path/to/file.py:make_dataset"` takes the place of `name` for a dataset of one's own.
    """

    name: str = ""
    python: str = ""
    options: dict[str, Any] = {}
    batch_size: Count = 64
    split: Split = Split()
    transforms: Parts = ()
    augment: Parts = ()
    standardize_target: bool = False
    drop_last: bool = False
    in_memory: bool = True
    num_workers: Annotated[int, Field(ge=0, le=256)] = 0
    worker_timeout: DurationText = "5 min"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.name) == bool(self.python):
            raise ValueError("needs one dataset. Set either name or python.")
        return self


class Model(Section):
    """`[model]`: layers, a torchvision model by name, or one's own function."""

    layers: Parts = ()
    zoo: str = ""
    python: str = ""
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [key for key in ("layers", "zoo", "python") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"has {' and '.join(given)}. Keep one of them.")
        if self.options and not (self.zoo or self.python):
            raise ValueError("has options, which only zoo and python take. Remove them.")
        return self


class EarlyStopping(Section):
    """The run ends when `metric` in validation has not improved by more than `min_delta` for `patience` epochs.

    A patience of 0 is off.
    """

    metric: Annotated[str, Field(min_length=1)] = "loss"
    patience: Annotated[int, Field(ge=0, lt=2**63)] = 0
    min_delta: NotNegative = 0.0


class Average(Section):
    """Averaged weights, evaluated beside the raw ones (torch.optim.swa_utils).

    `ema` moves by `1 - decay` towards the weights after every step; `swa` is the mean of the weights at the ends of the
    epochs after the first `start`.
    """

    kind: Literal["none", "ema", "swa"] = "none"
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    start: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Training(Section):
    """`[training]`: how long, how exactly, on what."""

    epochs: Count = 10
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: str = "auto"
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    accumulate: Count = 1
    clip_grad_norm: NotNegative = 0.0
    clip_grad_value: NotNegative = 0.0
    early_stopping: EarlyStopping = EarlyStopping()
    average: Average = Average()
    on_nan: Literal["stop", "skip", "rollback"] = "stop"
    nan_lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    checkpoint_every: DurationText = "1 epoch"
    keep_checkpoints: Count = 2
    limit_batches: Annotated[int, Field(ge=0, lt=2**63)] = 0
    overfit_one_batch: bool = False
    health_every: Annotated[int, Field(ge=0, lt=2**63)] = 200
    compile: bool = False
    channels_last: bool = False
    deterministic: bool = False
    gradient_checkpointing: bool = False


class Recipe(Section):
    """Everything needed to train one thing. Frozen: a change makes another recipe."""

    title: str = ""
    about: str = ""
    task: TaskName = "classification"
    data: Data
    model: Model = Model()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    scheduler: Scheduler | None = None
    training: Training = Training()

    @classmethod
    def load(cls, path: Path | str) -> Recipe:
        """Read a recipe file. Paths of Python files in it are taken from the file's own folder.

        Raises RecipeError for a missing or malformed file and for every wrong key or value.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise RecipeError(str(path), str(what), "Check the path.") from error
        return cls.from_toml(text, str(path), folder=path.parent)

    @classmethod
    def from_toml(cls, text: str, where: str = "recipe", *, folder: Path | None = None) -> Recipe:
        """Read TOML; `where` names it in errors, `folder` is where relative Python files lie."""
        try:
            values = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise RecipeError(where, f"is not TOML: {error}", "Mend the line named here.") from error
        if folder is not None:
            for section in ("data", "model", "scheduler"):
                _anchor(values.get(section), folder, everywhere=section == "scheduler")
        return cls.from_values(values, where)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """Validate a nested dict of plain values; `where` names it in errors."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _explain(error, where) from error

    def values(self) -> dict[str, Any]:
        """The recipe as nested plain values, defaults filled in, absent sections left out."""
        return self.model_dump(mode="python", exclude_none=True)

    def to_toml(self) -> str:
        """The recipe as TOML, defaults filled in; `Recipe.from_toml` gives the same recipe back."""
        return tomlkit.dumps(_plain(_without_empty(self, self.values())))

    def override(self, changes: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """A recipe with dotted keys set: `{"optimizer.lr": 0.1, "model.layers.1.out_features": 64}`.

        A value of None removes the key, so that its default returns.
        """
        values = self.values()
        for key, value in changes.items():
            _set(values, key, value, where)
        return type(self).from_values(values, where)


def changed_settings(before: Recipe, after: Recipe) -> dict[str, Any]:
    """The dotted keys in which two recipes differ, with the value that each had before (None: it was not there)."""
    ours, theirs = _flat(before.values()), _flat(after.values())
    return {key: ours.get(key) for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)}


def parse_override(text: str) -> tuple[str, Any]:
    """Read `optimizer.lr=0.1`. The value is TOML where it can be, else the text; `none` removes the key.

    Raises RecipeError when there is no `=`.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {text}", "is not KEY=VALUE", "Try --set optimizer.lr=0.1.")
    return key.strip(), parse_value(raw)


def parse_value(raw: str) -> Any:
    """A typed value from text: TOML where it can be, else the text itself; `none` and `None` are None."""
    raw = raw.strip()
    if raw in ("none", "None"):
        return None
    if raw in ("True", "False"):
        return raw == "True"
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return raw


def format_value(value: object) -> str:
    """The text that `parse_value` reads back as `value`, as short as it can be."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, str):
        return value if parse_value(value) == value else _quoted(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_quoted(v) if isinstance(v, str) else format_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return tomlkit.item(value, _parent=tomlkit.array()).as_string()
    return str(value)


def _quoted(text: str) -> str:
    """`text` as a TOML string; in single quotes where it can be, as they need no escapes and read well in a list."""
    plain = text.isprintable() and "'" not in text
    return f"'{text}'" if plain else tomlkit.item(text).as_string()


def _anchor(section: object, folder: Path, *, everywhere: bool) -> None:
    """Make a relative `python = "file.py:function"` absolute, seen from the recipe's folder.

    `everywhere`: any text of that form inside the section is one, under whatever key.
    """
    items = section.items() if isinstance(section, dict) else enumerate(section) if isinstance(section, list) else ()
    for key, value in list(items):
        if not isinstance(value, str):
            if everywhere:
                _anchor(value, folder, everywhere=True)
            continue
        file, colon, function = value.rpartition(":")
        if colon and (key == "python" or (everywhere and file.endswith(".py"))):
            # Not resolve(): it raises for loops of links and null bytes, which loading the file names better.
            section[key] = f"{os.path.abspath(folder / file)}:{function}"  # type: ignore[index]


def _without_empty(section: Section, values: dict[str, Any]) -> dict[str, Any]:
    """`values` of a section without its own empty text, tables and lists: each of them is a default, and noise.

    What is passed on to torch or to a dataset stays: empty means something else there.
    """
    kept = {}
    for key, item in values.items():
        inner = getattr(section, key, None)
        item = _without_empty(inner, item) if isinstance(inner, Section) else item
        if key not in type(section).model_fields or item not in ("", {}, (), []):
            kept[key] = item
    return kept


def _plain(value: Any) -> Any:
    """`value` with tuples as lists, as TOML has no tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _set(values: dict[str, Any], dotted: str, value: Any, where: str) -> None:
    """Set or remove (None) the value at a dotted path; list items are addressed by their index."""
    at: Any = values
    *parents, last = dotted.split(".")
    for depth, key in enumerate(parents):
        if value is None and isinstance(at, dict) and key not in at:
            return  # nothing there to remove
        try:
            at = at[int(key)] if isinstance(at, (list, tuple)) else at.setdefault(key, {})
        except (IndexError, ValueError) as error:
            here = ".".join(parents[: depth + 1])
            raise RecipeError(f"{where}: {here}", f"there is no item {key}", f"There are {len(at)} of them.") from error
        if not isinstance(at, (dict, list, tuple)):
            here = ".".join(parents[: depth + 1])
            raise RecipeError(f"{where}: {dotted}", f"{here} is a value and has no keys", f"Set {here} itself.")
    if isinstance(at, (list, tuple)):
        raise RecipeError(f"{where}: {dotted}", "names a whole list item", f"Name a key of it: {dotted}.name.")
    if value is None:
        at.pop(last, None)
    else:
        at[last] = value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


_REMEDIES = {
    "int_type": "Try 10.",
    "float_type": "Try a number such as 0.01.",
    "string_type": "Put it in quotes.",
    "bool_type": "Try true or false.",
    "missing": "Add it.",
}


def _explain(error: ValidationError, where: str) -> RecipeError:
    """The first of pydantic's errors, as file, key, value and remedy."""
    first = min(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", len(e["loc"])))
    path = _dotted(first["loc"])
    kind, given = first["type"], first.get("input")
    at = f"{where}: {path}" if path else where
    if kind == "extra_forbidden":
        known = _fields_at(first["loc"][:-1])
        remedy = nearest(str(first["loc"][-1]), known) or f"Known here: {', '.join(known)}."
        return RecipeError(at, "is not a setting", remedy)
    if kind == "missing":
        return RecipeError(at, "is missing", _REMEDIES["missing"])
    if kind == "value_error":
        what, _, remedy = str(first["ctx"]["error"]).partition(". ")
        return RecipeError(at, what, remedy)
    shown = _shown(given)
    if isinstance(given, float) and not math.isfinite(given):
        return RecipeError(at, f"{shown} is not a finite number", "Try 0.01.")
    noun = {"int_type": "a whole number", "float_type": "a number", "string_type": "text", "bool_type": "true or false"}
    if kind in noun:
        return RecipeError(at, f"{shown} is not {noun[kind]}", _REMEDIES[kind])
    message = first["msg"].removeprefix("Input ")
    return RecipeError(at, f"{shown} {message}", _REMEDIES.get(kind, "Mend the value."))


def _shown(value: object) -> str:
    """A wrong value, short enough for a line."""
    if not isinstance(value, (str, int, float)):
        return f"a {type(value).__name__}"
    try:
        text = str(value)
    except ValueError:  # Python refuses to print whole numbers of more than 4300 digits
        return "a number of thousands of digits"
    line = " ".join(text.split())
    return f"'{line}'" if len(line) <= 60 else f"'{line[:57]}…'"


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """The known keys of the section at `location`."""
    section: type[BaseModel] = Recipe
    for key in location:
        kind = section.model_fields[key].annotation if key in section.model_fields else None
        candidates = [kind, *getattr(kind, "__args__", ())]
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return []
        section = found[0]
    return list(section.model_fields)
