"""A transform as Python: the call that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.code import arguments, call, imported, literal
from engine.data.augmentation.augment import ON_BYTES
from engine.data.transforms import Lambda, LinearTransformation, checked, held
from engine.data.transforms.linear import array_name
from engine.recipe import Part


def transform_code(part: Part, where: str, *, alone: bool = False) -> str:
    """The call that makes the transform with all that it holds; `alone` says that it is given single pictures.

    Raises RecipeError.
    """
    entry = checked(part, where)
    values: Mapping[str, Any] = part.parameters
    if part.name == "Standardize":
        return "Standardize()"
    if part.name == "Normalize":  # lists, as everybody writes them
        return call("v2.Normalize", [f"{name}={literal(value)}" for name, value in values.items() if name != "inplace"])
    if entry.container:
        inside = ", ".join(transform_code(each, at, alone=alone) for at, each in held(part, where))
        return call(f"v2.{part.name}", arguments(entry, values, f"[{inside}]", positional=0))
    if entry.target is Lambda:
        function = imported(values["lambd"])
        return f"v2.Lambda({f'lambda image: {function}(image.unsqueeze(0)).squeeze(0)' if alone else function})"
    if entry.target is LinearTransformation:
        return call("v2.LinearTransformation", [f"{name}={_numbers(value, name)}" for name, value in values.items()])
    made = call(f"v2.{part.name}", arguments(entry, values, positional=0))
    if part.name in ON_BYTES:
        there, back = (f"v2.ToDtype(torch.{name}, scale=True)" for name in ("uint8", "float32"))
        return f"v2.Compose([{there}, {made}, {back}])"
    return made


def _numbers(given: Any, name: str) -> str:
    """The expression for a list of numbers, or for those in a file of the person's own."""
    if not isinstance(given, str):
        return f"torch.tensor({literal(given)}, dtype=torch.float32)"
    path, key = literal(str(Path(given).resolve())), array_name(given, name)
    chosen = "" if key is None else f"[{literal(key)}]"
    if given.endswith(".pt"):
        return f"torch.load({path}, weights_only=True){chosen}.float()"
    return f"torch.from_numpy(np.load({path}){chosen}).float()"
