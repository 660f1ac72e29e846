"""The recipe on the desk: what the person edits before training, with undo without limit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.data.sources import Source
from engine.models.starting import with_model
from engine.recipe import Loss, Optimizer, Part, Recipe, Scheduler, TaskName
from engine.recipe.tree import Tree
from engine.runs.directory import RunDirectory

if TYPE_CHECKING:
    from engine.recipe.file import RecipeFile

_DEFAULT_LOSS = {
    "classification": "CrossEntropyLoss",
    "regression": "MSELoss",
    "segmentation": "CrossEntropyLoss",
    "detection": "CrossEntropyLoss",  # it is not trained yet
}
_SECTIONS: dict[str, type[Part]] = {"loss": Loss, "optimizer": Optimizer, "scheduler": Scheduler}
_OUTPUTS = {"classification": "classes", "regression": "targets", "segmentation": "classes", "detection": "classes"}


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
        return source.task in _DEFAULT_LOSS

    def choose_dataset(self, source: Source) -> None:
        """Train on another dataset of the catalog; the task, the loss and the last layer follow what it is for."""
        self._become(self._on_data(source, {"name": source.name}))

    @property
    def untouched(self) -> bool:
        """Whether nobody has changed its model: it is the one that it came with, or that came with files."""
        return self.recipe.model in self._given and not self.recipe.model.python

    def take(self, recipe: Recipe) -> None:
        """The same recipe on files of a person's own, maybe with a model for such, as one step of undo."""
        self._given.append(recipe.model)
        self._become(recipe)

    def choose_files(self, source: Source, path: Path, format: str, options: Mapping[str, Any]) -> None:
        """Train on files of a person's own, which `source` describes as they were read. Classes are split alike."""
        self._become(self.with_files(source, path, format, options))

    def with_files(self, source: Source, path: Path, format: str, options: Mapping[str, Any]) -> Recipe:
        """The recipe as it is when these files are chosen."""
        return self._on_data(source, {"path": str(path), "format": format, "options": dict(options)})

    def choose_function(self, reference: str, task: TaskName) -> None:
        """Train on what a function of a person's own makes."""
        self._become(self._on_data(Source(reference, "", task, (), 0, {}, "yours"), {"python": reference}))

    def _on_data(self, source: Source, where: Mapping[str, Any]) -> Recipe:
        values = self.recipe.values()
        before = self.recipe.task
        data = {**values["data"], "name": "", "path": "", "format": "auto", "python": "", "options": {}, **where}
        data["mix"] = ()  # what was trained on beside the other dataset
        table = len(source.shape) == 1 and not source.vocabulary and not source.rate
        measured = ("Normalize", "Standardize")  # constants of other data are not this one's
        kept = [part for part in data["transforms"] if part["name"] not in measured]
        unknown = not source.shape and bool(where.get("python"))
        pictures = len(source.shape) == 3 or unknown
        data["transforms"] = [{"name": "Standardize"}] if table else kept if pictures else []
        if not pictures or source.task == "segmentation":  # what moves pixels must move those of masks, too
            data["augment"] = []
        elif len(source.shape) == 3 and not any("size" in part for part in data["transforms"]):
            side: Any = list(source.shape[1:]) if source.shape[1] != source.shape[2] else source.shape[1]
            data["augment"] = [{**part, "size": side} if "size" in part else part for part in data["augment"]]
        if where.get("path"):
            how = "stratified" if source.task == "classification" else "random"
            data["split"] = {**data["split"], "how": how, "by": ""}
        elif data["split"]["by"]:
            data["split"] = {**data["split"], "how": "random", "by": ""}
        if source.task != "classification":
            data["sampler"] = "shuffle"
        if source.task != before:
            values["task"] = source.task
            values["loss"] = {"name": _DEFAULT_LOSS.get(source.task, "CrossEntropyLoss")}
            data["standardize_target"] = source.task == "regression" and not where.get("python")
            values["model"]["layers"] = _renamed(
                values["model"]["layers"], _OUTPUTS.get(before, "classes"), _OUTPUTS.get(source.task, "classes")
            )
        values["data"] = data
        return Recipe.from_values(values, self.name)

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

    def _become(self, recipe: Recipe, typing: str = "") -> None:
        if recipe == self.recipe:
            return
        if not (typing and typing == self._typing):
            self._past.append(self.recipe)
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


def _renamed(value: Any, before: str, after: str) -> Any:
    """Nested plain values with one text in the place of another."""
    if isinstance(value, dict):
        return {key: _renamed(item, before, after) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(item, before, after) for item in value]
    return after if value == before else value
