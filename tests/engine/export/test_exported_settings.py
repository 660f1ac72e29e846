"""What a recipe can set is in its exported file: the losses of the first steps are torch-tui's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import made_data
import pytest
import torch
from exported_runs import STEPS_ONLY, losses, real_losses, run_files
from small_runs import digits, line, train

from engine.data.prepare import describe
from engine.export.python import python_file
from engine.models.build import build_model
from engine.models.zoo.catalogue import _pictures_to_numbers
from engine.recipe import Recipe

_STEPS = 4
_CONFIG = str(Path(__file__).parents[3] / "pyproject.toml")


def small(task_changes: Mapping[str, Any] | None = None, *layers: dict[str, Any], **changes: Any) -> Recipe:
    """Digits through a small network, or through `layers`."""
    given = layers or (
        {"name": "Flatten"},
        {"name": "Linear", "out_features": 16},
        {"name": "LayerNorm"},
        {"name": "ReLU"},
        {"name": "Dropout", "p": 0.2},
        {"name": "Linear", "out_features": "classes"},
    )
    values: dict[str, Any] = {
        "title": "small",
        "data": {"name": "mnist5k", "batch_size": 50, "split": {"train": 0.04, "val": 0.02, "test": 0.02}},
        "model": {"layers": list(given)},
        "optimizer": {"name": "AdamW", "lr": 0.01},
        "training": {"epochs": 2, "device": "cpu"},
    }
    for key, value in {**(task_changes or {}), **changes}.items():
        section, _, name = key.partition(".")
        if name:
            values.setdefault(section, {})[name] = value
        else:
            values[section] = value
    return Recipe.from_values(values)


ROWS = [{"name": "Flatten", "end_dim": 2}]  # a picture as a sequence of its rows
HEAD = [{"name": "Linear", "out_features": "classes"}]
NESTED = [
    {"name": "Conv2d", "out_channels": 4, "kernel_size": 3, "stride": 2},
    {
        "name": "Residual",
        "layers": [
            {"name": "Conv2d", "out_channels": 6, "kernel_size": 3, "padding": 1},
            {"name": "BatchNorm2d"},
            {"name": "ReLU"},
        ],
    },
    {
        "name": "Parallel",
        "layers": [{"name": "Conv2d", "out_channels": 2, "kernel_size": 1}, {"name": "Identity"}],
    },
    {"name": "Repeat", "times": 3, "layers": [{"name": "Conv2d", "out_channels": 5, "kernel_size": 3}]},
    {"name": "Flatten"},
    *HEAD,
]
PRETRAINED = "shufflenet_v2_x0_5"
CHAIN = {
    "name": "SequentialLR",
    "every": "step",
    "milestones": [2],
    "schedulers": [{"name": "LinearLR", "total_iters": 2}, {"name": "CosineAnnealingLR"}],
}

RECIPES: dict[str, Recipe] = {
    "nested": small({}, *NESTED),
    "recurrent": small({}, *ROWS, {"name": "GRU", "hidden_size": 8, "bidirectional": True, "returns": "last"}, *HEAD),
    "attention": small(
        {},
        *ROWS,
        {"name": "Linear", "out_features": 8},
        {"name": "PositionalEncoding"},
        {"name": "TransformerEncoder", "nhead": 2, "num_layers": 2, "dim_feedforward": 16},
        {"name": "SequencePool"},
        *HEAD,
    ),
    "zoo": small(
        {"model": {"zoo": "mobilenet_v3_small", "options": {"dropout": 0.1}}, "data.batch_size": 8},
        **{"data.transforms": [{"name": "Resize", "size": [32, 32]}, {"name": "Grayscale", "num_output_channels": 3}]},
    ),
    "zoo in grey, bf16": small(
        {"model": {"zoo": "googlenet", "options": {"dropout": 0.0}}, "data.batch_size": 50},
        **{"optimizer": {"name": "SGD", "lr": 1e-3, "backbone_lr_factor": 0.1}, "training.precision": "bf16"},
    ),
    "pretrained": small(
        {"model": {"zoo": PRETRAINED, "weights": "DEFAULT", "freeze": "backbone"}, "data.batch_size": 50}
    ),
    "frozen for good": small({"model.freeze": 1, "optimizer.weight_decay": 0.1}, *NESTED),
    "frozen at first": digits({"model.freeze": "backbone", "model.unfreeze_at": 1, "training.epochs": 2}),
    "regression": line(),
    "standardised": line({"data.standardize_target": True, "data.transforms": [{"name": "Standardize"}]}),
    "everything that draws": digits(),
    "accumulate": small(**{"training.accumulate": 3, "training.clip_grad_norm": 0.5, "loss.class_weights": "balanced"}),
    "ignored class": small(**{"training.accumulate": 2, "loss.ignore_index": 3, "training.clip_grad_value": 0.01}),
    "bf16": small(**{"training.precision": "bf16"}),
    "drop last": small(**{"data.batch_size": 64, "data.drop_last": True}),
    "channels last": small({"training.channels_last": True, "training.threads": 1}, *NESTED),
    "deterministic": small(**{"training.deterministic": True, "training.seed": 5}),
    "one number a class": small(loss={"name": "BCEWithLogitsLoss"}),
    "signs": small(loss={"name": "SoftMarginLoss"}),
    "backbone": small(**{"optimizer.backbone_lr_factor": 0.1, "scheduler": {"name": "OneCycleLR", "every": "step"}}),
    "matrices": small(**{"optimizer.name": "Muon", "optimizer.lr": 0.02}),
    "closure": small(**{"optimizer.name": "LBFGS", "optimizer.lr": 0.1, "training.clip_grad_norm": 1.0}),
    "all decayed": small(**{"optimizer.weight_decay": 0.5, "optimizer.weight_decay_on_norms": True}),
    "warm-up": small(**{"optimizer.warmup": "3 steps", "scheduler": CHAIN}),
    "an epoch's warm-up": small(**{"optimizer.warmup": "1 epoch", "scheduler": {"name": "ReduceLROnPlateau"}}),
    "a schedule that ends": small(scheduler={"name": "OneCycleLR", "every": "step", "total_steps": 2}),
    "schedules at once": small(
        scheduler={
            "name": "ChainedScheduler",
            "every": "step",
            "schedulers": [{"name": "LinearLR", "total_iters": 3}, {"name": "ExponentialLR", "gamma": 0.7}],
        }
    ),
    "augmented": small(
        **{
            "data.augment": [
                {"name": "RandomVerticalFlip", "p": 0.3},
                {"name": "RandomCrop", "size": [26, 24], "padding": [1, 2], "padding_mode": "reflect"},
                {"name": "RandomCrop", "size": [28, 28], "padding": 2, "fill": 0.5},
            ],
            "data.transforms": [{"name": "Resize", "size": [20, 20]}, {"name": "Standardize"}],
        }
    ),
    "one by one": small(**{"data.augment": [{"name": "RandomPerspective"}]}),
    "a share of the data": small(**{"data.split": {"train": 0.05, "val": 0.0, "test": 0.01, "seed": 3}}),
}

_MINE = """
import torch
from torch import nn


