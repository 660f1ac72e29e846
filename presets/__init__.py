"""The recipes that ship with torch-tui: one TOML file each, in a folder per family. `presets.own` has the person's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engine.data.sources import sources
from engine.errors import RecipeError, nearest
from engine.recipe import Recipe

DEFAULT = "digits-mlp"
_ROOT = Path(__file__).parent
# The order of a course; further families follow by name, further presets by how much is to be downloaded for them.
_FAMILIES = ("vision", "tabular")
_COURSE = (DEFAULT, "digits-cnn", "digits-resnet", "digits-gru", "digits-transformer")


@dataclass(frozen=True)
class Preset:
    """A recipe with a name, which is its file's. The family of one that ships is its folder's."""

    name: str
    family: str
    path: Path
    recipe: Recipe


@cache
def presets() -> tuple[Preset, ...]:
    """Every preset by family: the default first, then those whose data ships with torch-tui."""
    found = [Preset(path.stem, path.parent.name, path, Recipe.load(path)) for path in sorted(_ROOT.glob("*/*.toml"))]
    return tuple(sorted(found, key=_order))


def load(name: str) -> Preset:
    """The preset of that name, one that ships or one's own. Raises RecipeError with the nearest name."""
    for preset in presets():
        if preset.name == name:
            return preset
    from presets.own import Broken, own_presets  # made of what stands here

    own = own_presets()
    for each in own:
        if each.name == name:
            if isinstance(each, Broken):
                raise each.error
            return each
    names = [preset.name for preset in (*presets(), *own)]
    raise RecipeError(name, "is no preset and no recipe file", nearest(name, names) or "See: torch-tui presets.")


def _order(preset: Preset) -> tuple[int, str, int, int, int, str]:
    place = _FAMILIES.index(preset.family) if preset.family in _FAMILIES else len(_FAMILIES)
    source = sources().get(preset.recipe.data.name)
    megabytes, layers = source.download_mb if source else 0, len(preset.recipe.model.layers)
    lesson = _COURSE.index(preset.name) if preset.name in _COURSE else len(_COURSE)
    return place, preset.family, lesson, megabytes, layers, preset.name
