"""torchvision's models as a table, and each of them built without memory, its shapes followed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from engine.data.prepare import Facts
from engine.errors import RecipeError
from engine.models.auxiliary import main_and_auxiliary
from engine.models.heads import blocks, heads
from engine.models.rows import count_parameters
from engine.models.weightless import weightless
from engine.models.zoo.building import shape_of_zoo
from engine.models.zoo.catalogue import find, find_weights, zoo_models
from engine.recipe import Model

NAMES = models.list_models(module=models)


def test_every_classification_model_of_torchvision_is_in_the_table() -> None:
    assert [model.name for model in zoo_models()] == NAMES
    assert len(NAMES) >= 80
    assert zoo_models("regression") == zoo_models()


def test_the_table_says_what_torchvision_reports() -> None:
    found = find("resnet50")
    assert [weights.name for weights in found.weights] == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    best = found.standard
    assert best is not None
    assert found.family == "ResNet"
    assert (best.parameters, best.gflops, best.megabytes, best.accuracy) == (25_557_032, 4.089, 97.79, 80.858)
    assert (best.dataset, best.side, best.mean) == ("ImageNet-1K", 224, (0.485, 0.456, 0.406))
    assert find_weights(found, "DEFAULT") is best


def test_weights_without_a_classifier_are_left_out() -> None:
    assert "IMAGENET1K_FEATURES" in models.get_model_weights("vgg16").__members__
    assert [weights.name for weights in find("vgg16").weights] == ["IMAGENET1K_V1"]


def test_what_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'vit_b_16'"):
        find("vit_b16")
    with pytest.raises(RecipeError, match=r"resnet18 has no weights 'IMAGENET1K_V9'\. Did you mean 'IMAGENET1K_V1'"):
        find_weights(find("resnet18"), "IMAGENET1K_V9")


def _as_published(name: str) -> dict[str, Any]:
    """The options with which torchvision counted: the pictures' size of a transformer, GoogLeNet without its
    auxiliary heads, which were never published."""
    standard = find(name).standard
    assert standard is not None
    by_family: dict[str, dict[str, Any]] = {
        "VisionTransformer": {"image_size": standard.side},
        "GoogLeNet": {"aux_logits": False, "init_weights": False},
        "Inception3": {"init_weights": False},
    }
    return by_family.get(find(name).family, {})


@pytest.mark.parametrize("name", NAMES)
def test_a_zoo_model_has_the_parameters_of_its_metadata_and_scores_the_datas_classes(name: str) -> None:
    before, standard = torch.get_rng_state(), find(name).standard
    assert standard is not None
    published = weightless(lambda: models.get_model(name, weights=None, **_as_published(name)))
    assert count_parameters(published) == standard.parameters

    facts = Facts((3, standard.side, standard.side), 7)
    model = shape_of_zoo(Model(zoo=name), facts)
    with torch.no_grad():
        scores, auxiliary = main_and_auxiliary(model.train()(torch.zeros(2, *facts.shape, device="meta")))
    assert all(tuple(each.shape) == (2, 7) for each in (scores, *auxiliary))
    assert len(auxiliary) == {"googlenet": 2, "inception_v3": 1}.get(name, 0)

    assert all(parameter.is_meta for parameter in model.parameters())
    assert torch.equal(before, torch.get_rng_state())
    ends = heads(model)
    assert isinstance(ends[-1], (nn.Linear, nn.Conv2d))
    assert len(ends) == 1 + len(auxiliary)
    found = blocks(model)
    assert len(found) >= 4
    held = [parameter for block in found for parameter in block.parameters()]
    inside = [parameter for head in ends for parameter in head.parameters()]
    assert len({*held, *inside}) == len(held) + len(inside) == len(list(model.parameters()))
