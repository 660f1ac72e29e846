"""What the settings pane says about torch-tui's own keys: where they stand, what they do, type, range and default.

Types, ranges and defaults are read from `engine.recipe`; written down is only what a section's class can't know.
"""

from __future__ import annotations

import typing
from functools import cache
from types import UnionType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.recipe import Part, Recipe, Section, format_value

# In the order of the form. What a section has and no group names stands in the last one.
GROUPS: dict[str, tuple[str, ...]] = {
    "how long": ("training.epochs", "training.limit_batches", "training.overfit_one_batch"),
    "stop early": tuple(f"training.early_stopping.{key}" for key in ("patience", "metric", "min_delta")),
    "exactly how": ("training.seed", "training.deterministic"),
    "averaged weights": tuple(f"training.average.{key}" for key in ("kind", "decay", "start")),
    "batches": ("data.batch_size", "training.accumulate", "data.drop_last"),
    "numbers that go wrong": (
        "training.clip_grad_norm",
        "training.clip_grad_value",
        "training.on_nan",
        "training.nan_lr_factor",
        "training.health_every",
    ),
    "memory and speed": (
        "training.device",
        "training.precision",
        "training.threads",
        "training.compile",
        "training.channels_last",
        "training.gradient_checkpointing",
        "data.in_memory",
        "data.num_workers",
        "data.worker_timeout",
    ),
    "checkpoints": ("training.checkpoint_every", "training.keep_checkpoints"),
    "data": (
        "data.transforms",
        "data.augment",
        "data.options",
        "data.standardize_target",
        "data.subset",
        "data.sampler",
        "data.on_bad_sample",
        "data.mix",
    ),
    "which samples are what": tuple(
        f"data.split.{key}" for key in ("train", "val", "test", "how", "by", "folds", "fold", "seed")
    ),
}  # fmt: skip
FIRST = ("how long", "batches")
"""Groups that stand before loss, optimizer and scheduler."""
_ELSEWHERE = ("data.name", "data.path", "data.format", "data.python")  # the data pane chooses them

HELP = {
    "training.epochs": "How often every training sample is seen.",
    "training.limit_batches": "Batches of each part an epoch, to try something out; 0 is all.",
    "training.overfit_one_batch": "Train on the first batch alone: its loss must go to 0, or the recipe has a mistake.",
    "training.early_stopping.patience": "Epochs without improvement after which the run ends; 0 is off.",
    "training.early_stopping.metric": "What must improve on the validation part: loss, or a metric of the task.",
    "training.early_stopping.min_delta": "What is less than that is no improvement; in the metric's unit.",
    "training.seed": "Decides weights, order and dropout; on the CPU the same seed gives the same run.",
    "training.deterministic": "Only algorithms that give the same bits each time, on a GPU too; slower.",
    "training.average.kind": "ema follows the weights, swa is their mean over epochs; measured beside the raw ones.",
    "training.average.decay": "Of ema: it moves by 1 - decay a step. 0.999 remembers about 1000 steps.",
    "training.average.start": "Of swa: epochs to leave out before the mean begins.",
    "data.batch_size": "Samples that one step learns from. b finds what fits.",
    "training.accumulate": "Micro-batches a step: less memory, the same gradients; batch norm sees the smaller ones.",
    "data.drop_last": "Leave out an epoch's last batch when it is not full.",
    "training.clip_grad_norm": "Greatest norm of all gradients together; 0 is off. 1.0 tames spikes.",
    "training.clip_grad_value": "Greatest size of any one gradient; 0 is off.",
    "training.on_nan": "When a loss or gradient is no number: stop, leave the step out, or go back to a checkpoint.",
    "training.nan_lr_factor": "After a rollback the learning rate is multiplied by it.",
    "training.health_every": "Steps between two looks at the layers (h); 0 is never.",
    "training.device": "auto, cpu, cuda, cuda:1 or mps.",
    "training.precision": "fp32 is exact; tf32 and bf16 are faster on new GPUs; fp16 scales gradients, on a GPU.",
    "training.threads": "On the CPU: cores that share an operation; 0 is as many as its size keeps busy.",
    "training.compile": "torch.compile: slow first steps, then faster ones; reduce-overhead: with CUDA graphs.",
    "training.channels_last": "Pictures in memory as H×W×C; auto: convolutions on a CPU, or a GPU in half precision.",
    "training.gradient_checkpointing": "Compute activations twice and keep few: much less memory, a third slower.",
    "data.in_memory": "All samples as one tensor on the device, if that takes under a quarter of what is free.",
    "data.num_workers": "Processes that read samples; auto measures how many are needed, the log says why.",
    "data.worker_timeout": "A loading process silent for so long counts as hung.",
    "training.checkpoint_every": 'For example "1 epoch", "500 steps" or "10 min".',
    "training.keep_checkpoints": "So many of the newest stay on disk; the best one always does.",
    "data.transforms": 'Fixed, such as [{name = "Normalize", mean = [0.5], std = [0.5]}].',
    "data.augment": 'Random, drawn for each sample: [{name = "RandomHorizontalFlip"}].',
    "data.options": "The dataset's own options.",
    "data.standardize_target": "Learn the target at mean 0 and deviation 1; metrics stay in its own unit.",
    "data.split.train": "Share of the samples to train on.",
    "data.split.val": "Share held out to choose by, after every epoch.",
    "data.split.test": "Share held out to the very end.",
    "data.split.how": "How samples are drawn: each class by the same shares, groups kept together, or in order.",
    "data.split.by": "The column that groups samples, or orders them; a folder or a date, for example.",
    "data.split.folds": "Validation is one of so many equal parts of all that is not test; 0 is off.",
    "data.split.fold": "Which of the folds is validation, counted from 0.",
    "data.subset": "Train on a share of the training samples, up to 1, or on so many of them.",
    "data.sampler": "balanced draws each class as often as the others; shuffle draws each sample once.",
    "data.on_bad_sample": "What becomes of one that can't be read: stop the run, or skip, count and list it.",
    "data.mix": 'Trained on as well, such as [{name = "USPS", weight = 0.5}].',
    "data.split.seed": "Decides which samples go where; the same seed gives the same split.",
    "loss.class_weights": "balanced lets a rare class count as much as a common one.",
    "optimizer.weight_decay_on_norms": "Decay norms and biases too; without it only weights shrink.",
    "optimizer.backbone_lr_factor": "What lies before the last layer learns at lr times this; 0.1 for fine-tuning.",
    "optimizer.warmup": 'The rate rises from 0 over it: "500 steps" or "1 epoch"; empty is off.',
    "scheduler.every": "When the scheduler moves.",
    "scheduler.schedulers": 'What it is made of: [{name = "LinearLR"}, {name = "StepLR", step_size = 5}].',
}

