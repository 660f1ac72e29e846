"""`[optimizer]` and `[scheduler]` as Python: the same groups of parameters, the same rates at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from engine import catalog
from engine.code import arguments, block, imported, literal, spread
from engine.durations import Duration
from engine.errors import RecipeError
from engine.models.heads import heads
from engine.optim.optimizers import Both, make_optimizer
from engine.optim.optimizers import needs_closure as wants_closure
from engine.optim.schedules import make_scheduler
from engine.recipe import Part, Recipe

# Learning rates among a scheduler's parameters, which follow from the optimizer's.
_SHARED = ("max_lr", "base_lr")


class OptimizerCode:
    """The function `make_optimizer`, and what the loop needs to know of it.

    `model` is the recipe's; only names and sizes of its parameters are looked at: they may be on the meta device.
    `steps` are those of an epoch. Raises RecipeError.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, steps: int) -> None:
        make_scheduler(recipe, make_optimizer(recipe, model), steps)  # says what is wrong with it, and sets rates
        self._recipe = recipe
        self._optimizer = make_optimizer(recipe, model)
        self._named = dict(model.named_parameters())
        self._trained = {name for name, parameter in self._named.items() if parameter.requires_grad}
        self._head = _heads(model)
        self.needs_closure = wants_closure(self._optimizer)
        self.needs = frozenset({"Both"} if isinstance(self._optimizer, Both) else ())

    @property
    def rates(self) -> list[float]:
        """The learning rate of each group."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def lines(self) -> list[str]:
        """The function `make_optimizer`."""
        if isinstance(self._optimizer, Both):
            rest, matrices = self._optimizer.parts
            body = [
                *self._made(rest, "others = ", self._alike(rest)),
                *self._made(matrices, "matrices = ", self._recipe.optimizer.parameters),
                "return Both(others, matrices)",
            ]
        else:
            body = self._made(self._optimizer, "return ", self._recipe.optimizer.parameters)
        if any("named" in line for line in body):
            body = ["named = list(model.named_parameters())", *body]
        return [
            "def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:",
            *block([self._about(), *body]),
            "",
            "",
        ]

    def _about(self) -> str:
        part, said = self._recipe.optimizer, ["The recipe's optimizer"]
        bare = any(group.get("weight_decay") == 0 for group in self._optimizer.param_groups)
        if bare and any(group.get("weight_decay") for group in self._optimizer.param_groups):
            said.append("norms and biases are not decayed")
        if part.backbone_lr_factor != 1:
            said.append(f"all but the head learns at {part.backbone_lr_factor:g} of the rate")
        return f'"""{"; ".join(said)}."""'

    def _alike(self, rest: torch.optim.Optimizer) -> dict[str, Any]:
        """What the optimizer that takes no matrices has from the recipe: rate and decay."""
        return {name: rest.defaults[name] for name in ("lr", "weight_decay") if name in rest.defaults}

    def _made(self, optimizer: torch.optim.Optimizer, before: str, values: Mapping[str, Any]) -> list[str]:
        """The lines that make one optimizer."""
        name = type(optimizer).__name__
        entry, called = catalog.optimizers()[name], f"torch.optim.{name}"
        groups = optimizer.param_groups
        ids = [{id(parameter) for parameter in group["params"]} for group in groups]
        written = []
        for members, group in zip(ids, groups, strict=True):
            own = {key: group[key] for key in ("lr", "weight_decay") if group.get(key) != optimizer.defaults.get(key)}
            written.append((self._selection(members), own))
        if len(written) == 1 and not written[0][1]:
            return spread(called, arguments(entry, values, written[0][0], positional=0), 0, before=before)
        lines = ["groups = ["]
        for selection, own in written:
            more = "".join(f", {literal(key)}: {literal(value)}" for key, value in own.items())
            lines.append(f'    {{"params": {selection}{more}}},')
        made = spread(called, arguments(entry, values, "groups", positional=0), 0, before=before)
        return [*lines, "]", *made]

    def _selection(self, members: set[int]) -> str:
        """The expression for these parameters: by their number of dimensions and their place, else by their names."""
        names = {name for name, parameter in self._named.items() if id(parameter) in members}
        if names == set(self._named):
            return "model.parameters()"
        for condition, meant in self._conditions():
            if meant == names:
                frozen = ["p.requires_grad"] if self._trained != set(self._named) else []
                subject = "name, p" if "name" in condition else "_, p"
                text = " and ".join([*frozen, *([condition] if condition else [])])
                return f"[p for {subject} in named if {text}]"
        return f"[model.get_parameter(name) for name in {literal(sorted(names))}]"

    def _conditions(self) -> Iterator[tuple[str, set[str]]]:
        """Words for a choice of parameters, and their names."""
        head = tuple(f"{name}." for name in self._head)
        begins = literal(head if head[1:] else "".join(head))
        sizes: dict[str, Callable[[Tensor], bool]] = {
            "": lambda p: True,
            "p.ndim > 1": lambda p: p.ndim > 1,
            "p.ndim <= 1": lambda p: p.ndim <= 1,
            "p.ndim == 2": lambda p: p.ndim == 2,
        }
        places: dict[str, Callable[[str], bool]] = {
            "": lambda name: True,
            f"name.startswith({begins})": lambda name: name.startswith(head),
            f"not name.startswith({begins})": lambda name: not name.startswith(head),
        }
        for (size, fits), (place, lies) in product(sizes.items(), places.items()):
            names = {name for name in self._trained if fits(self._named[name]) and lies(name)}
            yield " and ".join(filter(None, (size, place))), names


def _heads(model: nn.Module) -> list[str]:
    """The names of what learns at the recipe's rate; a model that is nothing but its head has none."""
    found = heads(model)
    return [name for name, module in model.named_modules() if name and module in found]


