"""A recipe's model → a module, from layers, torchvision's zoo or a person's own file, and its table of shapes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.load import Progress
from engine.data.prepare import Facts
from engine.errors import ModelError, RecipeError, StudioError, first_line
from engine.models.auxiliary import main_and_auxiliary
from engine.models.layers import LayerRow, Shape, build_chain, count_parameters, trace
from engine.python_file import load_function
from engine.recipe import Recipe


def sizes(recipe: Recipe, facts: Facts) -> Mapping[str, int]:
    """What a recipe may write in place of a number."""
    return {"classes" if recipe.task == "classification" else "targets": facts.outputs}


def build_model(recipe: Recipe, facts: Facts, progress: Progress | None = None) -> nn.Module:
    """The model with freshly initialised weights on the CPU, so that a seed means the same on every device.

    Pretrained ones are loaded where there is a `progress` to tell of their download; without it all are fresh, for
    whom a checkpoint brings them or shapes are enough. Raises RecipeError or ModelError. A person's own function may
    raise anything.
    """
    model = recipe.model
    if model.layers:
        return build_chain(model.layers, facts.shape, sizes(recipe, facts))
    if model.zoo:
        return _from_zoo(recipe, facts, progress)
    if model.python:
        return _from_python(recipe, facts)
    raise RecipeError("model", "has no layers", "Add one, or set zoo or python.")


def model_rows(recipe: Recipe, facts: Facts, *, aside: bool = False) -> list[LayerRow]:
    """The model as a table of layers with shapes; one row an immediate child where it is not made of layers.

    `aside`: a training may be running in another thread, so nothing may draw or rewind the process's random numbers.
    """
    if recipe.model.layers:
        return trace(recipe.model.layers, facts.shape, sizes(recipe, facts))
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
        model = weightless_model(recipe, facts) if device == "meta" else build_model(recipe, facts)
        with torch.device(device):
            return _child_rows(model, facts.shape, lambda error: _refusal(recipe, facts, model, error))
    except StudioError as error:
        name = recipe.model.zoo or recipe.model.python.rpartition("/")[2] or "no layers"
        return [LayerRow(name, "", facts.shape, None, 0, error)]


def _from_zoo(recipe: Recipe, facts: Facts, progress: Progress | None) -> nn.Module:
    from engine.models.zoo.building import build_zoo  # torchvision takes a second to import

    return build_zoo(recipe.model, facts, progress)


def _from_python(recipe: Recipe, facts: Facts) -> nn.Module:
    function = load_function(recipe.model.python, "model.python")
    offered: dict[str, Any] = {"shape": facts.shape, "outputs": facts.outputs, "classes": facts.outputs}
    # Only what the signature names is given: a function without parameters is as good as one that wants the shape.
    given = {name: offered[name] for name in inspect.signature(function).parameters if name in offered}
    try:
        model = function(**{**given, **recipe.model.options})
    except StudioError:
        raise
    except BaseException as error:  # a person's file may raise anything, SystemExit included
        what = f"{recipe.model.python.rpartition(':')[2]} fails: {type(error).__name__}: {error}"
        raise ModelError("model.python", what, "Mend the function.") from error
    if not isinstance(model, nn.Module):
        raise ModelError("model.python", f"returned a {type(model).__name__}", "Return a torch.nn.Module.")
    return model


def _refusal(recipe: Recipe, facts: Facts, model: nn.Module, error: BaseException) -> ModelError:
    if recipe.model.zoo:
        from engine.models.zoo.building import refusal

        return refusal(recipe.model, facts, error)
    what = f"{type(model).__name__} fails on samples of {'×'.join(map(str, facts.shape))}: {first_line(error)}"
    return ModelError("model", what, "Choose another dataset or model, or transform the data.")


def _child_rows(model: nn.Module, shape: Shape, refusal: Callable[[BaseException], ModelError]) -> list[LayerRow]:
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
        # Training mode, as some models return more than scores in it.
        with torch.no_grad():
            output, _ = main_and_auxiliary(model.train()(torch.zeros(2, *shape)))
    except BaseException as error:  # a person's module may raise anything
        return [*seen.values(), LayerRow(whole, "", shape, None, _beside(model, seen), refusal(error))]
    finally:
        for handle in handles:
            handle.remove()
    rows, rest = list(seen.values()), _beside(model, seen)
    reached = rows[-1].output if rows else shape
    if not isinstance(output, Tensor) or output.ndim < 1:
        what = f"{whole} returns a {type(output).__name__} while it trains"
        mended = ModelError("model", what, "Return one tensor, or a named tuple of it and auxiliary heads.")
        return [*rows, LayerRow(whole, "", reached, None, rest, mended)]
    given = tuple(output.shape[1:])
    if rows and not rest and given == reached:
        return rows
    return [*rows, LayerRow(whole, "", reached, given, rest)]


def _beside(model: nn.Module, rows: Mapping[str, LayerRow]) -> int:
    """Parameters of the model that are in none of the rows; one that children share is in each of theirs."""
    return max(0, count_parameters(model) - sum(row.parameters for row in rows.values()))