_BOUNDS = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}


@cache
def grouped() -> dict[str, tuple[str, ...]]:
    """Heading → keys, for every key of `[training]` and `[data]`."""
    named = {key for keys in GROUPS.values() for key in keys}
    rest = [key for section in ("training", "data") for key in _keys(section) if key not in (*named, *_ELSEWHERE)]
    return {**GROUPS, **({"more": tuple(rest)} if rest else {})}


@cache
def own_keys(section: str) -> tuple[str, ...]:
    """The keys of `[loss]`, `[optimizer]` or `[scheduler]` that are ours and not torch's."""
    return tuple(key for key in _keys(section) if key.rpartition(".")[2] not in ("name", "lr"))


def label(key: str) -> str:
    """What stands before the field: `early_stopping.patience`."""
    return key.partition(".")[2]


def setting_help(key: str) -> str:
    """`whole number from 0, default 0. Epochs without …`."""
    field = _field(key)
    default = field.get_default(call_default_factory=True)
    shown = (
        "" if default in ("", (), {}) else f", default {str(default) if default == 'none' else format_value(default)}"
    )
    return f"{_type_text(field.annotation)}{_range_text(field)}{shown}. {HELP.get(key, '')}".rstrip()


def _range_text(field: FieldInfo) -> str:
    """` above 0 and up to 1`: what the recipe takes; limits that only keep a number in 64 bits are left out."""
    said = []
    for bound in field.metadata:
        for kind, words in _BOUNDS.items():
            limit = getattr(bound, kind, None)
            if limit is not None and limit < 2**31:
                said.append(f"{words} {format_value(limit)}")
    return f" {' and '.join(said)}" if said else ""


def _keys(section: str) -> list[str]:
    return _keys_of(_section_class(Recipe.model_fields[section].annotation), section)


def _keys_of(kind: type[BaseModel], prefix: str) -> list[str]:
    keys = []
    for name, field in kind.model_fields.items():
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, Section) and not issubclass(inner, Part)
        keys += _keys_of(inner, f"{prefix}.{name}") if nested else [f"{prefix}.{name}"]  # type: ignore[arg-type]
    return keys


def _section_class(annotation: Any) -> type[BaseModel]:
    """The section in `Section` or `Section | None`."""
    candidates = (annotation, *typing.get_args(annotation))
    return next(each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel))


def _field(key: str) -> FieldInfo:
    kind: type[BaseModel] = Recipe
    *parents, last = key.split(".")
    for name in parents:
        kind = _section_class(kind.model_fields[name].annotation)
    return kind.model_fields[last]


def _type_text(annotation: Any) -> str:
    """`whole number`, or the alternatives: `fp32, tf32, bf16 or fp16`."""
    if typing.get_origin(annotation) is typing.Literal:
        *most, last = (
            str(value).lower() if isinstance(value, bool) else value for value in typing.get_args(annotation)
        )
        return f"{', '.join(most)} or {last}" if most else str(last)
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        return " or ".join(map(_type_text, typing.get_args(annotation)))
    names = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "table", tuple: "list"}
    return names.get(typing.get_origin(annotation) or annotation, "value")
