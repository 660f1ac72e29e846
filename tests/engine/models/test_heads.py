"""What is a block and what is the head, in models of every make."""

from __future__ import annotations

import torch
from torch import nn
from torchvision import models

from engine.models.heads import blocks, heads
from engine.models.weightless import weightless


def names(model: nn.Module) -> list[str]:
    return [block.name for block in blocks(model)]


def zoo(name: str) -> nn.Module:
    return weightless(lambda: models.get_model(name, weights=None))


def test_a_resnet_has_its_stem_and_four_stages() -> None:
    model = zoo("resnet18")
    assert names(model) == ["conv1", "layer1", "layer2", "layer3", "layer4"]
    assert blocks(model)[0].modules == (model.conv1, model.bn1)
    assert heads(model) == [model.fc]


def test_a_model_of_few_children_is_opened_at_its_largest() -> None:
    assert names(zoo("regnet_y_400mf")) == ["stem", *(f"trunk_output.block{number}" for number in (1, 2, 3, 4))]
    assert names(zoo("swin_t")) == [f"features.{number}" for number in range(8)]
    assert names(zoo("alexnet")) == [
        *(f"features.{number}" for number in (0, 3, 6, 8, 10)),
        "classifier.1",
        "classifier.4",
    ]


def test_weights_that_an_opened_module_holds_belong_to_the_first_block_inside_it() -> None:
    model = zoo("vit_b_32")
    found = blocks(model)
    assert [block.name for block in found[:2]] == ["conv_proj", "encoder.layers.encoder_layer_0"]
    assert found[0].own == (model.class_token,)
    assert found[1].own == (model.encoder.pos_embedding,)
    assert sum(len(block.parameters()) for block in found) == len(list(model.parameters())) - 2


def test_layers_in_a_row_are_blocks_where_they_have_weights() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 2)
    )
    model(torch.zeros(2, 3, 8, 8))
    assert names(model) == ["0", "4"]
    assert blocks(model)[0].modules == (model[0], model[1])
    assert heads(model) == [model[6]]


def test_a_single_layer_is_a_head_without_blocks() -> None:
    model = nn.Linear(3, 2)
    assert (heads(model), blocks(model)) == ([model], [])


def test_auxiliary_heads_are_what_a_model_names() -> None:
    class Two(nn.Module):
        auxiliary_heads = ("side",)

        def __init__(self) -> None:
            super().__init__()
            self.body, self.side = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
            self.out = nn.Linear(3, 2)

    model = Two()
    assert heads(model) == [model.side, model.out]
    assert names(model) == ["body"]
