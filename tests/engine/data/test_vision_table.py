"""What the table says of torchvision's datasets fits what their classes tell, and nothing is left out unsaid."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import datasets

from engine.data import sources
from engine.data.load import load
from engine.data.options import dataset_entry
from engine.data.prepare import describe
from engine.data.samples import Listed, Loaded
from engine.data.sources import check_options, described, find, row_of, unknown
from engine.data.vision import introspection
from engine.data.vision.introspection import classes, downloads, excluded, parameters, said_parts, selection, selector
from engine.data.vision.table import EXCLUDED, EXCLUDED_MODULES, ROWS, Row
from engine.errors import DataError, RecipeError
from engine.export.data import data_code
from engine.recipe import Data, Recipe

KNOWN = {row.name: row for row in ROWS}
# What the docstring has otherwise: a part without labels, or words that are other datasets' parts.
LEFT_OUT = {
    "CLEVRClassification": {"test"},
    "Cityscapes": {"test"},
    "INaturalist": {"train", "val"},
    "LFWPeople": {"train", "test"},
    "Places365": {"train"},
    "VOCDetection": {"test"},
    "VOCSegmentation": {"test"},
    "WIDERFace": {"test"},
}


def test_every_dataset_of_torchvision_is_described_or_left_out_for_a_reason() -> None:
    wrong = [name for name in classes() if (name in KNOWN) == bool(excluded(name))]
    assert not wrong, "add a row to engine/data/vision/table.py, or a reason"


def test_the_table_has_nothing_that_torchvision_does_not_have() -> None:
    assert set(KNOWN) <= set(classes())
    assert set(EXCLUDED) <= set(classes())
    assert EXCLUDED_MODULES.keys() <= {target.__module__.rpartition(".")[2] for target in classes().values()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_fits_its_class(row: Row) -> None:
    target = classes()[row.name]
    taken = parameters(target)
    for name, option in row.options.items():
        passed = option.parameter if option.parameter is not None else name
        assert not passed or passed in taken
        assert not option.values or option.default in option.values
        assert set(option.changes) <= set(option.values)
    assert set(row.given) <= set(taken)
    assert row.by_hand or downloads(target)
    assert len(row.classes) in (0, row.outputs)
    for part in row.sizes:
        chosen = selection(target, row, part)
        assert set(chosen) <= set(taken)
        assert chosen or set(row.sizes) == {"all"}, "its parts can be told apart"
    if selector(target, row.options) not in ("", "train") and row.name not in LEFT_OUT:
        said = said_parts(target)
        assert {part: row.parts.get(part, part) for part in row.sizes} == said


def test_each_choice_of_an_option_gives_a_source_that_is_described_in_full() -> None:
    for row in ROWS:
        for name, option in row.options.items():
            for value in option.values[:12]:
                source = described(Data(name=row.name, options={name: value}))
                assert source.outputs > (row.task != "detection"), (row.name, value)
                assert len(source.classes) in (0, source.outputs), (row.name, value)
                assert all(source.shape), (row.name, value)
                assert set(source.sizes) <= {"all", "train", "val", "test"}, (row.name, value)


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
def test_class_names_of_the_table_are_torchvisions(name: str) -> None:
    assert tuple(classes()[name].classes) == KNOWN[name].classes


def test_classes_of_emnist_are_torchvisions() -> None:
    for split, names in datasets.EMNIST.classes_split_dict.items():
        assert row_of("EMNIST", {"split": split}).classes == tuple(name for name in names if name != "N/A")


def test_listing_and_misspelling_datasets_loads_neither_torch_nor_numpy() -> None:
    code = "import sys; from engine.data.sources import sources, unknown; assert len(sources()) > 40 and not unknown();"
    code += "from engine.data.sources import find; from contextlib import suppress\n"
    code += "for name in ('Food101', 'fod101', 'hf:someone/pictures'):\n"
    code += "    with suppress(Exception): find(name)\n"
    # What torchvision lists itself is looked at, should the table not know it.
    code += "from engine.data.sources import may_be_new; assert may_be_new('FakeData') and not may_be_new('fod101')\n"
    code += "assert not {'torch', 'torchvision', 'numpy', 'PIL', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("EMNIST", {"split": "leters"}, "data.options.split: 'leters' does not fit. Did you mean 'letters'?"),
        ("EMNIST", {"size": 3}, "data.options.size: is not an option of EMNIST. It takes split."),
        ("DTD", {"partition": 11}, "data.options.partition: 11 does not fit. There are 1, 2, 3, 4, 5, 6, 7, 8, …."),
        ("DTD", {"partition": True}, "data.options.partition: True does not fit"),
        ("DTD", {"size": "big"}, "data.options.size: 'big' is no side in pixels. Try 224, or [height, width]."),
        ("DTD", {"size": [32, 0]}, "data.options.size: [32, 0] is no side in pixels"),
        ("DTD", {"fit": "squeeze"}, "data.options.fit: 'squeeze' does not fit. There are 'crop', 'pad', 'stretch'."),
        (
            "CelebA",
            {"attribute": "Smilling"},
            "data.options.attribute: 'Smilling' does not fit. Did you mean 'Smiling'",
        ),
    ],
)
def test_an_option_that_does_not_fit_is_named_with_what_does(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_options(find(name), Data(name=name, options=options))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "options", "shape", "outputs"),
    [
        ("Food101", {}, (3, 224, 224), 101),
        ("Food101", {"size": 64, "channels": "grey"}, (1, 64, 64), 101),
        ("Food101", {"size": [48, 64]}, (3, 48, 64), 101),
        ("EuroSAT", {}, (3, 64, 64), 10),
        ("EMNIST", {"split": "letters"}, (1, 28, 28), 26),
        ("OxfordIIITPet", {"target_types": "binary-category"}, (3, 224, 224), 2),
        ("Places365", {"small": False}, (3, 224, 224), 365),
    ],
)
def test_options_make_the_shape_and_the_classes(
    name: str, options: dict[str, Any], shape: tuple[int, ...], outputs: int
) -> None:
    source = described(Data(name=name, options=options))
    assert (source.shape, source.outputs) == (shape, outputs)


class Novelty(datasets.VisionDataset):
    """Pictures of things that nobody has seen yet.

    Args:
        root (str): where they lie
        split (string): the dataset split, supports ``"train"`` (default), ``"valid"`` and ``"test"``.
        tint (int): how much is added to them
        download (bool): makes them
    """

    def __init__(
        self,
        root: str,
        split: str = "train",
        tint: int = 0,
        transform: Callable[..., Any] | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, transform=transform)
        self._folder = Path(root) / "novelty" / split
        if download:
            self._folder.mkdir(parents=True)
            for number in range(6):
                Image.new("RGB", (20 + number, 30), (number * 10 + tint,) * 3).save(self._folder / f"{number}.png")
        if not self._folder.exists():
            raise RuntimeError("Dataset not found")
        self.classes = ["a", "b", "c"]

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return Image.open(self._folder / f"{index}.png"), index % 3


@pytest.fixture
def novelty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A class that a new release of torchvision might bring."""
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path))
    monkeypatch.setattr(datasets, "Novelty", Novelty, raising=False)
    classes.cache_clear()
    introspection.unknown.cache_clear()
    yield "Novelty"
    classes.cache_clear()
    introspection.unknown.cache_clear()


