"""The recipe's loss: made, balanced, and tried out on a few numbers before a model is trained with it.

Whether a loss fits a task, and in which form it takes its targets, is seen from how it behaves, not from its name.
"""

# K classes or numbers to predict · N samples that a loss is tried on

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from engine import catalog
from engine.data.prepare import Facts
from engine.data.samples import IGNORED
from engine.data.serving.mixing import mixing_part
from engine.errors import RecipeError, StudioError, first_line
from engine.recipe import Layer, Recipe
from engine.tasks.base import Metric, Task
from engine.tasks.classification import Classification, Form, class_numbers, one_hot, signs, summed
from engine.tasks.regression import Regression
from engine.tasks.segmentation import Segmentation

_FORMS: Mapping[str, Sequence[Form]] = {
    "classification": (class_numbers, one_hot, signs),
    "regression": (class_numbers,),
    "segmentation": (class_numbers,),  # of pixels that count nowhere there is no 1 among K
}
_TASKS: Mapping[str, type[Task]] = {
    "classification": Classification,
    "regression": Regression,
    "segmentation": Segmentation,
}
_USUAL = {"classification": "CrossEntropyLoss", "regression": "MSELoss", "segmentation": "CrossEntropyLoss"}
# How a model may end, what comes out there, and which loss of torch does without that ending.
_ENDINGS: Mapping[str, tuple[nn.Module, str, str]] = {
    "LogSoftmax": (nn.LogSoftmax(1), "log-probabilities", "CrossEntropyLoss"),
    "Sigmoid": (nn.Sigmoid(), "probabilities", "BCEWithLogitsLoss"),
    "Softmax": (nn.Softmax(1), "probabilities", "CrossEntropyLoss"),
    "LogSigmoid": (nn.LogSigmoid(), "log-probabilities", "BCEWithLogitsLoss"),
}


class _MisfitError(Exception):
    """Why a loss does not fit."""


def make_task(recipe: Recipe, facts: Facts, device: torch.device) -> Task:
    """The recipe's task with its loss on `device`. Raises RecipeError for a loss that does not fit it."""
    loss, form = fit_loss(recipe, facts.outputs, facts.class_counts)
    if recipe.task == "regression":
        return Regression(loss.to(device), facts.target_std)
    ignored = recipe.loss.parameters.get("ignore_index")
    shares = _class_shares(loss, form, facts.outputs)
    if recipe.task == "segmentation":
        return Segmentation(loss.to(device), (torch.ones(facts.outputs) if shares is None else shares).to(device))
    if shares is None and ignored is not None:
        shares = torch.ones(facts.outputs)
    return Classification(loss.to(device), form, None if shares is None else shares.to(device), ignored)


def metrics(task: str) -> Sequence[Metric]:
    """What a recipe's task measures beside the loss."""
    return _TASKS[task].metrics


def make_loss(recipe: Recipe, class_counts: Sequence[int] | None = None) -> nn.Module:
    """The recipe's loss on the CPU; balanced class weights are equal while the `class_counts` are not known.

    Raises RecipeError for a name or parameter that torch does not have.
    """
    part, parameters = recipe.loss, recipe.loss.parameters
    entry = catalog.find("loss", catalog.losses(), part.name, "loss")
    _refuse_weights_of_its_own(entry)
    entry.check(parameters, "loss")
    if parameters.get("reduction", "mean") not in ("mean", "batchmean"):
        raise RecipeError("loss.reduction", "must be 'mean': the trainer weighs batches by it", "Remove it.")
    for name in ("weight", "pos_weight"):
        given = parameters.get(name)
        if isinstance(given, Sequence) and any(isinstance(each, int | float) and each < 0 for each in given):
            raise RecipeError(f"loss.{name}", "a weight below 0 rewards wrong answers", "Make all of them 0 or more.")
    if recipe.task == "segmentation":
        _check_pixels(recipe)
    if part.class_weights == "balanced":
        if recipe.task != "classification":
            raise RecipeError("loss.class_weights", f"is for classes, of which a {recipe.task} has none", "Remove it.")
        if entry.parameter("weight") is None:
            raise RecipeError(
                "loss.class_weights", f"{part.name} has no weight a class", "Remove it, or use CrossEntropyLoss."
            )
        if "weight" in parameters:
            raise RecipeError("loss.class_weights", "does not go with loss.weight", "Remove one of them.")
        if class_counts is not None:
            parameters["weight"] = balanced(class_counts, parameters.get("ignore_index"))
    with warnings.catch_warnings(action="ignore"):  # NLLLoss2d says that its name is an old one
        return entry.make(parameters, "loss")  # type: ignore[no-any-return]


