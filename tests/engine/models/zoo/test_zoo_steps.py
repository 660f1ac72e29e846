"""A real training step of the smallest model of each family, and what becomes of pictures of other kinds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.check import check
from engine.data.prepare import Facts
from engine.data.serving.batches import Batch
from engine.errors import ModelError, StudioError
from engine.models.build import build_model, model_rows, weightless_model
from engine.models.zoo.building import zoo_notes
from engine.models.zoo.catalogue import ZooModel, zoo_models
from engine.recipe import Recipe
from engine.tasks.classification import Classification
from engine.tasks.regression import Regression


def recipe(**model: Any) -> Recipe:
    return Recipe.from_values({"data": {"name": "CIFAR10"}, "model": model})


def smallest_of_each_family() -> list[str]:
    def size(model: ZooModel) -> int:
        return model.standard.parameters if model.standard else 0

    ordered = sorted(zoo_models(), key=size)
    return sorted({model.family: model.name for model in reversed(ordered)}.values())


# The side in pixels, where 32 is too small.
SIDES = {"alexnet": 64, "inception_v3": 299, "maxvit_t": 224}


def step(model: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Two samples through the task and one step of SGD: the loss and the scores."""
    torch.manual_seed(0)
    task = Classification(nn.CrossEntropyLoss())
    batch = Batch(torch.randn(2, *shape), torch.tensor([0, 6]))
    outcome = task.step(model.train(), batch)
    outcome.loss.backward()
    torch.optim.SGD(model.parameters(), 0.01).step()
    return outcome.loss.detach(), outcome.outputs.detach()


@pytest.mark.parametrize("name", smallest_of_each_family())
def test_the_smallest_of_each_family_trains_a_step(name: str) -> None:
    side = SIDES.get(name, 32)
    facts = Facts((3, side, side), 7)
    torch.manual_seed(0)
    model = build_model(recipe(zoo=name), facts)
    before = [parameter.detach().clone() for parameter in list(model.parameters())[-2:]]

    loss, scores = step(model, facts.shape)

    assert scores.shape == (2, 7)
    assert bool(loss.isfinite())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not all(torch.equal(old, new) for old, new in zip(before, list(model.parameters())[-2:], strict=True))
    with torch.no_grad():
        assert isinstance(model.eval()(torch.randn(1, *facts.shape)), Tensor)


def test_the_loss_of_an_auxiliary_head_counts_three_tenths_while_it_trains_and_nothing_in_evaluation() -> None:
    facts, loss = Facts((3, 64, 64), 7), nn.CrossEntropyLoss()
    torch.manual_seed(0)
    model = build_model(recipe(zoo="googlenet", options={"dropout": 0.0, "dropout_aux": 0.0}), facts).train()
    batch = Batch(torch.randn(4, *facts.shape), torch.tensor([0, 6, 1, 1]))

    with torch.no_grad():
        main, second, first = model(batch.inputs)
        outcome = Classification(loss).step(model, batch)
        expected = loss(main, batch.targets) + 0.3 * (loss(second, batch.targets) + loss(first, batch.targets))
        evaluated = Classification(loss).step(model.eval(), batch)
        scores = model(batch.inputs)

    assert torch.allclose(outcome.loss, expected)
    assert torch.equal(outcome.outputs, main)
    assert not torch.allclose(outcome.loss, loss(main, batch.targets))
    assert torch.allclose(evaluated.loss, loss(scores, batch.targets))


def test_auxiliary_heads_serve_a_regression_too() -> None:
    wanted = recipe(zoo="googlenet").override({"task": "regression"})
    model = build_model(wanted, Facts((3, 32, 32), 1)).train()
    batch = Batch(torch.randn(2, 3, 32, 32), torch.randn(2, 1))
    outcome = Regression(nn.MSELoss()).step(model, batch)
    assert outcome.outputs.shape == (2, 1)
    outcome.loss.backward()
    assert model.get_parameter("aux1.fc2.weight").grad is not None


class TestInception:
    def test_it_has_its_auxiliary_head_at_299_pixels_and_trains_without_at_less(self) -> None:
        large, small = (weightless_model(recipe(zoo="inception_v3"), Facts((3, side, side), 7)) for side in (299, 224))
        assert large.get_submodule("AuxLogits")
        assert small.AuxLogits is None
        assert zoo_notes(recipe(zoo="inception_v3").model, large) == []
        assert zoo_notes(recipe(zoo="inception_v3").model, small) == [
            "inception_v3 is trained without auxiliary heads: the pictures are too small for them"
        ]

    def test_asked_for_where_the_pictures_are_too_small_it_says_so(self) -> None:
        wanted = recipe(zoo="inception_v3", options={"aux_logits": True})
        error = str(model_rows(wanted, Facts((3, 224, 224), 7))[-1].error)
        assert "inception_v3 fails on samples of 3×224×224" in error
        assert 'It was made for 299×299: data.transforms = [{ name = "Resize", size = [299, 299] }].' in error


