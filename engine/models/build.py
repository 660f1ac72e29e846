"""A recipe's model → a module, from layers, torchvision's zoo or a person's own file, and its table of shapes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from engine.data.prepare import Facts
from engine.errors import ModelError, RecipeError, StudioError, nearest
from engine.models.layers import Flow, build_chain, trace
from engine.models.modules import module_rows
from engine.models.rows import LayerRow
from engine.python_file import load_function
from engine.recipe import Recipe


def sizes(recipe: Recipe, facts: Facts) -> Mapping[str, int]:
    """What a recipe may write in place of a number."""
    found = {"classes" if recipe.task == "classification" else "targets": facts.outputs}
    if facts.vocabulary:
        return {**found, "vocabulary": facts.vocabulary, "length": facts.shape[0]}
    names = {1: ("features",), 2: ("length", "features"), 3: ("channels", "height", "width")}
    return found | dict(zip(names.get(len(facts.shape), ()), facts.shape, strict=False))


def flow(facts: Facts) -> Flow:
    """What reaches the first layer."""
    return Flow(facts.shape, facts.dtype)


def build_model(recipe: Recipe, facts: Facts) -> nn.Module:
    """The model with freshly initialised weights on the CPU, so that a seed means the same on every device.

    Raises RecipeError or ModelError. A person's own function may raise anything.
    """
    model = recipe.model
    if model.layers:
        return build_chain(model.layers, flow(facts), sizes(recipe, facts))
    if model.zoo:
        return _from_zoo(recipe, facts)
    if model.python:
        return _from_python(recipe, facts)
    raise RecipeError("model", "has no layers", "Add one, or set zoo or python.")


def model_rows(recipe: Recipe, facts: Facts, *, aside: bool = False) -> list[LayerRow]:
    """The model as a table of layers with shapes; the modules that it is made of where it is not made of layers.

    `aside`: a training may be running in another thread, so nothing may draw or rewind the process's random numbers.
    """
    if recipe.model.layers:
        return trace(recipe.model.layers, flow(facts), sizes(recipe, facts))
    if aside:
        return _rows_on("meta", recipe, facts)
    with torch.random.fork_rng(devices=[]):
        rows = _rows_on("meta", recipe, facts)
        if rows[-1].error is not None:
            # A person's code, and some of the zoo, need real numbers (.item(), NumPy), which meta tensors lack.
            rows = _rows_on("cpu", recipe, facts)
    return rows


def _rows_on(device: str, recipe: Recipe, facts: Facts) -> list[LayerRow]:
    try:
        with torch.device(device):
            return module_rows(build_model(recipe, facts), flow(facts))
    except StudioError as error:
        name = recipe.model.zoo or recipe.model.python.rpartition("/")[2] or "no layers"
        return [LayerRow(name, "", facts.shape, None, 0, error)]


def _from_zoo(recipe: Recipe, facts: Facts) -> nn.Module:
    from torchvision import models  # torchvision takes a second to import

    name, known = recipe.model.zoo, models.list_models(module=models)
    if name not in known:
        raise RecipeError("model.zoo", f"torchvision has no classification model '{name}'", nearest(name, known))
    options = {"num_classes": facts.outputs, **recipe.model.options}
    try:
        return models.get_model(name, weights=None, **options)  # type: ignore[no-any-return]
    except (TypeError, ValueError, AssertionError) as error:
        raise RecipeError("model.options", f"{name} refuses them: {error}", "Change them.") from error


def _from_python(recipe: Recipe, facts: Facts) -> nn.Module:
    function = load_function(recipe.model.python, "model.python")
    try:
        model = function(**{**given(function, facts), **recipe.model.options})
    except StudioError:
        raise
    except BaseException as error:  # a person's file may raise anything, SystemExit included
        what = f"{recipe.model.python.rpartition(':')[2]} fails: {type(error).__name__}: {error}"
        raise ModelError("model.python", what, "Mend the function.") from error
    if not isinstance(model, nn.Module):
        raise ModelError("model.python", f"returned a {type(model).__name__}", "Return a torch.nn.Module.")
    return model


def given(function: Callable[..., Any], facts: Facts) -> dict[str, Any]:
    """What a person's own function is told of the data.

    Only what its signature names: a function without parameters is as good as one that wants the shape.
    """
    offered = {"shape": facts.shape, "outputs": facts.outputs, "classes": facts.outputs}
    return {name: offered[name] for name in inspect.signature(function).parameters if name in offered}
