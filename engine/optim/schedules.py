"""The recipe's learning-rate schedule: torch's schedulers completed from the run's length, nested, scaled, extended."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from engine import catalog
from engine.catalog import Entry
from engine.durations import Duration
from engine.errors import RecipeError, with_article
from engine.recipe import Part, Recipe, Scheduler

# Where an optimizer's group keeps learning rates: OneCycleLR and CyclicLR write theirs there.
_GROUP_RATES = ("lr", "initial_lr", "max_lr", "min_lr")
# Where a scheduler keeps learning rates, one a group.
_RATES = ("base_lrs", "max_lrs")
# Parameters that are the length of the schedule; left out, they follow from the run.
_LENGTHS = ("T_max", "total_steps")
# Parameters that are a learning rate: each group gets its share.
_SHARED = ("max_lr", "base_lr")


def make_scheduler(
    recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int, epochs: int | None = None
) -> Any:
    """The recipe's scheduler or None, with what follows from the run's length filled in. Raises RecipeError."""
    part = recipe.scheduler
    if part is None:
        return None
    epochs = epochs or recipe.training.epochs
    length = epochs * (steps_per_epoch if part.every == "step" else 1)
    if part.name == "ReduceLROnPlateau" and part.every == "step":
        raise RecipeError("scheduler.every", "ReduceLROnPlateau watches the validation loss", 'Write every = "epoch".')
    if part.name == "ReduceLROnPlateau" and part.parameters.get("mode", "min") != "min":
        raise RecipeError("scheduler.mode", "'max' would lower the rate while the loss improves", "Remove it.")
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    return _Builder(optimizer, rates, length // epochs).build(part, part.schedulers, "scheduler", length)


def warmup_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """Over how many steps the rate rises; 0 without a warm-up. Raises RecipeError for a time."""
    text = recipe.optimizer.warmup
    if not text:
        return 0
    duration = Duration.parse(text)
    if duration.unit == "second":
        raise RecipeError("optimizer.warmup", f"'{text}' is a time", 'Write steps or epochs: "500 steps", "1 epoch".')
    return int(duration.amount) * (steps_per_epoch if duration.unit == "epoch" else 1)


class Schedule:
    """The schedule of one optimizer: steps it, scales it by the person's factor, fits it to another length.

    `every` is "step", "epoch", or "" without a scheduler.
    """

    def __init__(self, recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> None:
        self._recipe, self._optimizer, self._steps_per_epoch = recipe, optimizer, steps_per_epoch
        self._pristine = [
            {key: value for key, value in group.items() if key not in ("params", "weight_decay")}
            for group in optimizer.param_groups
        ]
        self.scheduler = make_scheduler(recipe, optimizer, steps_per_epoch)
        self.every = recipe.scheduler.every if recipe.scheduler else ""
        self._watches = isinstance(self.scheduler, ReduceLROnPlateau)
        self._epochs = recipe.training.epochs
        self._count = 0
        self._factor = 1.0

    def step(self, loss: float = 0.0) -> None:
        """Advance by one; ReduceLROnPlateau sees `loss`."""
        if self._watches:
            self.scheduler.step(loss)
        else:
            self.scheduler.step()
        self._count += 1

    def scale(self, factor: float) -> None:
        """Multiply the rates of all groups by `factor`, now and in all that the schedule makes of them later."""
        self._factor *= factor
        self._scale([factor] * len(self._optimizer.param_groups))

    def rebase(self, factors: Sequence[float]) -> None:
        """Multiply each group's rates by its factor: so the recipe's have changed since the state was taken."""
        self._scale(factors)

    def extend(self, epochs: int) -> None:
        """Fit the schedule to a run of `epochs`, unless the person wrote how long it is."""
        same, self._epochs = epochs == self._epochs, epochs
        part = self._recipe.scheduler
        if same or part is None or not _follows_the_run(part.name, part.parameters, part.schedulers):
            return
        for group, pristine in zip(self._optimizer.param_groups, self._pristine, strict=True):
            for key in set(group) - set(pristine) - {"params", "weight_decay"}:
                del group[key]  # what the old schedule wrote there
            group.update(pristine)
        self.scheduler = make_scheduler(self._recipe, self._optimizer, self._steps_per_epoch, epochs)
        with warnings.catch_warnings(action="ignore"):  # torch misses the optimizer's steps between these
            for _ in range(self._count):
                self.scheduler.step()
        self._scale([self._factor] * len(self._optimizer.param_groups))

    def state(self) -> dict[str, Any]:
        """Numbers and plain containers, from which `load_state` goes on alike."""
        scheduler = _plain(self.scheduler.state_dict()) if self.scheduler else {}
        return {"scheduler": scheduler, "count": self._count, "factor": self._factor, "epochs": self._epochs}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up where `state` was taken, at the length it had then."""
        self._count, self._factor, self._epochs = state["count"], state["factor"], state["epochs"]
        if self.scheduler is None:
            return
        self.scheduler.load_state_dict(_plain(state["scheduler"]))  # a copy: torch takes the containers as its own
        for leaf in _leaves(self.scheduler):
            if isinstance(leaf, torch.optim.lr_scheduler.MultiStepLR):
                leaf.milestones = Counter(leaf.milestones)  # saved as a dict, which knows no elements()

    def _scale(self, factors: Sequence[float]) -> None:
        for group, factor in zip(self._optimizer.param_groups, factors, strict=True):
            for key in _GROUP_RATES:
                if isinstance(group.get(key), (int, float)):
                    group[key] *= factor
        for leaf in _leaves(self.scheduler) if self.scheduler else ():
            for key in _RATES:
                if hasattr(leaf, key):
                    rates = zip(getattr(leaf, key), factors, strict=True)
                    setattr(leaf, key, [rate * factor for rate, factor in rates])
            if hasattr(leaf, "eta_min"):  # one for all groups
                leaf.eta_min *= factors[0]