class TestChannels:
    @pytest.mark.parametrize("channels", [1, 4])
    @pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "swin_t"])
    def test_from_scratch_the_first_convolution_takes_the_datas(self, name: str, channels: int) -> None:
        facts = Facts((channels, 32, 32), 7)
        ours, usual = (weightless_model(recipe(zoo=name), each) for each in (facts, Facts((3, 32, 32), 7)))
        rows = model_rows(recipe(zoo=name), facts)
        assert [row.error for row in rows] == [None] * len(rows)
        other = [key for key, value in usual.named_parameters() if value.shape != ours.get_parameter(key).shape]
        assert len(other) == 1
        assert ours.get_parameter(other[0]).shape[1] == channels

    def test_grey_pictures_train_a_step(self) -> None:
        facts = Facts((1, 32, 32), 7)
        loss, _ = step(build_model(recipe(zoo="resnet18"), facts), facts.shape)
        assert bool(loss.isfinite())

    def test_a_table_is_no_picture(self) -> None:
        with pytest.raises(ModelError, match="resnet18 takes pictures, and the data has samples of 30"):
            build_model(recipe(zoo="resnet18"), Facts((30,), 2))


class TestSizes:
    @pytest.mark.parametrize(
        ("name", "side", "remedy"),
        [
            ("inception_v3", 32, "It takes 75×75 and more: data.transforms"),
            ("alexnet", 32, "It takes 63×63 and more: data.transforms"),
            ("vit_b_16", 28, "squares of a multiple of 16: data.transforms = [{ name = \"Resize\", size = [32, 32] }]"),
            ("maxvit_t", 256, 'It was made for 224×224: data.transforms = [{ name = "Resize", size = [224, 224] }]'),
        ],
    )  # fmt: skip
    def test_what_is_too_small_or_does_not_divide_is_said_with_the_remedy(
        self, name: str, side: int, remedy: str
    ) -> None:
        facts = Facts((3, side, side), 7)
        with pytest.raises(StudioError) as caught:
            build_model(recipe(zoo=name), facts)
        said = str(caught.value)
        assert f"{name} fails on samples of 3×{side}×{side}" in said
        assert remedy in said
        assert str(model_rows(recipe(zoo=name), facts)[-1].error) == said

    def test_the_remedy_is_one(self) -> None:
        assert model_rows(recipe(zoo="alexnet"), Facts((3, 63, 63), 7))[-1].error is None
        assert model_rows(recipe(zoo="inception_v3"), Facts((3, 75, 75), 7))[-1].error is None

    @pytest.mark.parametrize(
        ("model", "titles"),
        [
            ({"zoo": "vgg11"}, ["add Resize to 32×32", "add Resize to 224×224"]),
            ({"zoo": "googlenet", "weights": "DEFAULT"},
             ["add Grayscale, in three colours", "add Resize to 224×224 and Grayscale"]),
            ({"zoo": "resnet18"}, []),
            ({"zoo": "resnet19"}, []),
        ],
    )  # fmt: skip
    def test_transforms_that_mend_it_are_proposed_and_do(self, model: dict[str, Any], titles: list[str]) -> None:
        norm = {"name": "Normalize", "mean": [0.1], "std": [0.3]}
        squeezed = {"name": "mnist5k", "transforms": [{"name": "Resize", "size": [28, 28]}, norm]}
        wanted = recipe(**model).override({"data": squeezed}, "digits")
        found = check(wanted)
        assert [fix.title for fix in found.fixes] == titles
        for fix in found.fixes:
            steps = fix.settings["data.transforms"]
            assert sum(each.name == "Resize" for each in steps) == 1, "it takes the place of another"
            assert check(wanted.override(fix.settings, "digits")).problems == ()

    def test_a_transformer_takes_the_datas_size_unless_the_recipe_gives_another(self) -> None:
        assert weightless_model(recipe(zoo="vit_b_16"), Facts((3, 64, 64), 7)).image_size == 64
        fixed = recipe(zoo="vit_b_16", options={"image_size": 224})
        assert "Wrong image height! Expected 224 but got 64" in str(model_rows(fixed, Facts((3, 64, 64), 7))[-1].error)