def test_a_dataset_that_torchvision_brings_anew_is_listed_as_unknown_with_what_its_class_tells(novelty: str) -> None:
    source = unknown()[novelty]
    assert not source.known
    assert source.about == "Pictures of things that nobody has seen yet."
    assert source.options == {"tint": 0, "size": 0, "fit": "crop", "channels": "auto"}
    assert set(row_of(novelty, {}).sizes) == {"train", "val", "test"}
    assert novelty not in sources.sources()
    assert find(novelty).about == source.about


def test_nothing_is_unknown_of_this_torchvision() -> None:
    assert not unknown()


def values(**options: Any) -> Recipe:
    return Recipe.from_values({"data": {"name": "Novelty", "options": options}})


def test_it_is_described_when_it_is_there_and_trained_on_as_the_others(novelty: str) -> None:
    with pytest.raises(DataError, match="is not here yet, and nothing is known of it before"):
        describe(values())
    source, facts = describe(values(size=16), lambda *told: None)
    assert (facts.shape, facts.outputs, facts.classes) == ((3, 16, 16), 3, ("a", "b", "c"))
    assert dict(source.sizes) == {"train": 6, "val": 6, "test": 6}
    loaded: Loaded = load(Data(name=novelty, options={"size": 16}), "classification")
    test = loaded.parts["test"]
    assert isinstance(test, Listed)
    assert test.targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert [int(test[at][0].float().mean()) for at in range(6)] == [0, 10, 20, 30, 40, 50]
    assert describe(values(size=16))[1].outputs == 3, "it is here now"


