"""Recipe: everything needed to train one thing, as a TOML file and as a validated object.

This package loads no torch, so it checks form only: types, ranges, known keys. Whether `optimizer.name` exists and
takes `momentum` is for `engine.catalog` to say, because only torch knows.
"""

from engine.recipe.recipe import TENSOR_FILES, Recipe, changed_settings, steps_name_files
from engine.recipe.sections import (
    DEEPEST,
    Average,
    Data,
    Dataset,
    EarlyStopping,
    Layer,
    Loss,
    Mixed,
    Model,
    Optimizer,
    Part,
    Scheduler,
    Section,
    Split,
    TaskName,
    Training,
)
from engine.recipe.values import format_value, parse_override, parse_value

__all__ = [
    "DEEPEST",
    "TENSOR_FILES",
    "Average",
    "Data",
    "Dataset",
    "EarlyStopping",
    "Layer",
    "Loss",
    "Mixed",
    "Model",
    "Optimizer",
    "Part",
    "Recipe",
    "Scheduler",
    "Section",
    "Split",
    "TaskName",
    "Training",
    "changed_settings",
    "format_value",
    "parse_override",
    "parse_value",
    "steps_name_files",
]
