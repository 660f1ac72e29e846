"""A model of torchvision's zoo, built for the data: its classes, channels and size, with pretrained weights or without.

The head is told apart by behaviour: its weights are those whose shape follows the number of classes.
"""

# B batch · C channels · H height · W width

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.prepare import Facts
from engine.data.samples import Progress
from engine.errors import ModelError, RecipeError, first_line
from engine.models.rows import count_parameters
from engine.models.weightless import weightless
from engine.models.zoo.catalogue import ZooModel, ZooWeights, entry, find, find_weights, parameters_of
from engine.models.zoo.weights import fetch
from engine.recipe import Model

COLOURS = 3
_IN_COLOUR = 'data.transforms = [{ name = "Grayscale", num_output_channels = 3 }]'


@dataclass(frozen=True)
class ZooPlan:
    """How a model is built: `options` for torchvision's builder, `head` names the weights that follow the classes.

    `twin` is the model without memory.
    """

    zoo: ZooModel
    weights: ZooWeights | None
    options: Mapping[str, Any]
    twin: nn.Module
    head: set[str]


def build_zoo(wanted: Model, facts: Facts, progress: Progress | None) -> nn.Module:
    """The model that `[model]` names. `progress` is told of a download; without it no weights are loaded.

    That is for where a checkpoint brings all weights. Raises RecipeError or ModelError, also for samples that the model
    can't take: before anything is downloaded.
    """
    plan = plan_zoo(wanted, facts)
    model = _made(plan.zoo, plan.options)
    _take_channels(model, facts.shape[0])
    _name_auxiliary(model, plan.head)
    if plan.weights is not None and progress is not None:
        _load(model, plan.zoo, plan.weights, progress, plan.head)
    return model


def plan_zoo(wanted: Model, facts: Facts, *, tried: bool = True) -> ZooPlan:
    """How the model is built. Raises RecipeError or ModelError, where it is `tried` also for samples it can't take.

    Nothing is downloaded, and no random number is drawn.
    """
    zoo, weights = chosen(wanted)
    options = _options(zoo, weights, wanted, facts)
    twin = _twin(zoo, options, facts)
    if tried:
        try:
            _try(twin, facts)
        except Exception as error:  # torch raises whatever fits
            raise refusal(wanted, facts, error) from error
    head = _head_weights(twin, zoo, options)
    _name_auxiliary(twin, head)
    return ZooPlan(zoo, weights, options, twin, head)


def shape_of_zoo(wanted: Model, facts: Facts) -> nn.Module:
    """The model without memory; no samples are sent through it. Raises RecipeError or ModelError."""
    return plan_zoo(wanted, facts, tried=False).twin


def chosen(wanted: Model) -> tuple[ZooModel, ZooWeights | None]:
    """The model and the weights that `[model]` names. Raises RecipeError."""
    zoo = find(wanted.zoo)
    return zoo, find_weights(zoo, wanted.weights) if wanted.weights else None


def zoo_notes(wanted: Model, model: nn.Module) -> list[str]:
    """What a person should know of the model that was built and can't see in the recipe."""
    zoo, weights = chosen(wanted)
    notes = []
    if weights is not None:
        scored = f", {weights.accuracy:g} % right" if weights.accuracy is not None else ""
        notes.append(f"{zoo.name} begins with {weights.name} ({weights.trained_on}{scored}); its head is new")
    elif wanted.freeze != "none":
        notes.append(f"{zoo.name} is frozen at random weights: model.weights names none")
    if "aux_logits" in parameters_of(zoo.name) and "aux_logits" not in wanted.options and not _auxiliary(model):
        notes.append(f"{zoo.name} is trained without auxiliary heads: {_why_without(zoo, weights, wanted)}")
    return notes


def refusal(wanted: Model, facts: Facts, error: BaseException) -> ModelError:
    """The error for a person, for a model that can't take the data's samples."""
    zoo, _ = chosen(wanted)
    why = "they are too small" if _too_small(zoo, facts) else first_line(error)
    what = f"{zoo.name} fails on samples of {'×'.join(map(str, facts.shape))}: {why}"
    return ModelError("model", what, _size_remedy(zoo, facts))


# Options