RANDOM = torch.randn(3)


class Points:
    classes = ["left", "right"]

    def __len__(self):
        return 120

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        point = torch.randn(2, generator=generator)
        return point + RANDOM[:2], int(point[0] > 0)


class Words:
    classes = ["no", "yes"]
    vocabulary = ["pad", "this", "that", "other"]

    def __len__(self):
        return 90

    def __getitem__(self, index):
        return torch.arange(index, index + 5) % 4, index % 2


def points(side=1):
    return {"train": Points(), "test": Points()}


def model(outputs, width):
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, outputs))


def rate(step):
    return 0.5**step
"""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipe]:
    mine = tmp_path_factory.mktemp("mine") / "mine.py"
    mine.write_text(_MINE, encoding="utf-8")
    yours = {
        "title": "points",
        "data": {"python": f"{mine}:points", "options": {"side": 2}, "batch_size": 20},
        "model": {"python": f"{mine}:model", "options": {"width": 6}},
        "loss": {"name": "CrossEntropyLoss", "class_weights": "balanced"},
        "optimizer": {"name": "AdamW", "lr": 0.01, "weight_decay": 0.1, "backbone_lr_factor": 0.5},
        "scheduler": {"name": "LambdaLR", "every": "step", "lr_lambda": f"{mine}:rate"},
        "training": {"epochs": 2, "device": "cpu"},
    }
    layers = [{"name": "Embedding", "embedding_dim": 6}, {"name": "SequencePool"}]
    words = small(
        {"data": {"python": f"{mine}:Words", "batch_size": 15}, "model.freeze": 1, "model.unfreeze_at": 1},
        *layers,
        *HEAD,
    )
    return {**RECIPES, "your own": Recipe.from_values(yours), "your own words": words}


NAMES = [*RECIPES, "your own", "your own words"]


@pytest.fixture(scope="module")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Made weights in the place of downloaded ones, for this process too; the code that says so to another."""
    with pytest.MonkeyPatch.context() as patch:
        yield made_data.make_weights(tmp_path_factory.mktemp("torch"), PRETRAINED, patch)
    _pictures_to_numbers.cache_clear()


