"""A recipe on other data than it was written for: what follows from them at once, and what makes it fit them.

There is one way for all of them: datasets of the catalog, files and functions of a person's own, and other options of
what was chosen before. Nothing loads torch before `adapted` is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.data.sources import Source
from engine.errors import RecipeError
from engine.models.starting import kind_of, with_model
from engine.recipe import Recipe

if TYPE_CHECKING:
    from engine.data.samples import Progress

DEFAULT_LOSS = {
    "classification": "CrossEntropyLoss",
    "regression": "MSELoss",
    "segmentation": "CrossEntropyLoss",
    "detection": "CrossEntropyLoss",  # it is not trained yet
}
_OUTPUTS = {"classification": "classes", "regression": "targets", "segmentation": "classes", "detection": "classes"}
_MEASURED = ("Normalize", "Standardize", "LinearTransformation")  # constants of other data are not this one's


@dataclass(frozen=True)
class Adapted:
    """A recipe that fits its data, and what was changed for that, in a line."""

    recipe: Recipe
    said: str


def on_data(recipe: Recipe, source: Source, where: Mapping[str, Any]) -> Recipe:
    """The recipe on the data that `where` names, as keys of `[data]`; `source` is what is known of them.

    Task, loss, split, transforms and augmentation follow from it, and the word for the size of the last layer. A shape
    of () is not known yet. Raises RecipeError.
    """
    values = recipe.values()
    before = recipe.task
    data = {**values["data"], "name": "", "path": "", "format": "auto", "python": "", "options": {}, **where}
    data["mix"] = ()  # what was trained on beside the other dataset
    data |= _steps(source, data)
    if where.get("path"):
        how = "stratified" if source.task == "classification" else "random"
        data["split"] = {**data["split"], "how": how, "by": ""}
    elif data["split"]["by"]:
        data["split"] = {**data["split"], "how": "random", "by": ""}
    if source.task != "classification":
        data["sampler"] = "shuffle"
    if where.get("python"):
        data["standardize_target"] = False  # it is never held whole
    if source.task != before:
        values["task"] = source.task
        values["loss"] = {"name": DEFAULT_LOSS.get(source.task, "CrossEntropyLoss")}
        data["standardize_target"] = source.task == "regression" and not where.get("python")
        values["model"]["layers"] = _renamed(
            values["model"]["layers"], _OUTPUTS.get(before, "classes"), _OUTPUTS.get(source.task, "classes")
        )
    values["data"] = data
    return Recipe.from_values(values, recipe.title)


def adapted(
    recipe: Recipe,
    before: Source | None,
    *,
    unknown: bool = False,
    keep: bool = False,
    aside: bool = False,
    reading: Progress = lambda what, done, total: None,
) -> Adapted | None:
    """The recipe with what lets its model take its data, which are read; None where it does, or where nothing does.

    A model that takes them stays. One that takes samples of the same kind as those `before` is mended, as far as no
    layer is taken out; where that is not enough, or the samples are of another kind, a small model for them takes its
    place, unless a person made it (`keep`): then that stays a proposal. Code of a person's own is left alone. `unknown`
    says that the shape was not known as the data were chosen: transforms and augmentation follow from it now.

    Raises what reading the data raises.
    """
    from engine.check import described_without_bad, mended_whole, replaced_whole, takes  # torch takes 1.8 s to import

    now, said = recipe, []
    try:
        source, facts = described_without_bad(recipe, aside, reading)
    except RecipeError as error:
        if not error.where.startswith(("data.transforms", "data.augment")):
            raise
        unknown = True
    if unknown:
        bare = recipe.override({"data.transforms": (), "data.augment": ()}, recipe.title)
        source, _ = described_without_bad(bare, aside, reading)
        now = _with_steps(recipe, source)
        source, facts = described_without_bad(now, aside, reading)
        if now != recipe:
            said.append("Transforms and augmentation follow from the data.")
    if not now.model.python and not takes(now, facts, aside):
        kind, other = kind_of(source), before is not None and kind_of(source) != kind_of(before)
        ways = (replaced_whole, mended_whole) if other else (mended_whole, replaced_whole)
        tried = (way(now, source, facts, aside) for way in ways if not (keep and way is replaced_whole))
        fix = next((fix for fix in tried if fix is not None), None)
        if fix is not None:
            now = with_model(now, fix.layers, fix.settings, recipe.title)
            why = f"was for {kind_of(before)}" if other and before else f"does not take {source.name}"
            anew = f"The model {why}: now there is a small one for {kind}."
            said.insert(0, anew if fix.gives_up else f"The model is fitted to {source.name}: {fix.title}.")
    return Adapted(now, " ".join((*said, "u takes it all back."))) if now != recipe else None


def _with_steps(recipe: Recipe, source: Source) -> Recipe:
    values = recipe.values()
    values["data"] |= _steps(source, values["data"])
    return Recipe.from_values(values, recipe.title)


def _steps(source: Source, data: Mapping[str, Any]) -> dict[str, Any]:
    """The transforms and the augmentation that are still right for samples of `source`."""
    transforms, augment = data["transforms"], data["augment"]
    kept = _without_measured(transforms)
    pictures = len(source.shape) == 3 or not source.shape
    if source.rate and any(part["name"].endswith("Spectrogram") for part in transforms):
        kept = transforms  # what is made of sound is measured anew
    elif len(source.shape) == 1 and not source.vocabulary and not source.rate:
        kept = [] if data["python"] else [{"name": "Standardize"}]
    elif not pictures:
        kept = []
    if not pictures or source.task == "segmentation":  # what moves pixels must move those of masks, too
        augment = []
    elif source.shape and not any("size" in part for part in kept):
        side: Any = list(source.shape[1:]) if source.shape[1] != source.shape[2] else source.shape[1]
        augment = [_sized(part, side) for part in augment]
    return {"transforms": kept, "augment": augment}


def _held(part: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What a transform holds, as far as that is right."""
    inside = part.get("transforms", ())
    return inside if isinstance(inside, (list, tuple)) and all(isinstance(each, dict) for each in inside) else ()


def _without_measured(parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without constants of other data, also in a Compose, and without one that holds nothing else."""
    kept: list[Mapping[str, Any]] = []
    for part in parts:
        inside = _without_measured(_held(part))
        if inside:
            kept.append({**part, "transforms": inside})
        elif part.get("name") not in _MEASURED and not _held(part):
            kept.append(part)
    return kept


def _sized(part: Mapping[str, Any], side: Any) -> Mapping[str, Any]:
    """With that size in the place of another, also in what it holds."""
    sized = {**part, "size": side} if "size" in part else part
    return {**sized, "transforms": [_sized(each, side) for each in _held(part)]} if _held(part) else sized


def _renamed(value: Any, before: str, after: str) -> Any:
    """Nested plain values with one text in the place of another."""
    if isinstance(value, dict):
        return {key: _renamed(item, before, after) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(item, before, after) for item in value]
    return after if value == before else value