def _options(zoo: ZooModel, weights: ZooWeights | None, wanted: Model, facts: Facts) -> dict[str, Any]:
    """The recipe's options, and what follows from the data and the weights where the recipe leaves it open."""
    if len(facts.shape) != 3:
        raise _no_pictures(zoo, facts)
    takes = parameters_of(zoo.name)
    channels, height, width = facts.shape
    options: dict[str, Any] = {"num_classes": facts.outputs, **wanted.options}
    if "image_size" in takes:
        options.setdefault("image_size", height)
    if "input_size" in takes:
        options.setdefault("input_size", (height, width))
    if "init_weights" in takes:
        options.setdefault("init_weights", weights is None)
    if weights is not None and "transform_input" in takes:
        options.setdefault("transform_input", True)  # torchvision's rule: these weights were trained on -1 … 1
    if weights is not None and channels != COLOURS and (channels != 1 or options.get("transform_input")):
        what = f"the weights of {zoo.name} are for pictures of three colours, the data's have {channels}"
        raise ModelError("model.weights", what, f'Set {_IN_COLOUR}, or train from scratch with weights = "".')
    _check_size(zoo, options, wanted, facts)
    if "aux_logits" in takes and "aux_logits" not in options:
        options["aux_logits"] = (
            _may_learn(wanted) and _trained_auxiliary(zoo, weights) and _auxiliary_fits(zoo, options, facts)
        )
    return options


def _trained_auxiliary(zoo: ZooModel, weights: ZooWeights | None) -> bool:
    """Whether the auxiliary heads belong to what `weights` count; those of GoogLeNet were never published."""
    if weights is None:
        return True
    return count_parameters(_weightless(zoo, {"aux_logits": True})) == weights.parameters


def _auxiliary_fits(zoo: ZooModel, options: Mapping[str, Any], facts: Facts) -> bool:
    """Whether pictures of this size reach the auxiliary heads; where the rest can't take them either, it is no matter.

    Inception's pools 5×5 of what is left of the picture, which takes 299 pixels.
    """

    def runs(auxiliary: bool) -> bool:
        try:
            _try(_twin(zoo, {**options, "aux_logits": auxiliary}, facts), facts)
        except Exception:  # torch raises whatever fits
            return False
        return True

    return runs(True) or not runs(False)


def _why_without(zoo: ZooModel, weights: ZooWeights | None, wanted: Model) -> str:
    if not _may_learn(wanted):
        return "what they would teach is frozen"
    if weights is not None and not _trained_auxiliary(zoo, weights):
        return f"{weights.name} has none"
    return "the pictures are too small for them"


def _may_learn(wanted: Model) -> bool:
    """Whether the backbone learns at any time."""
    return wanted.freeze != "backbone" or wanted.unfreeze_at > 0


def _check_size(zoo: ZooModel, options: Mapping[str, Any], wanted: Model, facts: Facts) -> None:
    """Raise ModelError where the model can't be built for the data's size, which the recipe has not chosen."""
    of_data = {"image_size", "input_size"} & options.keys() - wanted.options.keys()
    if not of_data:
        return
    try:
        _weightless(zoo, options)
    except RecipeError as error:
        _weightless(zoo, {key: value for key, value in options.items() if key not in of_data})
        raise refusal(wanted, facts, error.__cause__ or error) from error


# Building


def _made(zoo: ZooModel, options: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            return models.get_model(zoo.name, weights=None, **options)  # type: ignore[no-any-return]
    except (TypeError, ValueError, AssertionError) as error:
        raise RecipeError("model.options", f"{zoo.name} refuses them: {first_line(error)}", "Change them.") from error


def _weightless(zoo: ZooModel, options: Mapping[str, Any]) -> nn.Module:
    return weightless(lambda: _made(zoo, options))


def _twin(zoo: ZooModel, options: Mapping[str, Any], facts: Facts) -> nn.Module:
    """The model without memory, with the data's channels."""
    twin = _weightless(zoo, options)
    with torch.device("meta"):
        _take_channels(twin, facts.shape[0])
    return twin


def _try(twin: nn.Module, facts: Facts) -> None:
    """Two samples go through, as in training."""
    with torch.no_grad():
        twin.train()(torch.zeros(2, *facts.shape, device="meta"))


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """What takes the data's channels, and its name."""
    return next((name, each) for name, each in model.named_modules() if isinstance(each, nn.Conv2d))


def _take_channels(model: nn.Module, channels: int) -> None:
    """Give the first convolution the data's channels; where there are three it is left alone."""
    name, first = first_convolution(model)
    if channels == first.in_channels:
        return
    made = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]  # torch types what it keeps more loosely than what it takes
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        first.dilation,  # type: ignore[arg-type]
        first.groups,
        first.bias is not None,
        first.padding_mode,
    )
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, made)


def _head_weights(twin: nn.Module, zoo: ZooModel, options: Mapping[str, Any]) -> set[str]:
    """The names of the weights that follow the number of classes."""
    more = {**options, "num_classes": options["num_classes"] + 1}
    others = dict(_weightless(zoo, more).named_parameters())
    first, _ = first_convolution(twin)
    return {
        name
        for name, parameter in twin.named_parameters()
        if parameter.shape != others[name].shape and name.rpartition(".")[0] != first
    }