def test_its_options_are_those_of_its_signature(novelty: str) -> None:
    loaded = load(Data(name=novelty, options={"tint": 5, "size": 8}), "classification")
    part = loaded.parts["train"]
    assert isinstance(part, Listed)
    assert torch.equal(part[1][0], torch.full((3, 8, 8), 15, dtype=torch.uint8))
    with pytest.raises(RecipeError, match=r"data\.options\.hue: is not an option of Novelty"):
        load(Data(name=novelty, options={"hue": 5}), "classification")


def test_a_class_that_takes_nothing_to_select_by_has_one_part() -> None:
    assert selector(datasets.SUN397) == ""
    assert selection(datasets.SUN397, KNOWN["SUN397"], "all") == {}
    assert "train" in parameters(datasets.EMNIST), "what is passed on counts, too"
    assert "train" not in inspect.signature(datasets.EMNIST).parameters
    assert json.dumps(said_parts(datasets.Food101)) == '{"train": "train", "test": "test"}'
    assert not said_parts(datasets.SUN397)


@pytest.mark.parametrize("name", ["Food101", "EMNIST", "hf:someone/pictures"])
def test_what_cannot_be_written_as_python_yet_is_said(name: str) -> None:
    with pytest.raises(RecipeError, match="is not among the datasets that are written as Python"):
        data_code(Recipe.from_values({"data": {"name": name}}), find(name))


def test_every_option_of_a_dataset_is_in_its_form_with_its_default_and_a_word_on_it() -> None:
    for name, source in sources.sources().items():
        form = dataset_entry(name).parameters
        assert {each.name: each.default for each in form} == source.options
        assert all(each.doc for each in form), name
    split, *_ = dataset_entry("EMNIST").parameters
    split.check("letters", "")
    with pytest.raises(RecipeError, match="'alphabet' is not 'byclass' or"):
        split.check("alphabet", "")


@pytest.mark.parametrize("name", ["Kinetics", "LFWPairs", "Sintel", "CocoDetection"])
def test_a_dataset_that_is_left_out_says_why_and_what_to_do_instead(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        find(name)
    reason = excluded(name)
    assert reason is not None
    assert str(caught.value) == f"data.name: {name} of torchvision is left out: {reason.why}. {reason.instead}"
    with pytest.raises(RecipeError, match=r"there is no dataset 'kinetics'\. Did you mean 'Kinetics'"):
        find("kinetics")


class NewBoxes(Novelty):
    """A later release's dataset of boxes."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)[0], {"boxes": [[1, 2, 3, 4]], "labels": [1]}


def test_what_has_no_classes_and_nobody_has_described_is_listed_and_said_when_it_is_opened(
    novelty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, novelty, NewBoxes)
    assert unknown()[novelty].about == "A later release's dataset of boxes."
    with pytest.raises(DataError, match=r"gives no class with its samples.*python = \"data\.py:make_dataset\""):
        load(Data(name=novelty), "classification")