@pytest.fixture(scope="module")
def files(recipes: dict[str, Recipe], prepare: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The exported file of each recipe."""
    folder, found = tmp_path_factory.mktemp("exported"), {}
    for number, (name, recipe) in enumerate(recipes.items()):
        found[name] = folder / f"file_{number}.py"
        found[name].write_text(python_file(recipe, name), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def said(files: dict[str, Path], prepare: str) -> dict[str, tuple[list[float], list[str]]]:
    """The first losses of each file, and what it prints of a whole run."""
    runs: list[tuple[Path, tuple[str, ...]]] = []
    for file in files.values():
        runs += [(file, (*STEPS_ONLY, str(_STEPS))), (file, ())]
    texts = run_files(runs, prepare)
    pairs = zip(files, texts[::2], texts[1::2], strict=True)
    return {name: (losses(first), whole.splitlines()) for name, first, whole in pairs}


@pytest.fixture(scope="module")
def first(said: dict[str, tuple[list[float], list[str]]]) -> dict[str, list[float]]:
    """The first losses of each file."""
    return {name: found for name, (found, _) in said.items()}


@pytest.fixture(scope="module")
def ended(said: dict[str, tuple[list[float], list[str]]]) -> dict[str, list[str]]:
    """What each file prints of a whole run."""
    return {name: lines for name, (_, lines) in said.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_first_losses_are_those_of_the_training(
    name: str, recipes: dict[str, Recipe], first: dict[str, list[float]]
) -> None:
    expected = real_losses(recipes[name], _STEPS)
    assert first[name][0] == pytest.approx(expected[0], rel=1e-6)
    assert first[name] == pytest.approx(expected, rel=2e-3 if "bf16" in name else 2e-4)
    assert len(set(expected)) == _STEPS


def test_every_exported_file_is_clean_python(files: dict[str, Path]) -> None:
    config = ["--no-cache", "--config", _CONFIG, *map(str, files.values())]
    for command in (["check"], ["format", "--diff"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *config], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["regression", "everything that draws", "standardised", "frozen at first"])
def test_a_whole_run_ends_with_the_same_test(name: str, ended: dict[str, list[str]], root: Path) -> None:
    job = train(RECIPES[name].override({"training.threads": 1}), root)
    assert job.history.summary is not None
    said = ended[name][-2].removeprefix("test ")
    found = {metric: float(value) for metric, value in (part.split() for part in said.split(" · "))}
    assert found == pytest.approx(dict(job.history.summary.test), rel=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_file_trains_to_its_end(name: str, ended: dict[str, list[str]], recipes: dict[str, Recipe]) -> None:
    epochs = recipes[name].training.epochs
    seen = [line.split()[1] for line in ended[name] if line.startswith("epoch")]
    assert seen == [f"{epoch + 1}/{epochs}" for epoch in range(epochs)]
    assert "weights are in" in ended[name][-1]


def test_torch_tui_takes_the_weights_that_a_file_keeps(files: dict[str, Path], ended: dict[str, list[str]]) -> None:
    kept = torch.load(files["nested"].with_suffix(".pt"), weights_only=True)
    build_model(RECIPES["nested"], describe(RECIPES["nested"])[1]).load_state_dict(kept)


# What is said of it


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training.average.kind": "ema"}, "training.average: there are no EMA weights"),
        ({"training.early_stopping.patience": 3}, "training.early_stopping: it trains all epochs"),
        ({"training.limit_batches": 2}, "training.limit_batches: it takes all batches"),
        ({"training.compile": "reduce-overhead"}, "training.compile: it is compiled, but without CUDA graphs"),
        ({"training.overfit_one_batch": True}, "training.overfit_one_batch: it takes all batches"),
        ({"training.gradient_checkpointing": True}, "training.gradient_checkpointing: it keeps all activations"),
        ({"data.num_workers": 2}, "data.num_workers: samples are read between the steps"),
        ({"data.augment": [{"name": "RandomRotation", "degrees": 9}]}, "data.augment: RandomRotation draws alike"),
        ({"data.split.val": 0.0}, "there is no validation part"),
    ],
)
def test_what_the_file_does_not_do_is_said_where_it_is_asked_for(changes: Mapping[str, Any], said: str) -> None:
    assert said in " ".join(python_file(small().override(changes), "small").split())
    assert said not in " ".join(python_file(small(), "small").split())


def test_what_is_frozen_is_named_so_that_nothing_else_begins_alike() -> None:
    # Not "2" of the batch norm, as which a layer 20 would begin.
    assert 'FROZEN = ("1.", "2.")  #' in python_file(RECIPES["frozen at first"], "x")
    assert "FROZEN" not in python_file(RECIPES["everything that draws"], "x")


def test_a_title_can_hold_anything() -> None:
    title = 'a """quoted""" \\N{title}, ' + "long " * 50
    text = python_file(small().override({"title": title}), "x")
    compile(text, "x.py", "exec")
    assert max(map(len, text.splitlines())) <= 120


def test_numbers_of_the_recipe_are_written_as_they_are() -> None:
    text = python_file(small(**{"optimizer.lr": 1e-300, "optimizer.betas": [0.5, 0.75]}), "x")
    assert "lr=1e-300, betas=(0.5, 0.75)" in text


def test_exporting_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    for recipe in (small({}, *NESTED), RECIPES["zoo"]):
        python_file(recipe, "x")
    assert torch.equal(torch.get_rng_state(), before)
