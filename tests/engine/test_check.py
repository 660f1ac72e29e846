"""Whatever is wrong with a recipe is said before a step is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.check import Checked, check
from engine.data import load as loading
from engine.errors import ModelError, RecipeError
from engine.models.build import build_model
from engine.models.rows import count_parameters
from engine.recipe import Recipe
from presets import Preset, presets
from presets import load as preset

CLASSIFIER, REGRESSOR, ZOO = (preset(name).recipe for name in ("digits-mlp", "line-fit", "cifar10-resnet18"))


def said(recipe: Recipe, **changes: Any) -> list[str]:
    return [str(problem) for problem in check(changed(recipe, **changes)).problems]


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.override({key.replace("__", "."): value for key, value in changes.items()})


def mine(folder: Path, code: str, **values: Any) -> Recipe:
    file = folder / "own.py"
    file.write_text(code, encoding="utf-8")
    model = {"layers": [{"name": "Flatten"}, {"name": "Linear", "out_features": "classes"}]}
    return Recipe.from_values({"data": {"python": f"{file}:make"}, "model": model, **values})


@pytest.fixture(autouse=True)
def no_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "empty"))


@pytest.mark.parametrize("each", presets(), ids=lambda each: each.name)
def test_nothing_is_wrong_with_a_preset_even_without_its_data(each: Preset, tmp_path: Path) -> None:
    found = check(each.recipe)
    assert found.problems == ()
    assert found.facts is not None
    assert found.rows[-1].output == (found.facts.outputs,)
    assert found.parameters == count_parameters(build_model(each.recipe, found.facts))
    assert min(found.sizes.values()) > 0
    assert not (tmp_path / "empty").exists()


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("recipe", "changes", "problem"),
    [
        (CLASSIFIER, {"data__name": "mnist"}, "data.name: there is no dataset 'mnist'."),
        (CLASSIFIER, {"task": "regression"}, "task: 'regression' does not fit mnist5k."),
        (CLASSIFIER, {"data__transforms": [{"name": "Nrmalize"}]}, "data.transforms.0.name: torch has no transform"),
        (CLASSIFIER, {"data__augment": [{"name": "Grayscale"}]}, "data.augment.0: Grayscale draws nothing."),
        (CLASSIFIER, {"data__standardize_target": True}, "data.standardize_target: is for regression"),
        (CLASSIFIER, {"data__split": {"train": 1e-9}}, "data.split.train: leaves no sample to train on. Raise it."),
        (REGRESSOR, {"data__options__points": 1}, "data.options.points: 1 are too few."),
        (CLASSIFIER, {"model": {}}, "model: has no layers."),
        (CLASSIFIER, {"model__layers__1__name": "Lineer"}, "model.layers.1.name: torch has no layer 'Lineer'"),
        (CLASSIFIER, {"model__layers__1__out_features": "x"}, "model.layers.1.out_features: 'x' is not int."),
        (CLASSIFIER, {"model__layers__3__in_features": 7}, "model.layers.3: Linear expects 7 features"),
        (
            CLASSIFIER,
            {"model__layers__3__out_features": 7},
            'model.layers.3: the model gives 7 a sample, the data has 10 classes. End with Linear',
        ),
        (
            REGRESSOR,
            {"model__layers__2__out_features": 2},
            'model.layers.2: the model gives 2 a sample, the data has 1 targets. End with Linear',
        ),
        (ZOO, {"model__zoo": "resnet19"}, "model.zoo: torchvision has no classification model 'resnet19'."),
        (ZOO, {"model__options": {"num_classes": 3}}, "model: the model gives 3 a sample, the data has 10 classes."),
        (ZOO, {"data__name": "MNIST", "data__transforms": [], "data__augment": [], "model__zoo": "vgg11"},
         "model: vgg11 fails on samples of 1×28×28"),
        (ZOO, {"data__name": "breast_cancer", "data__transforms": [], "data__augment": []},
         "model.zoo: resnet18 takes pictures, and the data has samples of 30."),
        (ZOO, {"model__freeze": 9}, "model.freeze: the model has 5 blocks before its head: conv1, layer1, layer2"),
        (ZOO, {"model__freeze": "backbone", "optimizer__backbone_lr_factor": 0.1},
         "optimizer.backbone_lr_factor: has no effect"),
        (CLASSIFIER, {"loss__name": "CrossEntropy"}, "loss.name: torch has no loss 'CrossEntropy' that fits here."),
        (CLASSIFIER, {"loss__name": "HingeEmbeddingLoss"}, "loss.name: HingeEmbeddingLoss does not fit classification"),
        (REGRESSOR, {"loss__name": "NLLLoss"}, "loss.name: NLLLoss does not fit regression"),
        (CLASSIFIER, {"loss__weight": [1.0] * 9 + [-1.0]}, "loss.weight: a weight below 0 rewards wrong answers."),
        (CLASSIFIER, {"loss__reduction": "sum"}, "loss.reduction: must be 'mean'"),
        (CLASSIFIER, {"loss__label_smoothing": "x"}, "loss.label_smoothing: 'x' is not float."),
        (CLASSIFIER, {"optimizer__name": "sgd"}, "optimizer.name: torch has no optimizer 'sgd' that fits here."),
        (CLASSIFIER, {"optimizer__momentun": 0.9}, "optimizer.momentun: is not a parameter of SGD."),
        (CLASSIFIER, {"optimizer__momentum": -1.0}, "optimizer: SGD refuses its parameters: Invalid momentum"),
        (CLASSIFIER, {"scheduler": {"name": "StepLR"}}, "scheduler.step_size: StepLR needs it"),
        (CLASSIFIER, {"scheduler": {"name": "CosineLR"}}, "scheduler.name: torch has no scheduler 'CosineLR'"),
        (
            CLASSIFIER,
            {"scheduler": {"name": "ReduceLROnPlateau", "every": "step"}},
            "scheduler.every: ReduceLROnPlateau watches the validation loss.",
        ),
        (CLASSIFIER, {"training__early_stopping": {"patience": 2}, "data__split": {"val": 0, "test": 0.2}},
         "training.early_stopping.patience: needs a validation part to watch. Raise data.split.val, or set it to 0."),
        (CLASSIFIER, {"training__early_stopping": {"patience": 2}, "training__overfit_one_batch": True},
         "training.early_stopping.patience: needs a validation part to watch. Turn training.overfit_one_batch off"),
        (CLASSIFIER, {"training__early_stopping": {"patience": 2, "metric": "acuracy"}},
         "training.early_stopping.metric: 'acuracy' is not measured here. Did you mean 'accuracy'?"),
        (CLASSIFIER, {"training__device": "gpu"}, "training.device: 'gpu' is not a device."),
        (CLASSIFIER, {"training__device": "cpu", "training__precision": "fp16"}, "training.precision: fp16 needs"),
    ],
)  # fmt: skip
def test_a_problem_is_named_and_nothing_else_is(recipe: Recipe, changes: dict[str, Any], problem: str) -> None:
    found = said(recipe, **changes)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_all_problems_are_found_at_once() -> None:
    found = said(CLASSIFIER, loss__name="X", optimizer__name="Y", training__device="Z", model__layers__0__name="W")
    wheres = {line.partition(":")[0] for line in found}
    assert wheres == {"loss.name", "optimizer.name", "training.device", "model.layers.0.name"}


def test_layers_above_the_one_at_fault_are_still_described() -> None:
    found = check(changed(CLASSIFIER, model__layers__1__in_features=3))
    assert [row.output for row in found.rows] == [(784,), None, None, None]
    assert found.facts is not None


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def make(): raise KeyError('gone')", "KeyError"),
        ("def make(): raise SystemExit(3)", "SystemExit: 3"),
        ("def make(): return {'test': [([1.0], 0)]}", "has no classes"),
        ("raise OSError('no disk')", "own.py:1: OSError: no disk. Mend the file."),
        ("class make(list):\n    classes = ['a']\n    def __len__(self): raise ValueError('how many?')", "how many?"),
    ],
)
def test_a_persons_dataset_may_fail_in_any_way(tmp_path: Path, code: str, problem: str) -> None:
    found = [str(each) for each in check(mine(tmp_path, code)).problems]
    assert len(found) == 1
    assert problem in found[0] or "does not say its classes" in found[0]


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ("[1, 2]", "layers take floats. Return floats, or for tokens give the dataset an attribute vocabulary"),
        ("[True, False]", "sample 0 is bool, and layers take floats. Return floats"),
        (
            "[1j, 2j]",
            "sample 0 is complex128, and layers take real numbers. Return torch.view_as_real(x), or its abs().",
        ),
    ],
)
def test_numbers_that_no_layer_takes_are_a_problem_unless_something_makes_floats_of_them(
    tmp_path: Path, numbers: str, problem: str
) -> None:
    code = f"""