def _check_pixels(recipe: Recipe) -> None:
    """What a loss of pixels can't be told: which of them count nowhere, and how many there are of a class."""
    if recipe.loss.class_weights == "balanced":
        what = "counts samples of a class, and a segmentation has pixels"
        raise RecipeError("loss.class_weights", what, "Remove it, or give loss.weight a number a class.")
    if recipe.loss.parameters.get("ignore_index", IGNORED) != IGNORED:
        what = "would count pixels that the masks leave out"
        raise RecipeError(
            "loss.ignore_index", what, "Remove it, and say which value of a mask is left out: options.ignore."
        )


def balanced(class_counts: Sequence[int], ignored: int | None = None) -> list[float]:
    """n / (k · n of the class) for each of the k classes that have samples, n in all: scikit-learn's "balanced".

    A class without a sample, or whose samples are `ignored`, weighs 1 as the mean sample does: with 0, samples of it
    in the validation part would not count, and a batch of nothing else would have no loss.
    """
    counts = [0 if index == ignored else count for index, count in enumerate(class_counts)]
    classes = sum(count > 0 for count in counts)
    return [sum(counts) / (classes * count) if count else 1.0 for count in counts]


def fit_loss(recipe: Recipe, outputs: int, class_counts: Sequence[int] | None = None) -> tuple[nn.Module, Form]:
    """The recipe's loss, and the form in which it takes the targets of a model with `outputs` outputs.

    Tried on a few numbers on the CPU, passed through what the model ends with. Raises RecipeError where it would not
    lead to right answers.
    """
    loss = make_loss(recipe, class_counts)
    if recipe.task != "regression" and outputs < 2:
        raise RecipeError("data", "has one class: there is nothing to tell apart", "Give it samples of another.")
    reasons: dict[Form, Exception] = {}
    with warnings.catch_warnings(action="ignore"):  # of KLDivLoss's mean, of LogSoftmax without a dim
        for ending, form in itertools.product(_endings(recipe, outputs), _FORMS[recipe.task]):
            reason = _misfit(loss, form, ending, recipe.task, outputs)
            if reason is None:
                _check_balance(recipe, form)
                _check_mixing(recipe, loss, form, ending, outputs)
                return loss, form
            reasons.setdefault(form, reason)
        raise _refusal(recipe, loss, reasons, outputs)


def _refuse_weights_of_its_own(entry: catalog.Entry) -> None:
    needed = {parameter.name: 1 for parameter in entry.parameters if parameter.required}
    if not needed:
        return
    try:
        with torch.device("meta"):
            probe = entry.make(needed, "loss")
    except RecipeError:
        return  # it is not a number that it needs; what it is, is said when it is missing
    if list(probe.parameters()):
        what = f"{entry.name} is a layer too: its weights would not be trained"
        raise RecipeError("loss.name", what, "End the model with Linear and use a loss without weights.")


def _check_balance(recipe: Recipe, form: Form) -> None:
    """A loss of one number per class weighs each class's scores, those of all other samples included."""
    if recipe.loss.class_weights == "balanced" and form is not class_numbers:
        what = f"the weight of {recipe.loss.name} is one of scores, not of samples: rare classes would count no more"
        raise RecipeError("loss.class_weights", what, "Remove it, or use CrossEntropyLoss.")


