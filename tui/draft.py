"""The recipe on the desk: what the person edits before training, with undo without limit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.data.sources import Source
from engine.models.starting import with_model
from engine.other_data import DEFAULT_LOSS, on_data
from engine.recipe import Loss, Optimizer, Part, Recipe, Scheduler
from engine.recipe.tree import Tree
from engine.runs.directory import RunDirectory

if TYPE_CHECKING:
    from engine.recipe.file import RecipeFile

_SECTIONS: dict[str, type[Part]] = {"loss": Loss, "optimizer": Optimizer, "scheduler": Scheduler}


@dataclass(frozen=True)
class Origin:
    """The checkpoint of a run that a branch goes on from."""

    run: RunDirectory
    checkpoint: str
    epoch: int

    def __str__(self) -> str:
        return f"from {self.run.name} at epoch {self.epoch}"


class Draft:
    """A recipe, its name and its past. Every change makes a new recipe; raises RecipeError and stays as it was.

    A draft with an `origin` is trained from that checkpoint on, one without from its beginning. A `file` is what it was
    read from and is saved into.
    """

    def __init__(self, name: str, recipe: Recipe, origin: Origin | None = None, file: RecipeFile | None = None) -> None:
        self.name = name
        self.recipe = recipe
        self.origin = origin
        self.file = file
        self._past: list[Recipe] = []
        self._future: list[Recipe] = []
        self._typing = ""
        self._given = [recipe.model]

    @property
    def edited(self) -> bool:
        """Whether there is anything to undo."""
        return bool(self._past)

    @property
    def before(self) -> Recipe | None:
        """The recipe as undo would make it."""
        return self._past[-1] if self._past else None

    @property
    def after(self) -> Recipe | None:
        """The recipe as redo would make it."""
        return self._future[-1] if self._future else None

    @property
    def unsaved(self) -> bool:
        """Whether its file says something else."""
        return self.file is not None and not self.file.holds(self.recipe)

    @property
    def built(self) -> bool:
        """Whether a model was made in it that is in no file."""
        return self.file is None and bool(self._past) and self._past[0].model != self.recipe.model

    def replace(self, recipe: Recipe) -> None:
        """Put a whole recipe in the place of this one, as one step of undo."""
        self._become(recipe)

    def set(self, key: str, value: Any) -> None:
        """Set one dotted key; None restores its default. Typing on in the same field is one step of undo."""
        self._become(self.recipe.override({key: value}, self.name), typing=key)

    def set_together(self, changes: Mapping[str, Any]) -> None:
        """Set several dotted keys as one step of undo."""
        self._become(self.recipe.override(changes, self.name))

    def mend(self, layers: Tree, settings: Mapping[str, Any]) -> None:
        """These layers in place of the model, if there are any, and these dotted keys, as one step of undo."""
        self._become(with_model(self.recipe, layers, settings, self.name))

    def undo(self) -> bool:
        """Take the last change back; false when there is none."""
        return self._travel(self._past, self._future)

    def redo(self) -> bool:
        """Make the change again that was taken back last; false when there is none."""
        return self._travel(self._future, self._past)

    def set_layers(self, layers: Tree) -> None:
        """Another tree of layers (see engine.recipe.tree), as one step of undo."""
        values = self.recipe.values()
        values["model"] = {**values["model"], "layers": [layer.model_dump() for layer in layers]}
        self._become(Recipe.from_values(values, self.name))

    def takes(self, source: Source) -> bool:
        """Whether a recipe can be made for what a dataset is for."""
        return source.task in DEFAULT_LOSS

    def choose_data(self, source: Source, where: Mapping[str, Any]) -> None:
        """Train on other data, which `source` describes and `where` names, as keys of `[data]`.

        The task, the loss and the last layer follow what they are for; of other options of the same data nothing does.
        """
        data = self.recipe.data
        same = all(getattr(data, key) == where.get(key, "") for key in ("name", "path", "python"))
        if same and source.task == self.recipe.task:
            self.set_together({f"data.{key}": value for key, value in where.items()})
        else:
            recipe = on_data(self.recipe, source, where)
            self._note_model(recipe)
            self._become(recipe)

    @property
    def untouched(self) -> bool:
        """Whether nobody has changed its model: it is the one that it came with, or that came with data."""
        return self.recipe.model in self._given and not self.recipe.model.python

    def adapt(self, recipe: Recipe, *, together: bool) -> None:
        """The recipe as it fits its data; `together` with the last edit it is one step of undo."""
        self._note_model(recipe)
        if not together:
            self._become(recipe)
        self.recipe = recipe

    def choose_part(self, section: str, name: str | None, parameters: Collection[str] = ()) -> None:
        """Another loss, optimizer or scheduler; it keeps our settings and those of torch's that it has too.

        None removes the section.
        """
        values = self.recipe.values()
        if name is None:
            values.pop(section, None)
        else:
            own = set(_SECTIONS[section].model_fields) - {"schedulers"}  # those belong to one scheduler alone
            kept = {k: v for k, v in (values.get(section) or {}).items() if k in {*parameters, *own}}
            values[section] = {**kept, "name": name}
        self._become(Recipe.from_values(values, self.name))

    def choose_zoo(
        self, name: str, weights: str = "", freeze: str | int = "none", unfreeze_at: int = 0, backbone: float = 1.0
    ) -> None:
        """A model of torchvision in place of the model, what of it learns and when, and the rate of its backbone."""
        values = self.recipe.values()
        values["model"] = {"zoo": name, "weights": weights, "freeze": freeze, "unfreeze_at": unfreeze_at}
        values["optimizer"]["backbone_lr_factor"] = backbone
        self._become(Recipe.from_values(values, self.name))

    def _note_model(self, recipe: Recipe) -> None:
        """What becomes of an untouched model by a choice of data nobody has changed, either."""
        if self.untouched:
            self._given.append(recipe.model)

    def _become(self, recipe: Recipe, typing: str = "") -> None:
        if recipe == self.recipe:
            return
        if not (typing and typing == self._typing):
            self._past.append(self.recipe)
        elif recipe == self._past[-1]:
            self._past.pop()  # what was there before is typed again: nothing is left to undo
            typing = ""
        self._future.clear()
        self._typing = typing
        self.recipe = recipe

    def _travel(self, source: list[Recipe], into: list[Recipe]) -> bool:
        if not source:
            return False
        into.append(self.recipe)
        self.recipe = source.pop()
        self._typing = ""
        return True
