"""A recipe's model → a module, from layers, torchvision's zoo or a person's own file, and its table of shapes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from engine.data.prepare import Facts
from engine.data.samples import Progress
from engine.errors import ModelError, RecipeError, StudioError, with_article
from engine.models.layers import build_chain, trace
from engine.models.modules import module_rows
from engine.models.rows import LayerRow, Shape
from engine.models.traces import Flow
from engine.python_file import call, load_function
from engine.recipe import Recipe

OFFERED = ("shape", "outputs", "classes", "cardinalities")
"""What a person's own function is given if its signature names it: a sample's shape, twice how many outputs, and how
many codes each of the last columns has where they are codes of categories."""


def sizes(recipe: Recipe, facts: Facts) -> Mapping[str, int]:
    """What a recipe may write in place of a number."""
    found = {"targets" if recipe.task == "regression" else "classes": facts.outputs}
    if facts.vocabulary:
        return {**found, "vocabulary": facts.vocabulary, "length": facts.shape[0]}
    names = {1: ("features",), 2: ("length", "features"), 3: ("channels", "height", "width")}
    return found | dict(zip(names.get(len(facts.shape), ()), facts.shape, strict=False))


def wanted(recipe: Recipe, facts: Facts) -> Shape:
    """What the model must give of one sample."""
    return (facts.outputs, *facts.shape[-2:]) if recipe.task == "segmentation" else (facts.outputs,)


def flow(facts: Facts) -> Flow:
    """What reaches the first layer."""
    return Flow(facts.shape, facts.dtype, codes=facts.cardinalities)


def build_model(recipe: Recipe, facts: Facts, progress: Progress | None = None) -> nn.Module:
    """The model with freshly initialised weights on the CPU, so that a seed means the same on every device.

    Pretrained ones are loaded where there is a `progress` to tell of their download; without it all are fresh, for
    whom a checkpoint brings them or shapes are enough. Raises RecipeError or ModelError. A person's own function may
    raise anything.
    """
    model = recipe.model
    if model.layers:
        return build_chain(model.layers, flow(facts), sizes(recipe, facts))
    if model.zoo:
        return _from_zoo(recipe, facts, progress)
    if model.python:
        return _from_python(recipe, facts)
    raise RecipeError("model", "has no layers", "Add one, or set zoo or python.")


def model_rows(recipe: Recipe, facts: Facts, *, aside: bool = False) -> list[LayerRow]:
    """The model as a table of layers with shapes; the modules that it is made of where it is not made of layers.

    `aside`: a training may be running in another thread, so nothing may draw or rewind the process's random numbers.
    """
    if recipe.model.layers:
        return trace(recipe.model.layers, flow(facts), sizes(recipe, facts))
    if aside or recipe.model.zoo:
        return _rows_on("meta", recipe, facts)
    with torch.random.fork_rng(devices=[]):
        rows = _rows_on("meta", recipe, facts)
        if rows[-1].error is not None:
            # A person's code may need real numbers (.item(), NumPy), which meta tensors lack.
            rows = _rows_on("cpu", recipe, facts)
    return rows


def weightless_model(recipe: Recipe, facts: Facts) -> nn.Module:
    """The model without memory, and no random number is drawn. Raises what `build_model` raises."""
    if recipe.model.zoo:
        from engine.models.zoo.building import shape_of_zoo

        return shape_of_zoo(recipe.model, facts)
    with torch.device("meta"):
        return build_model(recipe, facts)


def _rows_on(device: str, recipe: Recipe, facts: Facts) -> list[LayerRow]:
    try:
        if recipe.model.python:  # what the file makes when it is run must be real
            load_function(recipe.model.python, "model.python")
        model = weightless_model(recipe, facts) if device == "meta" else build_model(recipe, facts)
        with torch.device(device):
            return module_rows(model, flow(facts), _refusal(recipe, facts))
    except StudioError as error:
        name = recipe.model.zoo or recipe.model.python.rpartition("/")[2] or "no layers"
        return [LayerRow(name, "", facts.shape, None, 0, error)]


def _from_zoo(recipe: Recipe, facts: Facts, progress: Progress | None) -> nn.Module:
    from engine.models.zoo.building import build_zoo  # torchvision takes a second to import

    return build_zoo(recipe.model, facts, progress)


def _from_python(recipe: Recipe, facts: Facts) -> nn.Module:
    function = load_function(recipe.model.python, "model.python")
    model = call(function, _offered(facts), recipe.model.options, "model", ModelError)
    if not isinstance(model, nn.Module):
        raise ModelError("model.python", f"returned {with_article(type(model).__name__)}", "Return a torch.nn.Module.")
    lazy = [name for name, each in model.named_parameters() if is_lazy(each)]
    if lazy:  # nothing can be counted, drawn or optimized before it has run
        what = f"returned lazy layers: {lazy[0]} has no size yet"
        raise ModelError("model.python", what, "Give their sizes; the function may ask for the data's shape.")
    return model


def _refusal(recipe: Recipe, facts: Facts) -> Callable[[BaseException], ModelError] | None:
    """How a model of the zoo that fails to run is explained; another is by what it raised."""
    if not recipe.model.zoo:
        return None
    from engine.models.zoo.building import refusal

    return lambda error: refusal(recipe.model, facts, error)


def given(function: Callable[..., Any], facts: Facts) -> dict[str, Any]:
    """What a person's own function is told of the data: only what its signature names."""
    offered = _offered(facts)
    return {name: offered[name] for name in inspect.signature(function).parameters if name in offered}


def _offered(facts: Facts) -> dict[str, Any]:
    return dict(zip(OFFERED, (facts.shape, facts.outputs, facts.outputs, facts.cardinalities), strict=True))