def _name_auxiliary(model: nn.Module, head: set[str]) -> None:
    """Say which children are auxiliary heads: those with weights that follow the classes, but for the last."""
    children = list(dict.fromkeys(name.partition(".")[0] for name, _ in model.named_parameters() if name in head))
    if children[1:]:
        model.auxiliary_heads = tuple(children[:-1])  # type: ignore[assignment]  # torch takes attributes for tensors


def _auxiliary(model: nn.Module) -> tuple[str, ...]:
    return getattr(model, "auxiliary_heads", ())


# Pretrained weights


def _load(model: nn.Module, zoo: ZooModel, weights: ZooWeights, progress: Progress, head: set[str]) -> None:
    """Put pretrained weights everywhere but into the head.

    They are read by torchvision's own builder, which knows how its older files name things.
    """
    from torchvision import models

    path = fetch(zoo, weights, progress)
    try:
        with warnings.catch_warnings(action="ignore"):  # of auxiliary heads that nobody has trained
            source = models.get_model(zoo.name, weights=entry(zoo, weights), progress=False, **_with_auxiliary(model))
    except Exception as error:  # unpickling and load_state_dict raise what they like
        what = f"{path} does not fit: {first_line(error)}"
        raise ModelError(f"model.weights: {zoo.name} {weights.name}", what, "Remove it and try again.") from error
    own, theirs = model.state_dict(), _at_size(model, source.state_dict())
    given = {
        name: _in_channels(value, own.get(name))
        for name, value in theirs.items()
        if name not in head and not _is_left_out(model, name)
    }
    other = [name for name, value in given.items() if name not in own or value.shape != own[name].shape]
    missing = [name for name in own if name not in {*given, *head}]
    if other or missing:
        what = f"{zoo.name} {weights.name} does not fit {(*other, *missing)[0]}"
        raise ModelError("model.options", what, 'Remove the options that change the model, or set weights = "".')
    own.update(given)  # not `given` alone: it does not say of which version it is, which MNASNet asks
    model.load_state_dict(own)


def _with_auxiliary(model: nn.Module) -> dict[str, bool]:
    """What torchvision must be told to keep auxiliary heads; of none it does not want to hear beside weights."""
    return {"aux_logits": True} if _auxiliary(model) else {}


def _is_left_out(model: nn.Module, name: str) -> bool:
    """Whether the weight is of a child that the model can have and was built without: an auxiliary head."""
    return getattr(model, name.partition(".")[0], model) is None


def _at_size(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Position embeddings interpolated for the model's picture size, where it has such."""
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    if not isinstance(model, VisionTransformer):
        return state
    return dict(interpolate_embeddings(model.image_size, model.patch_size, state))


def _in_channels(value: Tensor, own: Tensor | None) -> Tensor:
    """The first convolution's weights for grey pictures: as if these came three times, in red, green and blue."""
    if own is not None and value.ndim == own.ndim == 4 and value.shape[1] == COLOURS and own.shape[1] == 1:
        return value.sum(1, keepdim=True)
    return value


# Errors


def _no_pictures(zoo: ZooModel, facts: Facts) -> ModelError:
    what = f"{zoo.name} takes pictures, and the data has samples of {'×'.join(map(str, facts.shape))}"
    return ModelError("model.zoo", what, "Choose a dataset of pictures, or build a model of layers.")


def _size_remedy(zoo: ZooModel, facts: Facts) -> str:
    """`It takes 75×75 and more: data.transforms = [{ name = "Resize", size = [75, 75] }].`"""
    said, size = wanted_size(zoo, facts)
    if size is None:
        return said
    return f'{said}: data.transforms = [{{ name = "Resize", size = {size} }}].'


def wanted_size(zoo: ZooModel, facts: Facts) -> tuple[str, list[int] | None]:
    """What to tell of the pictures that the model takes, and a size that it does; None where none is known."""
    standard, (_, height, width) = zoo.standard, facts.shape
    patch = getattr(_weightless(zoo, {}), "patch_size", None)
    if isinstance(patch, int):
        return f"It takes squares of a multiple of {patch}", [-(-max(height, width) // patch) * patch] * 2
    if standard is None:
        return "Choose another dataset or model, or transform the data.", None
    if _too_small(zoo, facts):
        return f"It takes {standard.minimum[0]}×{standard.minimum[1]} and more", list(standard.minimum)
    return f"It was made for {standard.side}×{standard.side}", [standard.side] * 2


def _too_small(zoo: ZooModel, facts: Facts) -> bool:
    """Whether torchvision says so; of what is built for a picture's size it tells that size instead."""
    if "image_size" in parameters_of(zoo.name):
        return False
    least = zoo.standard.minimum if zoo.standard is not None else (1, 1)
    return any(side < small for side, small in zip(facts.shape[1:], least, strict=True))
