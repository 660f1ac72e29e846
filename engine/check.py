"""What is known of a recipe before a step is run: every shape, every part's size, and all that is wrong with it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import nn

from engine.data.prepare import Facts, check_trainable, describe, part_sizes
from engine.data.samples import Progress
from engine.data.sources import Source
from engine.devices.device import choose
from engine.errors import DataError, ModelError, NotDownloaded, RecipeError, SampleRefused, StudioError, first_line
from engine.models.build import flow, model_rows, wanted, weightless_model
from engine.models.build import sizes as symbols
from engine.models.fixes import Fix, fixes, mends, title_of
from engine.models.rows import LayerRow, shape_text
from engine.models.starting import kind_of, start, with_model
from engine.optim.optimizers import make_optimizer
from engine.optim.schedules import make_scheduler, warmup_steps
from engine.policies.early_stopping import Patience
from engine.policies.freezing import Freezing
from engine.policies.precision import Precision
from engine.recipe import Recipe
from engine.tasks.losses import fit_loss, make_loss, metrics
from engine.training.control import Stopped

T = TypeVar("T")

_SKIP = {"data.on_bad_sample": "skip"}


@dataclass(frozen=True)
class Checked:
    """The findings about one recipe. `problems` is empty when it can be trained.

    `fixes` mend the first thing that is wrong with the model.
    """

    recipe: Recipe
    source: Source | None = None
    facts: Facts | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[LayerRow] = ()
    problems: Sequence[StudioError] = ()
    fixes: Sequence[Fix] = ()

    @property
    def hindrances(self) -> Sequence[StudioError]:
        """The problems with which no training can begin. What is not downloaded yet is, when it begins."""
        return [problem for problem in self.problems if not isinstance(problem, NotDownloaded)]

    @property
    def parameters(self) -> int:
        """Parameters of all layers that could be traced."""
        return sum(row.parameters for row in self.rows if row.outermost)


def check(recipe: Recipe, *, aside: bool = False, reading: Progress = lambda what, done, total: None) -> Checked:
    """Look at every part of a recipe without making a weight. Raises nothing but Stopped.

    Of the data only a person's own files are read, and `reading` told so; what it raises is one of the problems, but
    for Stopped, which ends the look at once.
    `aside` says that a training may be running in another thread, whose random numbers must not be touched.
    """
    problems: list[StudioError] = []

    def attempt(look: Callable[[], T]) -> T | None:
        try:
            return look()
        except Stopped:
            raise
        except StudioError as error:
            problems.append(error)
        except BaseException as error:  # a person's own dataset or model may raise anything
            text = first_line(error)
            problems.append(ModelError("recipe", f"{type(error).__name__}: {text}", "Mend the code that it names."))
        return None

    described = attempt(lambda: describe(recipe, aside=aside, reading=reading))
    proposed: list[Fix] = []
    looked_at = recipe
    if described is None and (skipping := _skipping(recipe, problems[-1])) is not None:
        with contextlib.suppress(Exception):  # then it was not the bad samples
            try:
                described = describe(skipping, aside=aside, reading=reading)
                looked_at = skipping
            except RecipeError as error:  # beside them something else is wrong, which is found after they are read
                problems.append(error)
            proposed.append(Fix("leave bad samples out, counted and listed", settings=_SKIP))
    loss = attempt(lambda: make_loss(recipe))
    if described is None:
        attempt(lambda: _check_optimizer(recipe, _two_layers()))
        attempt(lambda: Precision(recipe.training.precision, choose(recipe.training.device)))
        return Checked(recipe, problems=tuple(problems), fixes=tuple(proposed))
    source, facts = described
    sizes = attempt(lambda: part_sizes(source, looked_at.data)) or {}
    if attempt(lambda: check_trainable(recipe)) is None:
        return Checked(recipe, source, facts, sizes, problems=tuple(problems), fixes=tuple(proposed))
    if sizes.get("train") == 0:
        problems.append(RecipeError("data.split.train", "leaves no sample to train on", "Raise it."))
    rows = attempt(lambda: model_rows(recipe, facts, aside=aside)) or []
    model = None
    if any(row.parameters for row in rows) and not any(row.error for row in rows) and not recipe.model.python:
        model = attempt(lambda: weightless_model(recipe, facts))
    if model is None or attempt(lambda: Freezing(recipe, model)) is not None:
        attempt(lambda: _check_optimizer(recipe, model or _two_layers()))
    attempt(lambda: Precision(recipe.training.precision, choose(recipe.training.device)))
    validates = not recipe.training.overfit_one_batch and sizes.get("val") != 0
    attempt(lambda: Patience(recipe.training, metrics(recipe.task), validates=validates))
    problems.extend(row.error for row in rows if row.error is not None)
    if rows and not any(row.error for row in rows):
        attempt(lambda: _check_weights(rows))
        if loss is not None:
            attempt(lambda: _check_output(recipe, facts, [row for row in rows if row.outermost][-1]))
    if problems and recipe.model.layers:
        proposed += attempt(lambda: _mends(recipe, facts)) or ()
    elif recipe.model.zoo and any(row.error for row in rows):
        proposed += attempt(lambda: _zoo_fixes(recipe, facts, aside)) or ()
    whole = recipe.model.python or (recipe.model.zoo and kind_of(source) == "pictures")
    unfit = any(isinstance(problem, ModelError) for problem in problems)
    if unfit and not whole and all(mend.gives_up or mend.settings for mend in proposed):
        kept = [mend for mend in proposed if not mend.gives_up or _is_all(recipe, mend, aside)]
        anew = attempt(lambda: replaced_whole(recipe, source, facts, aside))
        proposed = [*kept, *([anew] if anew else []), *(mend for mend in proposed if mend not in kept)]
    return Checked(recipe, source, facts, sizes, tuple(rows), tuple(problems), tuple(proposed))


def fit_to_data(recipe: Recipe, *, aside: bool = False) -> Fix:
    """The recipe's layers mended until they take its data and give what its task wants, as far as that goes.

    Where that leaves them unfit, as filters for pictures are for text, a small model for such data takes their place.
    Raises RecipeError or DataError.
    """
    source, facts = described_without_bad(recipe, aside)
    if recipe.model.python:  # whose code is a person's own
        return Fix("it is not made of layers")
    if takes(recipe, facts, aside):
        return Fix("it fits as it is", recipe.model.layers)
    whole = mended_whole(recipe, source, facts, aside)
    if whole is None and not (recipe.model.zoo and kind_of(source) == "pictures"):
        whole = replaced_whole(recipe, source, facts, aside)
    return whole or _mended(recipe, source, facts, aside)


def mended_whole(recipe: Recipe, source: Source, facts: Facts, aside: bool) -> Fix | None:
    """All mends of the model together, if it takes the data with them; none takes out what a person wrote."""
    mend = _mended(recipe, source, facts, aside)
    return mend if _is_all(recipe, mend, aside) else None


def replaced_whole(recipe: Recipe, source: Source, facts: Facts, aside: bool) -> Fix | None:
    """A small model for such samples in the place of one that does not take them, tried before it is proposed."""
    begun = start(recipe, source, facts.shape if len(facts.shape) == len(source.shape) else ())
    if begun is None:
        return None
    fix = Fix(begun.title, begun.layers, gives_up=True, settings=begun.settings)
    return fix if _is_all(recipe, fix, aside) else None


def takes(recipe: Recipe, facts: Facts, aside: bool) -> bool:
    """Whether the model takes the data and gives what the task wants."""
    rows = model_rows(recipe, facts, aside=aside)
    outermost = [row for row in rows if row.outermost]
    fit = bool(outermost) and not any(row.error for row in rows)
    return fit and outermost[-1].output == wanted(recipe, facts)


def described_without_bad(
    recipe: Recipe, aside: bool, reading: Progress = lambda what, done, total: None
) -> tuple[Source, Facts]:
    """What is known of the data, without bad samples if these are their end."""
    try:
        return describe(recipe, aside=aside, reading=reading)
    except DataError as error:
        skipping = _skipping(recipe, error)
        if skipping is None:
            raise
        return describe(skipping, aside=aside, reading=reading)


def _skipping(recipe: Recipe, problem: StudioError) -> Recipe | None:
    """The recipe without the bad samples that may have been its end, so that all else can be looked at."""
    stopped = isinstance(problem, SampleRefused) and not recipe.data.python
    return recipe.override(_SKIP, recipe.title) if stopped else None


def _mends(recipe: Recipe, facts: Facts) -> Sequence[Fix]:
    return fixes(recipe.model.layers, flow(facts), symbols(recipe, facts), wanted(recipe, facts))


def _mended(recipe: Recipe, source: Source, facts: Facts, aside: bool) -> Fix:
    """The model mended as far as that goes."""
    if recipe.model.zoo:
        found = _zoo_fixes(recipe, facts, aside) if kind_of(source) == "pictures" else ()
        return next(iter(found), Fix("nothing mends it"))
    made = mends(recipe.model.layers, flow(facts), symbols(recipe, facts), wanted(recipe, facts))
    return Fix(title_of(made), made[-1].layers if made else recipe.model.layers)


def _is_all(recipe: Recipe, mend: Fix, aside: bool) -> bool:
    """Whether the model fits the data with this mend alone, so that nobody needs another model."""
    try:
        mended = with_model(recipe, mend.layers, mend.settings, recipe.title)
        return takes(mended, described_without_bad(mended, aside)[1], aside)
    except StudioError:
        return False


def _zoo_fixes(recipe: Recipe, facts: Facts, aside: bool) -> Sequence[Fix]:
    from engine.models.zoo.fixes import zoo_fixes  # torchvision takes a second to import

    return zoo_fixes(recipe, facts, aside=aside)


def _two_layers() -> nn.Module:
    """Stands for a model that is not known; without memory, so that no random number is drawn."""
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def _check_optimizer(recipe: Recipe, model: nn.Module) -> None:
    """Names, parameters and values of optimizer, warm-up and scheduler, tried on `model`."""
    optimizer = make_optimizer(recipe, model)
    warmup_steps(recipe, steps_per_epoch=1000)
    scheduler = make_scheduler(recipe, optimizer, steps_per_epoch=1000)
    if scheduler is None:
        return
    try:
        for _ in range(2):  # values that make no sense are found out when the rate is computed
            with warnings.catch_warnings(action="ignore"):  # torch misses the optimizer's step, which does not matter
                scheduler.step(*([1.0] if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else []))
    except Exception as error:
        what = f"{scheduler.__class__.__name__} fails with these values: {first_line(error)}"
        raise RecipeError("scheduler", what, "Change them.") from error


def _check_weights(rows: Sequence[LayerRow]) -> None:
    if not any(row.parameters for row in rows):
        raise RecipeError("model", "has no parameter to train", "Add a layer with weights, such as Linear.")


def _check_output(recipe: Recipe, facts: Facts, last: LayerRow) -> None:
    """Whether the last layer's output is what the task and the loss take."""
    assert last.output is not None
    word = "targets" if recipe.task == "regression" else "classes"
    layered = bool(recipe.model.layers)
    where = f"model.layers.{len(recipe.model.layers) - 1}" if layered else "model"
    if recipe.task == "segmentation" and last.output != wanted(recipe, facts):
        what = f"the model gives {shape_text(last.output)} a sample, its masks are {shape_text(wanted(recipe, facts))}"
        remedy = 'End with Conv2d, out_channels = "classes", and Upsample to the size of the picture if it is smaller.'
        raise ModelError(where, what, remedy)
    if recipe.task != "segmentation" and last.output != (facts.outputs,):
        what = f"the model gives {shape_text(last.output)} a sample, the data has {facts.outputs} {word}"
        raise ModelError(where, what, f'End with Linear, out_features = "{word}".')
    fit_loss(recipe, facts.outputs)