def _check_mixing(
    recipe: Recipe, loss: nn.Module, form: Form, ending: Callable[[Tensor], Tensor], outputs: int
) -> None:
    """Whether the loss can be given shares of classes, where samples are mixed from others."""
    position = mixing_part(recipe.data.augment)
    if position is None:
        return
    name, where = recipe.data.augment[position].name, f"data.augment.{position}"
    if recipe.loss.parameters.get("ignore_index") is not None:
        raise RecipeError(where, f"{name} does not go with loss.ignore_index", "Remove one of them.")
    if form is one_hot or (form is class_numbers and _takes_shares(loss, ending, outputs)):
        return
    what = f"{name} makes shares of classes, which {recipe.loss.name} does not take"
    raise RecipeError(where, what, "Use CrossEntropyLoss, or remove it.")


def _takes_shares(loss: nn.Module, ending: Callable[[Tensor], Tensor], classes: int) -> bool:
    """Whether a loss of class numbers takes shares too, and means the same by them."""
    sums, given = summed(loss), ending(torch.linspace(-1.0, 1.0, classes).unsqueeze(0))
    numbers = torch.arange(classes).unsqueeze(1)
    try:
        by_number = torch.stack([sums(given, number) for number in numbers])
        by_share = torch.stack([sums(given, one_hot(number, given)) for number in numbers])
        mixed = sums(given, torch.full_like(given, 1 / classes))
    except Exception:  # losses refuse targets with every kind of exception
        return False
    return torch.allclose(by_number, by_share, atol=1e-5) and torch.allclose(mixed, by_number.mean(), atol=1e-5)


def _endings(recipe: Recipe, outputs: int) -> list[Callable[[Tensor], Tensor]]:
    """What may follow a model's last weights: the layers after them; in a model of one's own any of the usual."""
    if recipe.model.python:
        return [nn.Identity(), *(ending for ending, _, _ in _ENDINGS.values())]
    last: list[nn.Module] = []
    scores = torch.zeros(3, outputs, *((2, 2) if recipe.task == "segmentation" else ()))
    for part in _from_the_end(recipe.model.layers):
        entry = catalog.layers().get(part.name)
        if entry is not None and entry.container:
            break
        try:
            with torch.device("meta"):  # where a layer that has weights draws none and takes no memory
                layer = entry.make(part.parameters, "model").eval() if entry else None
            if layer is None or layer.state_dict() or layer(scores).shape != scores.shape:
                break
        except (StudioError, RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError):
            break  # it needs a size from the layer above, so it has weights; or it takes other shapes
        last.insert(0, layer)
    return [nn.Sequential(*last)]


def _from_the_end(layers: Sequence[Layer]) -> Iterator[Layer]:
    """The layers from the last to the first, those of a Sequential in its place."""
    for layer in reversed(layers):
        if layer.name == "Sequential":
            yield from _from_the_end(layer.layers)
        else:
            yield layer


def _misfit(
    loss: nn.Module, form: Form, ending: Callable[[Tensor], Tensor], task: str, outputs: int
) -> Exception | None:
    """Why the loss does not fit; None if it does."""
    try:
        if task == "regression":
            _try_on_numbers(loss, form, ending, outputs)
        else:
            _try_on_classes(loss, form, ending, outputs, pixels=task == "segmentation")
    except Exception as error:  # losses refuse targets with every kind of exception
        return error
    return None


def _value(loss: nn.Module, outputs: Tensor, targets: Tensor) -> float:
    found = loss(outputs, targets)
    if found.ndim:
        raise _MisfitError("it gives no single number")
    if not torch.isfinite(found):
        raise _MisfitError(f"it is {found:g} for outputs such as {outputs.flatten()[0]:g}")
    return float(found)