class _Builder:
    """Makes a scheduler and those inside it. `rates` are the groups' learning rates before any schedule."""

    def __init__(self, optimizer: torch.optim.Optimizer, rates: Sequence[float], steps_per_epoch: int) -> None:
        self._optimizer, self._rates, self._steps_per_epoch = optimizer, rates, steps_per_epoch

    def build(self, part: Part, inner: Sequence[Part], where: str, length: int) -> Any:
        """The scheduler of `part` around those of `inner`, for `length` of its steps."""
        entry = catalog.find("scheduler", catalog.schedulers(), part.name, where)
        written = part.parameters
        if not isinstance(part, Scheduler):
            written.pop("schedulers", None)
        entry.check(written, where)
        if not entry.composed:
            if inner:
                raise RecipeError(f"{where}.schedulers", f"{entry.name} takes no schedulers", "Remove them.")
            return self._held(entry).make(self._completed(entry, written, length), where, self._optimizer)
        if not inner:
            raise RecipeError(f"{where}.schedulers", f"{entry.name} needs schedulers", "Add at least one.")
        spans = _spans(written, len(inner), length, where)
        children = []
        for number, (child, span) in enumerate(zip(inner, spans, strict=True)):
            at = f"{where}.schedulers.{number}"
            _check_place(entry, child, number, at)
            children.append(self.build(child, _inner(child, at), at, span))
        return entry.make({**written, "schedulers": children, "optimizer": self._optimizer}, where)

    def _completed(self, entry: Entry, written: Mapping[str, Any], length: int) -> dict[str, Any]:
        known: dict[str, Any] = {**dict.fromkeys(_LENGTHS, length), "max_lr": self._rates[0]}
        if "epochs" in written:  # OneCycleLR takes its length in epochs as well
            known["steps_per_epoch"] = self._steps_per_epoch
            known.pop("total_steps")
        values = {**{name: value for name, value in known.items() if entry.parameter(name)}, **written}
        if len(set(self._rates)) > 1:  # the backbone keeps its share
            for name in _SHARED:
                if isinstance(values.get(name), (int, float)):
                    values[name] = [values[name] * rate / self._rates[0] for rate in self._rates]
        return values

    @staticmethod
    def _held(entry: Entry) -> Entry:
        if entry.parameter("total_steps") is None:
            return entry
        return Entry(entry.name, entry.kind, _holding(entry.target), entry.group)