def scheduler_lines(recipe: Recipe, rates: Sequence[float]) -> list[str]:
    """The line of `main` that makes the scheduler; it knows `optimizer`, `epochs` and `steps`, those of an epoch."""
    part = recipe.scheduler
    if part is None:
        return []
    length = "epochs * steps" if part.every == "step" else "epochs"
    return [f"scheduler = {_scheduler(part, part.schedulers, length, rates)}"]


def scheduler_ends(recipe: Recipe) -> bool:
    """Whether the scheduler may end before the run: torch's own then raises an error."""
    return recipe.scheduler is not None and _ends(recipe.scheduler)


def _ends(part: Part) -> bool:
    return bool({"total_steps", "epochs"} & set(part.parameters))


def warmup_text(recipe: Recipe) -> str:
    """Over how many steps the rate rises, as an expression; empty without a warm-up."""
    if not recipe.optimizer.warmup:
        return ""
    duration = Duration.parse(recipe.optimizer.warmup)
    return f"{int(duration.amount)}{' * steps' if duration.unit == 'epoch' else ''}"


def _scheduler(part: Part, inner: Sequence[Part], length: str, rates: Sequence[float]) -> str:
    entry = catalog.schedulers()[part.name]
    given = {name: value for name, value in part.parameters.items() if name != "schedulers"}
    written: dict[str, str] = {}
    known = {"T_max": length, "total_steps": length, "max_lr": literal(rates[0])}
    if "epochs" in given:
        known["steps_per_epoch"] = "steps"
        del known["total_steps"]
    for parameter in entry.parameters:
        name = parameter.name
        if name in given:
            value = given[name]
            if name in _SHARED and isinstance(value, (int, float)):
                written[name] = _shared(value, rates)
            elif parameter.takes_function and isinstance(value, str):
                written[name] = imported(value)
            else:
                written[name] = literal(value)
        elif name in known:
            written[name] = _shared(rates[0], rates) if name == "max_lr" else known[name]
    texts = [f"{name}={text}" for name, text in written.items()]
    if not entry.composed:
        return f"lr_scheduler.{part.name}({', '.join(['optimizer', *texts])})"
    children = []
    for number, (child, span) in enumerate(zip(inner, _spans(given, len(inner), length), strict=True)):
        if _ends(child):  # torch's own raises an error when it is stepped beyond that
            what = f"{child.name} with a length of its own inside {part.name} can't be written as a Python file yet"
            raise RecipeError(f"scheduler.schedulers.{number}", what, "Leave its length to the run.")
        below = [Part.model_validate(table) for table in child.parameters.get("schedulers", ())]
        children.append(_scheduler(child, below, span, rates))
    inside = f"schedulers=[{', '.join(children)}]"
    return f"lr_scheduler.{part.name}({', '.join(['optimizer=optimizer', inside, *texts])})"


def _shared(value: float, rates: Sequence[float]) -> str:
    """A learning rate of a schedule: one, or a share for each group where the backbone learns slower."""
    if len(set(rates)) == 1:
        return literal(value)
    return literal([value * rate / rates[0] for rate in rates])


def _spans(given: Mapping[str, Any], count: int, length: str) -> list[str]:
    """For how many steps each inner scheduler runs: between milestones, or always."""
    if "milestones" not in given:
        return [length] * count
    milestones = [int(each) for each in given["milestones"]]
    spans = [str(late - early) for early, late in zip([0, *milestones], milestones, strict=False)]
    return [*spans, f"max(1, {length} - {milestones[-1]})" if milestones else length]
