"""A small model to begin with for each kind of samples, made of ordinary layers, and how it is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.data.sources import Source
from engine.recipe import Layer, Recipe
from engine.recipe.tree import Tree

Kind = Literal["pictures", "pictures with masks", "a table", "text", "sound", "series"]

_LONG = 128  # tokens; a GRU takes them one after the other, and longer texts take longer than a first look is worth
_STEPS = 10  # an epoch at least: thirty epochs of two steps each teach nothing
_WINDOW_S = 0.032  # of sound, in which a tone can be told from its neighbours and a syllable still has several


@dataclass(frozen=True)
class Start:
    """A model for a kind of samples: its layers, and the dotted keys of the recipe that go with them."""

    kind: Kind
    layers: Tree
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is, in a line."""
        names = [layer.name for layer in self.layers if layer.name not in ("ReLU", "BatchNorm2d", "MaxPool2d")]
        return f"start with a small model for {self.kind}: {', '.join(dict.fromkeys(names))}"


def kind_of(source: Source) -> Kind:
    """What the samples of a dataset are."""
    if source.task == "segmentation":
        return "pictures with masks"
    if source.vocabulary:
        return "text"
    if source.rate:
        return "sound"
    return {3: "pictures", 1: "a table"}.get(len(source.shape), "series")  # type: ignore[return-value]


def start(recipe: Recipe, source: Source, shape: tuple[int, ...] = ()) -> Start | None:
    """A model for the recipe's data, None where there is none; `shape` is a sample's after transforms if they stay."""
    if not source.shape or source.task == "detection":
        return None
    kind, shape = kind_of(source), shape or source.shape
    outputs = "targets" if source.task == "regression" else "classes"
    settings: dict[str, Any] = {
        "optimizer": {"name": "AdamW", "lr": 0.001},
        "scheduler": None,  # the rates of a schedule were chosen for another model
        "data.batch_size": _batch_size(recipe, source),
    }
    if kind == "pictures with masks":
        layers = _pixels(shape)
    elif kind == "pictures":
        layers = _convolutions(shape, outputs)
    elif kind == "sound":
        steps, settings["data.transforms"] = _spectrogram(source)
        layers = _convolutions(steps, outputs)
    elif kind == "text":
        layers = _words(shape[0], outputs)
    elif kind == "a table":
        layers = _columns(source, outputs)
    else:
        layers = (_layer("GRU", hidden_size=64, returns="last"), _layer("Linear", out_features=outputs))
    return Start(kind, layers, settings)


def with_model(recipe: Recipe, layers: Tree, settings: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with these layers for its model, if there are any, and these dotted keys. Raises RecipeError."""
    values = recipe.override(settings, where).values()
    if layers:
        values["model"] = {"layers": [layer.model_dump() for layer in layers]}
    return Recipe.from_values(values, where)


def _batch_size(recipe: Recipe, source: Source) -> int:
    """As the recipe has it, or less where an epoch would be a few steps."""
    count = recipe.data.split.train * source.sizes.get("all", 0) or source.sizes.get("train", 0)
    few = 1 << max(3, int(math.log2(max(1.0, count / _STEPS))))
    return min(recipe.data.batch_size, few) if count else recipe.data.batch_size


def _words(length: int, outputs: str) -> Tree:
    embedding = _layer("Embedding", embedding_dim=64, padding_idx=0)
    reading = (
        (_layer("GRU", hidden_size=64, returns="last"),)
        if length <= _LONG
        else (_layer("SequencePool"), _layer("Linear", out_features=64), _layer("ReLU"))
    )
    return embedding, *reading, _layer("Linear", out_features=outputs)


def _columns(source: Source, outputs: str) -> Tree:
    codes = (_layer("ColumnEmbedding"),) if source.cardinalities else ()
    hidden = (_layer("Linear", out_features=64), _layer("ReLU")) * 2
    return *codes, *hidden, _layer("Linear", out_features=outputs)


def _convolutions(shape: tuple[int, ...], outputs: str) -> Tree:
    """Halved until some four rows are left, at most four times, and then the mean of what is seen anywhere."""
    stages = min(4, max(1, int(math.log2(max(1, min(shape[1:])))) - 2))
    layers: list[Layer] = []
    for stage in range(stages):
        layers += _convolution(16 << stage)
        if min(shape[1:]) >= 2:
            layers.append(_layer("MaxPool2d", kernel_size=2))
    end = _layer("AdaptiveAvgPool2d", output_size=1), _layer("Flatten"), _layer("Linear", out_features=outputs)
    return *layers, *end


def _pixels(shape: tuple[int, ...]) -> Tree:
    """Seen at half and at a quarter of the size, and scored at the whole."""
    height, width = shape[1:]
    halved = min(2, int(math.log2(max(1, min(height, width)))))
    layers = [*_convolution(16)]
    for stage in range(halved):
        layers += [_layer("MaxPool2d", kernel_size=2), *_convolution(32 << stage)]
    scores = _layer("Conv2d", out_channels="classes", kernel_size=1)
    larger = (_layer("Upsample", size=[height, width], mode="bilinear"),) if halved else ()
    return *layers, *larger, scores


def _convolution(channels: int) -> list[Layer]:
    conv = _layer("Conv2d", out_channels=channels, kernel_size=3, padding=1, bias=False)
    return [conv, _layer("BatchNorm2d"), _layer("ReLU")]


def _spectrogram(source: Source) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
    """The shape of the picture that is made of a sound, and how."""
    channels, values = source.shape
    fft = 1 << max(4, min(round(math.log2(source.rate * _WINDOW_S)), int(math.log2(max(16, values)))))
    bands = min(64, max(4, fft // 8))
    picture = {"name": "LogMelSpectrogram", "n_mels": bands, "n_fft": fft}
    return (channels, bands, 4 * values // fft + 1), [picture, {"name": "Standardize"}]


def _layer(name: str, **parameters: object) -> Layer:
    return Layer.model_validate({"name": name, **parameters})
