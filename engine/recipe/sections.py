"""The tables of a recipe: their keys, types, ranges and defaults."""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic import SerializerFunctionWrapHandler as Serialize

from engine.durations import Duration

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0, lt=2**63)]
TaskName = Literal["classification", "regression", "segmentation", "detection"]


def _duration(text: str) -> str:
    Duration.parse(text)
    return text


def _optional_duration(text: str) -> str:
    return _duration(text) if text else text


def _no_number(value: object) -> object:
    """For choices with true and false among them: to Python 1 is true."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"{value} is a number. Try true.")
    return value


def _freeze(value: object) -> object:
    count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not (count or value in ("none", "backbone")):
        raise ValueError(f"{value!r} is no part of a model. Try 'none', 'backbone', or the number of its first blocks.")
    return value


def _workers(value: object) -> object:
    count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 256
    if not (count or value == "auto"):
        raise ValueError(f"{value!r} is no number of processes. Try 'auto', or a whole number up to 256.")
    return value


def _share_or_count(value: float) -> float:
    if value > 1 and not isinstance(value, int):
        raise ValueError(f"{value:g} is neither a share up to 1 nor a whole number. Try 0.5, or 500.")
    return value


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


DEEPEST = 32
"""How deep layers may lie in layers: what reads, writes and shows them goes into each, and so do Python's calls."""


def _at_most_so_deep(parts: object, key: str) -> object:
    """Parts that hold others under `key`, looked at before anything else goes into them."""
    level = [parts]
    for _ in range(DEEPEST + 1):
        held = (part for each in level if isinstance(each, (list, tuple)) for part in each)
        level = [part.get(key) if isinstance(part, dict) else getattr(part, key, ()) for part in held]
    if any(level):
        raise ValueError(f"are nested more than {DEEPEST} deep. Take some out of the others.")
    return parts


class Layer(Part):
    """A layer of a model. A container (`Sequential`, `Residual`, `Parallel`, `Repeat`) has `layers` of its own."""

    layers: Annotated[tuple[Layer, ...], Field(strict=False)] = ()

    @model_serializer(mode="wrap")
    def _layers_last(self, serialize: Serialize) -> dict[str, Any]:
        """Left out where there are none, as of most layers; after the layer's own parameters, as TOML wants tables."""
        values: dict[str, Any] = serialize(self)
        inner = values.pop("layers", ())
        return {**values, "layers": inner} if inner else values


Layers = Annotated[tuple[Layer, ...], Field(strict=False)]


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
    """Shares of the samples. A dataset with a test set of its own keeps it, and only train and val are drawn.

    `how` draws them: `random`; `stratified`, each class by the same shares; `grouped`, samples with the same value of
    the column `by` stay together; `ordered`, the first by the column `by` (or as they come) are trained on, the last
    are the test. With `folds`, validation is the part number `fold` of so many equal ones of all that is not test.
    """

    train: Annotated[float, Field(gt=0, le=1)] = 0.8
    val: Fraction = 0.1
    test: Fraction = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    how: Literal["random", "stratified", "grouped", "ordered"] = "random"
    by: str = ""
    folds: Annotated[int, Field(ge=0, le=1000)] = 0
    fold: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _at_most_everything(self) -> Self:
        total = self.train + self.val + self.test
        if total > 1 + 1e-9:
            left = 1 - self.val - self.test
            remedy = f"lower train to {left:g}, or the others" if left > 1e-9 else "lower val or test"
            shares = f"{self.train:g} + {self.val:g} + {self.test:g}"
            raise ValueError(f"train + val + test is {shares} = {total:g}. Make it at most 1: {remedy}.")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.how == "grouped" and not self.by:
            raise ValueError("is grouped by no column. Set by to its name.")
        if self.by and self.how not in ("grouped", "ordered"):
            raise ValueError(f'has by, which a {self.how} split does not use. Set how = "grouped", or remove it.')
        if self.folds == 1:
            raise ValueError("has one fold, which leaves nothing to train on. Try 5, or 0 for none.")
        if self.fold >= max(1, self.folds):
            raise ValueError(f"has no fold {self.fold} of {self.folds}. They are counted from 0.")
        return self


class Dataset(Section):
    """Where samples come from: `name` of the catalog, `path` of files in some `format`, or `python` for code.

    `options` are those of the dataset, the format, or the function.
    """

    name: str = ""
    path: str = ""
    format: str = "auto"
    python: str = ""
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(map(bool, (self.name, self.path, self.python))) != 1:
            raise ValueError("needs one dataset. Set one of name, path and python.")
        if self.format != "auto" and not self.path:
            raise ValueError("has a format, which only files have. Set path, or remove it.")
        return self


class Mixed(Dataset):
    """A dataset trained on beside `[data]`. Its samples are drawn `weight` times as often as each of those."""

    weight: Positive = 1.0


class Data(Dataset):
    """`[data]`: which dataset, how it is split, transformed and served.

    `path = "photos"` reads files of one's own, `python = "path/to/file.py:make_dataset"` calls a function of one's own.
    `subset` trains on a share of the training samples (a number up to 1), or on so many. `balanced` draws each class as
    often as the others. `on_bad_sample` says what becomes of a sample that can't be read: `stop` the run, or `skip` it.
    `num_workers` processes read the samples; `auto` measures how many are needed.
    """

    batch_size: Count = 64
    split: Split = Split()
    subset: Annotated[float | int, Field(gt=0), AfterValidator(_share_or_count)] = 1.0
    mix: Annotated[tuple[Mixed, ...], Field(strict=False)] = ()
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    transforms: Parts = ()
    augment: Parts = ()
    standardize_target: bool = False
    drop_last: bool = False
    in_memory: bool = True
    on_bad_sample: Literal["stop", "skip"] = "stop"
    num_workers: Annotated[Literal["auto"] | int, BeforeValidator(_workers)] = "auto"
    worker_timeout: DurationText = "5 min"

    @field_validator("transforms", "augment", mode="before")
    @classmethod
    def _not_too_deep(cls, parts: object) -> object:
        return _at_most_so_deep(parts, "transforms")


class Model(Section):
    """`[model]`: layers, a torchvision model by name, or one's own function.

    `weights` names pretrained ones of the zoo; empty is from scratch. `freeze` holds the backbone, or the first so many
    blocks, for the first `unfreeze_at` epochs; 0 is for good.
    """

    layers: Layers = ()
    zoo: str = ""
    python: str = ""
    options: dict[str, Any] = {}
    weights: str = ""
    freeze: Annotated[Literal["none", "backbone"] | int, BeforeValidator(_freeze)] = "none"
    unfreeze_at: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("layers", mode="before")
    @classmethod
    def _not_too_deep(cls, layers: object) -> object:
        return _at_most_so_deep(layers, "layers")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [key for key in ("layers", "zoo", "python") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"has {' and '.join(given)}. Keep one of them.")
        if self.options and not (self.zoo or self.python):
            raise ValueError("has options, which only zoo and python take. Remove them.")
        if self.weights and not self.zoo:
            raise ValueError("has weights, which only zoo takes. Remove them.")
        if self.unfreeze_at and self.freeze == "none":
            raise ValueError('has unfreeze_at, and nothing is frozen. Set freeze = "backbone", or remove it.')
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
    health_every: Annotated[int, Field(ge=0, lt=2**63)] = 250
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    compile: Annotated[Literal[False, True, "reduce-overhead"], BeforeValidator(_no_number)] = False
    channels_last: Annotated[Literal["auto", True, False], BeforeValidator(_no_number)] = "auto"
    deterministic: bool = False
    gradient_checkpointing: bool = False
