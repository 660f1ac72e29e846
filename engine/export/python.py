"""A recipe → one readable Python file that trains it and needs torch and torchvision alone.

On a CPU it draws the same weights, the same split and the same batches as torch-tui, so that the losses are the same.
"""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass

import torch
from torch import nn

from engine.code import block, call, imported, literal, wrapped
from engine.data.prepare import Facts, describe, part_sizes
from engine.data.sources import Source
from engine.errors import RecipeError, StudioError
from engine.export.data import data_code
from engine.export.taken.pieces import FUNCTIONS, PADDED, PLAIN, imports, pieces
from engine.export.training import training_code
from engine.models.build import build_model, flow, given, sizes, weightless_model
from engine.models.rows import count_parameters
from engine.models.source import model_code
from engine.policies.graphs import GRAPHS
from engine.python_file import load_function
from engine.recipe import Data, Recipe

_WIDTH = 116


@dataclass(frozen=True)
class _Model:
    """How the file makes the model: the expression, the lines that it needs, and classes of ours.

    `blank` is the model, without numbers where it can be.
    """

    made: str
    blank: nn.Module
    lines: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    padded: bool = False


def python_file(recipe: Recipe, name: str, file: str = "") -> str:
    """The text of the file. `name` is what the recipe is called, `file` what the file will be.

    Draws no random numbers, unless a model of a person's own can't be made otherwise, and loads no data but the first
    sample of a dataset of theirs. Raises a StudioError that names the key at fault.
    """
    _check_written(recipe)
    source, facts = describe(recipe, aside=True)
    if "val" in source.sizes:
        raise RecipeError("data", "brings its own validation set, which a Python file can't say yet", "Give it none.")
    model = _model(recipe, facts)
    data = data_code(recipe, source)
    steps = max(1, math.ceil(part_sizes(source, recipe.data)["train"] / recipe.data.batch_size))
    training = training_code(recipe, facts, model.blank, data, model.made, steps)
    classes = pieces(sorted(model.needs), PADDED if model.padded else PLAIN)
    lines = [*model.lines, *data.lines, *training.lines]
    own = {"imported"} if any("imported(" in line for line in lines) else set[str]()
    functions = pieces(sorted(data.needs | training.needs | own), FUNCTIONS)
    constants = [*training.constants, *data.constants]
    body = [_separated(classes), *model.lines, "", "", _separated(functions), *data.lines, *training.lines]
    code = _tidy("\n".join([*constants, "", "", *body]))
    left_out = (*_left_out(recipe, source, data.parts), *data.unlike)
    about = _about(recipe, name, file or f"{identifier(name)}.py", left_out)
    head = [*about, "", "# B batch · C channels or width · H height · W width of an image · T time", "", _FUTURE, ""]
    return "\n".join([*head, *imports(code), "", code])


def _check_written(recipe: Recipe) -> None:
    """Raise RecipeError for what the file would not do."""
    if recipe.task not in ("classification", "regression"):
        raise RecipeError("task", f"a {recipe.task} can't be written as a Python file yet", "Train it here.")
    data, plain = recipe.data, Data(name="line")
    if data.path:
        what = "the reading of files of your own can't be written into a Python file yet"
        raise RecipeError("data.path", what, "Read them by data.python, a function of your own.")
    beyond = {
        "data.split.how": data.split.how != plain.split.how,
        "data.split.folds": bool(data.split.folds),
        "data.subset": data.subset != plain.subset,
        "data.mix": bool(data.mix),
        "data.sampler": data.sampler != plain.sampler,
    }
    for key in (key for key, said in beyond.items() if said):
        raise RecipeError(key, "can't be written as a Python file yet", "Remove it, or keep to torch-tui's own runs.")


_FUTURE = "from __future__ import annotations"


def _tidy(code: str) -> str:
    """Two lines between definitions, and none that is too long."""
    lines = re.sub(r"\n{4,}", "\n\n\n", code).rstrip().split("\n")
    return "\n".join(part for line in lines for part in wrapped(line)) + "\n"


def _separated(definitions: list[str]) -> str:
    return "".join(f"{each}\n\n\n" for each in definitions).removesuffix("\n")


