"""`model.freeze` and `model.unfreeze_at` as Python: what is held is named by how its names begin."""

from __future__ import annotations

from torch import nn

from engine.code import literal
from engine.policies.freezing import Freezing
from engine.recipe import Recipe


class FreezingCode:
    """Lines that hold what the recipe freezes; all are empty where it freezes nothing.

    Leaves `model` as its optimizer is to see it. Raises RecipeError.
    """

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        self._until = recipe.model.unfreeze_at
        self._own = bool(recipe.model.python)
        learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        freezing = Freezing(recipe, model)
        freezing.begin_epoch(0)
        held = learned - {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        norms = set(freezing.norms)
        self._norms = bool(norms)
        named = {f"{name}." for name, module in model.named_modules() if module in norms}
        self._names = _beginnings(model, learned | named, held | named)
        freezing.begin_epoch(self._until)

    def constants(self) -> list[str]:
        """How the names of what is held begin, and how long it is."""
        if not self._names:
            return []
        lines = [f"FROZEN = {literal(tuple(self._names))}  # the names of what does not learn begin so"]
        return [*lines, f"UNFREEZE_AT = {self._until}  # epochs, after which it learns"] if self._until else lines

    def begin(self) -> list[str]:
        """Lines for before the optimizer is made."""
        if not self._names:
            return []
        able = " and p.requires_grad" if self._own else ""
        lines = [f"frozen = [p for name, p in model.named_parameters() if name.startswith(FROZEN){able}]"]
        if self._norms:
            chosen = 'f"{name}.".startswith(FROZEN) and hasattr(m, "running_mean")'
            lines.append(f"norms = [m for name, m in model.named_modules() if {chosen}]")
        return [*lines, *([] if self._until else ["for parameter in frozen:", "    parameter.requires_grad_(False)"])]

    def begin_epoch(self) -> list[str]:
        """Lines for after `model.train()`."""
        lines = list[str]()
        learns = "epoch >= UNFREEZE_AT" if self._until else "False"
        if self._names and self._until:
            lines += ["for parameter in frozen:", f"    parameter.requires_grad_({learns})"]
        if self._norms:
            lines += ["for norm in norms:", f"    norm.train({learns})  # frozen, it keeps its statistics"]
        return lines


def _beginnings(model: nn.Module, every: set[str], held: set[str]) -> list[str]:
    """The fewest beginnings that the names in `held` have, and the others in `every` have not.

    Parameters are called `1.weight`, modules `1.`, as they begin.
    """
    found: list[str] = []
    for name in (*(f"{name}." for name, _ in model.named_modules() if name), *sorted(held)):
        inside = {each for each in every if each.startswith(name)}
        if inside and inside <= held and not name.startswith(tuple(found)):
            found.append(name)
    return found
