"""A recipe's model → a module, from layers, torchvision's zoo or a person's own file, and its table of shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.prepare import Facts
from engine.errors import ModelError, RecipeError, StudioError, first_line, nearest
from engine.models.layers import LayerRow, Shape, build_chain, count_parameters, trace
from engine.python_file import call, line_of, load_function, said
from engine.recipe import Recipe

OFFERED = ("shape", "outputs", "classes")
"""What a person's own function is given if its signature names it: a sample's shape, and twice how many outputs."""


def sizes(recipe: Recipe, facts: Facts) -> Mapping[str, int]:
    """What a recipe may write in place of a number."""
    return {"classes" if recipe.task == "classification" else "targets": facts.outputs}


def build_model(recipe: Recipe, facts: Facts) -> nn.Module:
    """The model with freshly initialised weights on the CPU, so that a seed means the same on every device.

    Raises RecipeError or ModelError. A person's own function may raise anything.
    """
    model = recipe.model
    if model.layers:
        return build_chain(model.layers, facts.shape, sizes(recipe, facts))
    if model.zoo:
        return _from_zoo(recipe, facts)
    if model.python:
        return _from_python(recipe, facts)
    raise RecipeError("model", "has no layers", "Add one, or set zoo or python.")


def model_rows(recipe: Recipe, facts: Facts, *, aside: bool = False) -> list[LayerRow]:
    """The model as a table of layers with shapes; one row an immediate child where it is not made of layers.

    `aside`: a training may be running in another thread, so nothing may draw or rewind the process's random numbers.
    """
    if recipe.model.layers:
        return trace(recipe.model.layers, facts.shape, sizes(recipe, facts))
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
        if recipe.model.python:  # what the file makes when it is run must be real
            load_function(recipe.model.python, "model.python")
        with torch.device(device):
            return _child_rows(build_model(recipe, facts), facts.shape)
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
    offered = dict(zip(OFFERED, (facts.shape, facts.outputs, facts.outputs), strict=True))
    model = call(function, offered, recipe.model.options, "model", ModelError)
    if not isinstance(model, nn.Module):
        raise ModelError("model.python", f"returned a {type(model).__name__}", "Return a torch.nn.Module.")
    return model


def _child_rows(model: nn.Module, shape: Shape) -> list[LayerRow]:
    """One row for each immediate child that runs, in the order in which they run.

    A last row stands for the model itself where it computes or holds parameters beside its children.
    """
    seen: dict[str, LayerRow] = {}

    def note(name: str, child: nn.Module) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            first = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
            seen[name] = LayerRow(
                f"{name}: {type(child).__name__}",
                f"{len(child)} blocks" if isinstance(child, nn.Sequential) else "",
                tuple(first.shape[1:]) if first is not None else None,
                tuple(output.shape[1:]) if isinstance(output, Tensor) else None,
                count_parameters(child),
            )

        return child.register_forward_hook(hook)

    handles = [note(name, child) for name, child in model.named_children()]
    whole = type(model).__name__
    try:
        # Training mode, as some models (googlenet) return more than scores in it.
        with torch.no_grad():
            output = model.train()(torch.zeros(2, *shape))
    except BaseException as error:  # a person's module may raise anything
        line = line_of(error)
        text = f"{line}: {said(error)}" if line else first_line(error)
        what = f"{whole} fails on samples of {'×'.join(map(str, shape))}: {text}"
        remedy = "Mend it there, or fit the data to it." if line else ""
        failed = ModelError("model", what, remedy or "Choose another dataset or model, or transform the data.")
        return [*seen.values(), LayerRow(whole, "", shape, None, _beside(model, seen), failed)]
    finally:
        for handle in handles:
            handle.remove()
    rows, rest = list(seen.values()), _beside(model, seen)
    reached = rows[-1].output if rows else shape
    if not isinstance(output, Tensor) or output.ndim < 1:
        what = f"{whole} returns a {type(output).__name__} while it trains"
        mended = ModelError("model", what, "Return one tensor; of a zoo model, set options such as aux_logits = false.")
        return [*rows, LayerRow(whole, "", reached, None, rest, mended)]
    given = tuple(output.shape[1:])
    if rows and not rest and given == reached:
        return rows
    return [*rows, LayerRow(whole, "", reached, given, rest)]


def _beside(model: nn.Module, rows: Mapping[str, LayerRow]) -> int:
    """Parameters of the model that are in none of the rows; one that children share is in each of theirs."""
    return max(0, count_parameters(model) - sum(row.parameters for row in rows.values()))