def _model(recipe: Recipe, facts: Facts) -> _Model:
    if recipe.model.layers:
        code = model_code(recipe.model.layers, flow(facts), sizes(recipe, facts))
        return _Model("Model()", _blank(recipe, facts), code.lines, code.needs, code.padded)
    if recipe.model.zoo:
        from engine.export.zoo import zoo_code  # torchvision takes a second to import
        from engine.models.zoo.building import plan_zoo

        plan = plan_zoo(recipe.model, facts)
        return _Model("make_model()", plan.twin, zoo_code(plan, facts))
    blank = _blank(recipe, facts)  # says what is wrong with it
    function = load_function(recipe.model.python, "model.python")
    values = {**given(function, facts), **recipe.model.options}
    written = [f"{name}={literal(value)}" for name, value in values.items()]
    made = call(imported(recipe.model.python), written)
    about = f"Your own model, {count_parameters(blank):,} parameters; its file must stay where it is."
    lines = ("def make_model() -> nn.Module:", *block([f'"""{about}"""', f"return {made}"]))
    return _Model("make_model()", blank, lines)


def _blank(recipe: Recipe, facts: Facts) -> nn.Module:
    """The model without numbers; a person's own, where it can't do without, with them."""
    with torch.random.fork_rng(devices=[], enabled=bool(recipe.model.python)):
        try:
            return weightless_model(recipe, facts)
        except StudioError:
            if not recipe.model.python:
                raise
        return build_model(recipe, facts)


def _about(recipe: Recipe, name: str, file: str, left_out: tuple[str, ...]) -> list[str]:
    """The docstring of the file."""
    title = [recipe.title or name, *(["", recipe.about] if recipe.about else [])]
    paragraphs = [
        *(line for part in title for line in textwrap.wrap(part, _WIDTH) or [""]),
        "",
        *textwrap.wrap(
            f"Written by torch-tui from the recipe {name}. It needs torch and torchvision alone. On a CPU it draws the"
            " same weights, the same split and the same batches as torch-tui does, so that the losses are the same but"
            " for rounding; the names in its state_dict are those of torch-tui's checkpoints.",
            _WIDTH,
        ),
        "",
        f"    python {file}              trains, measures, keeps the weights",
        f"    python {file} --steps 5    prints the losses of five steps, keeps nothing",
        "",
        "Of what torch-tui does this file does not:",
    ]
    for each in left_out:
        paragraphs += textwrap.wrap(each, _WIDTH, initial_indent="- ", subsequent_indent="  ")
    text = [line.replace("\\", "\\\\").replace('"""', "'''") for line in paragraphs]
    return [f'"""{text[0]}', *text[1:], '"""']


def _left_out(recipe: Recipe, source: Source, parts: tuple[str, ...]) -> list[str]:
    """What the loop of the file does not do, where the recipe asks for it."""
    training = recipe.training
    said = [
        "checkpoints and resuming; only the weights are kept",
        "numbers that are not finite, and memory that runs out, are not looked after",
    ]
    if training.average.kind != "none":
        said.append(f"training.average: there are no {training.average.kind.upper()} weights")
    if training.early_stopping.patience:
        said.append("training.early_stopping: it trains all epochs")
    if training.limit_batches:
        said.append("training.limit_batches: it takes all batches")
    if training.overfit_one_batch:
        said.append("training.overfit_one_batch: it takes all batches")
    if training.gradient_checkpointing:
        said.append("training.gradient_checkpointing: it keeps all activations")
    if training.compile == GRAPHS:
        said.append("training.compile: it is compiled, but without CUDA graphs")
    if recipe.data.num_workers not in ("auto", 0):
        said.append("data.num_workers: samples are read between the steps")
    if source.origin == "yours":
        said.append("what your dataset draws itself is drawn otherwise")
    if "val" not in parts:
        said.append("there is no validation part: the weights are those of the last epoch, not of the best")
    return said


def identifier(name: str) -> str:
    """A file's name that Python can import: `digits_cnn`."""
    found = "".join(each if each.isascii() and each.isalnum() else "_" for each in name).strip("_")
    return found if found and not found[0].isdigit() else f"run_{found}".rstrip("_")