import torch
class make(list):
    classes = ['a', 'b']
    def __init__(self): super().__init__([({numbers}, 0)] * 9)
class Net(torch.nn.Linear):
    def __init__(self): super().__init__(2, 2)
    def forward(self, x): return super().forward(x.real.float())
def floats(x): return x.real.float()
"""
    (found,) = check(mine(tmp_path, code)).problems
    assert problem in str(found)
    own = Recipe.from_values(
        {"data": {"python": f"{tmp_path}/own.py:make"}, "model": {"python": f"{tmp_path}/own.py:Net"}}
    )
    assert check(own).problems == ()
    made = {"name": "Lambda", "lambd": f"{tmp_path}/own.py:floats"}
    assert said(mine(tmp_path, code), data__transforms=[made]) == []


def test_of_a_picture_of_whole_numbers_nothing_is_said_of_tokens(tmp_path: Path) -> None:
    code = """
from PIL import Image
class make(list):
    classes = ['a', 'b']
    def __init__(self): super().__init__([(Image.new('1', (4, 4)), 0)] * 9)
"""
    (found,) = check(mine(tmp_path, code)).problems
    assert str(found).endswith("sample 0 is bool, and layers take floats. Return floats.")


def test_a_dataset_with_only_a_test_set_is_a_problem(tmp_path: Path) -> None:
    code = "class D(list):\n    classes = ['a']\ndef make(): return {'test': D([([1.0], 0)])}"
    found = [str(each) for each in check(mine(tmp_path, code)).problems]
    assert any("has no part to train on" in each for each in found)


def test_a_persons_dataset_that_is_right_has_no_problem(tmp_path: Path) -> None:
    code = "class make(list):\n    classes = ['a', 'b']\n    def __init__(self): super().__init__([([1.0], 0)] * 9)"
    found = check(mine(tmp_path, code))
    assert found.problems == ()
    assert found.sizes == {"train": 7, "val": 1, "test": 1}


def test_a_model_without_weights_cannot_be_trained() -> None:
    found = said(CLASSIFIER, model__layers=[{"name": "Flatten"}, {"name": "AdaptiveAvgPool1d", "output_size": 10}])
    assert found == ["model: has no parameter to train. Add a layer with weights, such as Linear."]


def test_checking_leaves_the_random_state_alone() -> None:
    jitter = [{"name": "ColorJitter", "brightness": 0.5}]
    before = torch.get_rng_state()
    for recipe in (CLASSIFIER, REGRESSOR, changed(ZOO, data__augment=jitter)):
        check(recipe)
    assert torch.equal(before, torch.get_rng_state())


def test_checking_loads_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(loading, "_load_bundled", refuse)
    assert check(CLASSIFIER).problems == ()


def test_a_check_says_what_it_is_about() -> None:
    found = check(changed(CLASSIFIER, data__name="nowhere"))
    assert isinstance(found, Checked)
    assert (found.source, found.facts, found.rows, found.parameters) == (None, None, (), 0)
    assert isinstance(found.problems[0], RecipeError)
    assert not isinstance(found.problems[0], ModelError)