@cache
def _holding(kind: Any) -> Any:
    """`kind` that keeps its last rate when it is over, where torch raises an error."""

    class Holding(kind):  # type: ignore[misc]
        __init__ = kind.__init__
        __doc__ = kind.__doc__

        def get_lr(self) -> Any:
            if self.last_epoch >= self.total_steps:
                return [group["lr"] for group in self.optimizer.param_groups]
            return super().get_lr()

    Holding.__name__ = kind.__name__
    return Holding


def _spans(written: Mapping[str, Any], count: int, length: int, where: str) -> list[int]:
    """For how long each inner scheduler runs: between milestones, or always. Raises RecipeError."""
    if "milestones" not in written:
        return [length] * count
    milestones = [int(each) for each in written["milestones"]]
    if len(milestones) != count - 1:
        what = f"{len(milestones)} of them divide a run into {len(milestones) + 1}, and there are {count} schedulers"
        raise RecipeError(f"{where}.milestones", what, f"Write {count - 1}.")
    if any(late <= early for early, late in zip([0, *milestones], milestones, strict=False)):
        raise RecipeError(f"{where}.milestones", f"{milestones} don't rise from 0", "Write them in order.")
    # One that would begin after the end of the run never runs, but must be made.
    ends = [*milestones, max(length, *milestones, 0) if milestones else length]
    return [max(end - begin, 1) for begin, end in zip([0, *milestones], ends, strict=True)]


def _check_place(outer: Entry, child: Part, number: int, where: str) -> None:
    """Raise RecipeError for a scheduler that torch can't drive from inside another."""
    if child.name == "ReduceLROnPlateau":
        what = f"ReduceLROnPlateau needs the loss, which {outer.name} does not hand on"
        raise RecipeError(where, what, "Use it alone, with optimizer.warmup if the rate is to rise first.")
    kind = catalog.schedulers().get(child.name)
    if number > 0 and kind is not None and kind.composed and "milestones" in {each.name for each in outer.parameters}:
        what = f"{outer.name} can't begin {with_article(child.name)} in the middle of a run"
        raise RecipeError(where, what, "List its schedulers directly, or put it first.")


def _inner(part: Part, where: str) -> list[Part]:
    """The schedulers inside an inner one, which are plain tables in the recipe. Raises RecipeError."""
    tables = part.parameters.get("schedulers", [])
    if not isinstance(tables, (list, tuple)):
        raise RecipeError(f"{where}.schedulers", "is not a list", 'Write [{ name = "StepLR", step_size = 5 }].')
    for number, table in enumerate(tables):
        if not isinstance(table, dict) or not isinstance(table.get("name"), str) or not table["name"]:
            raise RecipeError(
                f"{where}.schedulers.{number}", "has no name", 'Write { name = "StepLR", step_size = 5 }.'
            )
    return [Part.model_validate(table) for table in tables]


def _follows_the_run(name: str, written: Mapping[str, Any], inner: Sequence[Part]) -> bool:
    """Whether the person left the length of this scheduler, or of one inside it, to the run."""
    entry = catalog.schedulers()[name]
    if any(entry.parameter(key) and not {key, "epochs"} & set(written) for key in _LENGTHS):
        return True
    return any(_follows_the_run(child.name, child.parameters, _inner(child, name)) for child in inner)


def _leaves(scheduler: Any) -> Iterator[LRScheduler]:
    """The schedulers that set rates, out of those that only call others."""
    inner = getattr(scheduler, "_schedulers", None)
    if inner is None:
        yield scheduler
    for child in inner or ():
        yield from _leaves(child)


def _plain(value: Any) -> Any:
    """A scheduler's state without functions and with plain containers, so that weights_only can load it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value