def _try_on_classes(
    loss: nn.Module, form: Form, ending: Callable[[Tensor], Tensor], classes: int, *, pixels: bool = False
) -> None:
    """Whether the loss wants the right class's score high and the others' low, but not for ever.

    As those of samples, or of the `pixels` of one picture.
    """
    # Not as many samples as classes: then the shapes of class numbers and of scores can't be taken for each other.
    count = classes + 1 if classes < 50 else 49
    targets = torch.arange(count) * max(1, classes // count) % classes

    def value(right: float, wrong: float) -> float:
        scores = torch.full((count, classes), float(wrong)).scatter_(1, targets.unsqueeze(1), right)
        outputs = ending(scores.T[None, ..., None] if pixels else scores)  # (1, K, N, 1) or (N, K)
        return _value(loss, outputs, form(targets[None, :, None] if pixels else targets, outputs))

    if not value(1, 0) < value(0, 0) <= value(-1, 0):
        raise _MisfitError("it does not fall as the right class's score rises")
    if not value(0, 1) > value(0, 0):
        raise _MisfitError("it does not rise with the scores of wrong classes")
    if value(1e4, -1e4) < value(1e3, -1e3) - 1:
        raise _MisfitError("it falls without end as scores grow")


def _try_on_numbers(loss: nn.Module, form: Form, ending: Callable[[Tensor], Tensor], outputs: int) -> None:
    """Whether the loss is lowest where the outputs are the targets."""
    here = away = 0.0
    for score, change in itertools.product((-1.5, -0.5, 0.25, 2.0), (-100.0, -1.0, 1.0, 100.0)):
        scores = torch.full((1, outputs), score)
        moved = scores.clone()
        moved[0, 0] += change
        targets = ending(scores)
        at, off = (_value(loss, given, form(targets, given)) for given in (targets, ending(moved)))
        if at > off:
            raise _MisfitError("it is not lowest where the outputs are the targets")
        here, away = here + at, away + off
    if not here < away:
        raise _MisfitError("it does not tell wrong outputs from right ones")


def _refusal(recipe: Recipe, loss: nn.Module, reasons: Mapping[Form, Exception], outputs: int) -> RecipeError:
    """What to say of a loss that fits in no form: what would mend it, as seen by trying."""
    name, task = recipe.loss.name, recipe.task
    plain = type(loss)()
    endings = _endings(recipe, outputs)
    for form, ending in itertools.product(reasons, endings):
        if _misfit(plain, form, ending, task, outputs) is None:
            return RecipeError(
                "loss", f"{name} does not fit with its parameters: {first_line(reasons[form])}", "Change them."
            )
    for layer, (ending, kind, other) in _ENDINGS.items() if task != "regression" else ():
        if any(_misfit(plain, form, ending, task, outputs) is None for form in reasons):
            return RecipeError("loss.name", f"{name} needs {kind}", f"End the model with {layer}, or use {other}.")
    # Forms that torch refuses, mostly for their shape, say less than one with which it computes something wrong.
    best = max(reasons.values(), key=lambda reason: isinstance(reason, _MisfitError))
    why = first_line(best)
    return RecipeError("loss.name", f"{name} does not fit {task}: {why}", f"Choose another, such as {_USUAL[task]}.")


def _class_shares(loss: nn.Module, form: Form, classes: int) -> Tensor | None:
    """(K,): by how much a sample of each class counts in the loss's mean, Σ loss / mean; None if all count the same."""
    sums = summed(loss)
    shares = torch.empty(classes)
    for number in range(classes):
        target = torch.tensor([number])
        outputs = torch.full((1, classes), 0.5)  # what any loss can be given: a score and a probability
        outputs[0, number] = 0.25
        given = form(target, outputs)
        total, mean = sums(outputs, given), loss(outputs, given)
        # torch's mean of what counts nothing is 0/0. A loss of 0 tells nothing: what follows takes it for a usual one.
        shares[number] = 0.0 if mean.isnan() else total / mean
    known = shares[~shares.isnan()]
    if not len(known) or torch.allclose(known, known[0]):
        return None
    return shares.nan_to_num(0.0)
