"""What would let a model of the zoo take the data's pictures: each suggestion was tried before it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.data.prepare import Facts, describe
from engine.errors import StudioError
from engine.models.fixes import Fix
from engine.models.zoo.building import COLOURS, plan_zoo, wanted_size
from engine.models.zoo.catalogue import ZooModel, zoo_models
from engine.recipe import Part, Recipe

TRANSFORMS = "data.transforms"


def zoo_fixes(recipe: Recipe, facts: Facts, *, aside: bool = False) -> list[Fix]:
    """Transforms that let the recipe's model of the zoo take its pictures, the smallest first.

    `aside` says that a training may be running in another thread.
    """
    zoo = next((model for model in zoo_models(recipe.task) if model.name == recipe.model.zoo), None)
    if zoo is None or len(facts.shape) != 3:
        return []
    found = []
    for alternatives in _candidates(zoo, recipe.data.transforms, facts):
        found += [next((fix for fix in alternatives if _works(recipe, fix, aside)), None)]
    return [fix for fix in found if fix is not None]


def _candidates(zoo: ZooModel, now: tuple[Part, ...], facts: Facts) -> Iterator[Sequence[Fix]]:
    """What may be done, and what else where that is not enough."""
    grey = facts.shape[0] != COLOURS
    coloured = _with(now, "Grayscale", num_output_channels=COLOURS) if grey else now
    if grey:
        yield [Fix("add Grayscale, in three colours", settings={TRANSFORMS: coloured})]
    _, smallest = wanted_size(zoo, facts)
    sides = [smallest] if smallest is not None else []
    if zoo.standard is not None and [zoo.standard.side] * 2 not in sides:
        sides.append([zoo.standard.side] * 2)  # what its weights were trained on
    for side in sides:
        size = "×".join(map(str, side))
        yield [
            Fix(f"add Resize to {size}", settings={TRANSFORMS: _with(now, "Resize", size=side)}),
            Fix(f"add Resize to {size} and Grayscale", settings={TRANSFORMS: _with(coloured, "Resize", size=side)}),
        ]


def _with(transforms: tuple[Part, ...], name: str, **parameters: object) -> tuple[Part, ...]:
    """The transforms with one of that name before all others, in the place of those of that name that there are."""
    made = Part.model_validate({"name": name, **parameters})
    return (made, *(each for each in transforms if each.name != name))


def _works(recipe: Recipe, fix: Fix, aside: bool) -> bool:
    try:
        mended = recipe.override(fix.settings, recipe.title)
        plan_zoo(mended.model, describe(mended, aside=aside)[1])
    except StudioError:
        return False
    return True
