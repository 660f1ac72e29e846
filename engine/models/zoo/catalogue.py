"""torchvision's models as a table, read from torchvision itself: no weight is made, nothing is downloaded."""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn

from engine.errors import RecipeError, nearest
from engine.recipe import TaskName


@dataclass(frozen=True)
class ZooWeights:
    """Pretrained weights. `side` is the pictures' in pixels, `megabytes` the download's size.

    `accuracy` is the top-1 accuracy in percent that torchvision reports on `dataset`, None where it reports none.
    `minimum` is the smallest (height, width) that the network takes, as torchvision gives it.
    """

    name: str
    url: str
    parameters: int
    gflops: float
    megabytes: float
    accuracy: float | None
    dataset: str
    side: int
    minimum: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def trained_on(self) -> str:
        """`ImageNet-1K, 224×224 pictures with Normalize(mean = [0.485, …], std = [0.229, …])`."""
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{self.dataset}, {self.side}×{self.side} pictures with Normalize, mean = [{mean}], std = [{std}]"


@dataclass(frozen=True)
class ZooModel:
    """A model of the zoo; `weights` has torchvision's own choice first."""

    name: str
    family: str
    about: str
    weights: tuple[ZooWeights, ...]

    @property
    def standard(self) -> ZooWeights | None:
        """The weights that torchvision calls DEFAULT; they also say how large the model is."""
        return self.weights[0] if self.weights else None


def zoo_models(task: TaskName = "classification") -> tuple[ZooModel, ...]:
    """Every model of torchvision that fits `task`, by name: a picture in, as many numbers out as there are classes.

    A regression takes the same ones; models that find, segment or follow things fit neither task.
    """
    return _pictures_to_numbers() if task in ("classification", "regression") else ()


def find(name: str) -> ZooModel:
    """The model called `name`. Raises RecipeError with the nearest name."""
    known = {model.name: model for model in _pictures_to_numbers()}
    if name not in known:
        what = f"torchvision has no classification model '{name}'"
        raise RecipeError("model.zoo", what, nearest(name, known))
    return known[name]


def find_weights(model: ZooModel, name: str) -> ZooWeights:
    """The model's weights called `name`, or `DEFAULT`. Raises RecipeError with what there is."""
    known = {each.name: each for each in model.weights}
    if model.standard is not None and name == "DEFAULT":
        return model.standard
    if name not in known:
        there = f"There are {', '.join(known)}." if known else 'There are none: weights = "".'
        raise RecipeError("model.weights", f"{model.name} has no weights '{name}'", nearest(name, known) or there)
    return known[name]


def entry(model: ZooModel, weights: ZooWeights) -> Any:
    """torchvision's own entry for the weights, to hand to the model's builder."""
    from torchvision import models

    return models.get_model_weights(model.name)[weights.name]


def parameters_of(name: str) -> Mapping[str, inspect.Parameter]:
    """What the class of a model takes: its builder says only `**kwargs`, and which class it returns."""
    from torchvision import models

    return inspect.signature(_class_of(models.get_model_builder(name))).parameters


@cache
def _pictures_to_numbers() -> tuple[ZooModel, ...]:
    from torchvision import models  # torchvision takes 1.5 s to import

    return tuple(_described(name) for name in models.list_models(module=models))


def _described(name: str) -> ZooModel:
    from torchvision import models

    builder, known = models.get_model_builder(name), models.get_model_weights(name)
    about = inspect.getdoc(builder) or ""
    standard = known.DEFAULT if "DEFAULT" in known.__members__ else None
    found = map(_weights, sorted(known, key=lambda each: each is not standard))
    # Of vgg16 there are weights without a classifier, NaN in its place: torchvision gives their accuracy as NaN.
    whole = tuple(each for each in found if each.accuracy is None or not math.isnan(each.accuracy))
    return ZooModel(name, _class_of(builder).__name__, _first_paragraph(about), whole)


def _weights(found: Any) -> ZooWeights:
    meta, crop = found.meta, found.transforms()
    metrics: dict[str, dict[str, float]] = meta.get("_metrics", {})
    dataset, measured = next(iter(metrics.items()), ("", {}))
    side = crop.crop_size[0] if isinstance(crop.crop_size, (list, tuple)) else crop.crop_size
    return ZooWeights(
        name=found.name,
        url=found.url,
        parameters=meta["num_params"],
        gflops=meta.get("_ops", 0.0),
        megabytes=meta.get("_file_size", 0.0),
        accuracy=measured.get("acc@1"),
        dataset=dataset,
        side=side,
        minimum=tuple(meta.get("min_size", (1, 1))),
        mean=tuple(crop.mean),
        std=tuple(crop.std),
    )


def _class_of(builder: Callable[..., nn.Module]) -> type[nn.Module]:
    kind = typing.get_type_hints(inspect.unwrap(builder)).get("return", nn.Module)
    assert isinstance(kind, type)
    return kind


def _first_paragraph(doc: str) -> str:
    """The first paragraph of a docstring on one line, without the marks of its links."""
    text = " ".join(doc.partition("\n\n")[0].split())
    return re.sub(r"`([^`<]*?)\s*<([^>]*)>`_+", r"\1 (\2)", text).replace("``", "").replace(":class:", "")
