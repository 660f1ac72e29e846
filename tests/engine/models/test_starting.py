"""Whatever a person's samples are, there is a small model that takes them, and that learns from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import rows, train

from engine.check import check, fit_to_data
from engine.data.prepare import Facts
from engine.data.sources import Source
from engine.models.build import flow, wanted
from engine.models.build import sizes as symbols
from engine.models.layers import trace
from engine.models.starting import Kind, kind_of, start, with_model
from engine.other_data import adapted
from engine.recipe import Recipe
from presets import load

CNN = load("digits-cnn").recipe
SAMPLES = Source("mine", "", "classification", (), 3, {"all": 400}, "yours", classes=("a", "b", "c"))
KINDS: dict[Kind, list[Source]] = {
    "pictures": [replace(SAMPLES, shape=shape) for shape in ((1, 1, 1), (3, 5, 7), (3, 224, 224), (4, 640, 8))],
    "pictures with masks": [
        replace(SAMPLES, task="segmentation", shape=shape) for shape in ((1, 1, 1), (3, 49, 65), (3, 8, 640))
    ],
    "a table": [replace(SAMPLES, shape=(1,)), replace(SAMPLES, shape=(7,), cardinalities=(3, 9))],
    "text": [replace(SAMPLES, shape=(length,), vocabulary=50, tokens=("",) * 50) for length in (1, 24, 256)],
    "series": [replace(SAMPLES, shape=(20, 3))],
}


@pytest.mark.parametrize(
    ("kind", "source"),
    [pytest.param(kind, source, id=f"{kind} {source.shape}") for kind, sources in KINDS.items() for source in sources],
)
def test_the_model_for_a_kind_takes_samples_of_all_sizes(kind: Kind, source: Source) -> None:
    assert kind_of(source) == kind
    begun = start(CNN, source)
    assert begun is not None
    assert begun.kind == kind
    recipe = with_model(CNN.override({"task": source.task}), begun.layers, begun.settings, "mine")
    facts = Facts(source.shape, 3, source.classes, None, None, None, source.vocabulary, source.cardinalities)
    layers = trace(recipe.model.layers, flow(facts), symbols(recipe, facts))
    assert [str(row.error) for row in layers if row.error] == []
    assert layers[-1].output == wanted(recipe, facts)
    assert recipe.data.batch_size <= 32, "400 samples are ten steps an epoch or more"
    other = replace(source, task="detection")
    assert start(CNN, other) is None, "boxes can't be learned"


@pytest.mark.parametrize(("rate", "values"), [(8000, 4000), (16_000, 16_000), (44_100, 100), (100, 20)])
def test_sound_is_learned_from_as_a_picture_of_its_tones(rate: int, values: int) -> None:
    from engine.data.transforms import fixed

    source = replace(SAMPLES, shape=(1, values), rate=rate)
    begun = start(CNN, source)
    assert begun is not None
    recipe = with_model(CNN, begun.layers, begun.settings, "mine")
    picture = fixed(recipe.data.transforms[:1], rate=rate)[0](torch.randn(2, 1, values))
    layers = trace(recipe.model.layers, flow(Facts(tuple(picture.shape[1:]), 3)), {"classes": 3})
    assert layers[-1].output == (3,)


def words(folder: Path, bad: str = "") -> Recipe:
    """A recipe for pictures on texts of which one word tells the class, and its twin in data alone."""
    folder = folder / "texts"
    folder.mkdir()
    draws = np.random.default_rng(0)
    for name, word in (("pos", "good"), ("neg", "awful")):
        lines = [" ".join(draws.permutation([word, *draws.choice(list("abcdefgh"), 6)])) for _ in range(60)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + bad, encoding="utf-8")
    data = {"data.name": None, "data.path": str(folder), "data.transforms": (), "training.epochs": 6}
    return CNN.override(data)


def test_a_model_for_pictures_gives_way_to_one_that_learns_from_text(tmp_path: Path) -> None:
    recipe = words(tmp_path)
    found = check(recipe)
    assert found.fixes[0].title == "start with a small model for text: Embedding, GRU, Linear"
    fit = fit_to_data(recipe)
    assert fit == found.fixes[0], "F does what is proposed"
    fitted = with_model(recipe, fit.layers, fit.settings, "mine")
    assert check(fitted).problems == ()
    assert fit_to_data(fitted).layers == fitted.model.layers, "what fits stays"
    chosen = adapted(recipe, replace(SAMPLES, shape=(1, 28, 28)))
    assert chosen is not None
    assert chosen.recipe == fitted
    assert chosen.said == "The model was for pictures: now there is a small one for text. u takes it all back."
    assert adapted(fitted, found.source) is None, "what fits stays"
    assert adapted(recipe, found.source, keep=True) is None, "what a person made is not replaced"
    job = train(fitted, tmp_path / "runs")
    (accuracy,) = rows(job.directory, "test/accuracy")["test/accuracy"].values()
    assert accuracy > 0.8, "one word of seven tells the class"


def test_bad_samples_do_not_hide_the_model_and_are_left_out_by_one_mend(tmp_path: Path) -> None:
    recipe = words(tmp_path, bad="\n\n")
    fit = fit_to_data(recipe)
    found = check(with_model(recipe, fit.layers, fit.settings, "mine"))
    assert len(found.problems) == 1
    assert "is empty; 2 samples in all are bad" in str(found.problems[0])
    assert [row.name for row in found.rows] == ["Embedding", "GRU", "Linear"]
    (mend,) = found.fixes
    assert check(with_model(found.recipe, mend.layers, mend.settings, "mine")).problems == ()


def test_fitting_leaves_a_model_of_the_zoo_to_its_transforms_unless_it_can_never_take_the_data(tmp_path: Path) -> None:
    zoo = CNN.override({"model": {"zoo": "vgg11"}, "data.transforms": ()})
    fit = fit_to_data(zoo)
    assert fit.layers == ()
    assert check(with_model(zoo, fit.layers, fit.settings, "mine")).problems == ()
    assert [layer.name for layer in fit_to_data(words(tmp_path).override({"model": {"zoo": "vgg11"}})).layers] == [
        "Embedding",
        "GRU",
        "Linear",
    ]
