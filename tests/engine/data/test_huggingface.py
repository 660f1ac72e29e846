"""Datasets of Hugging Face, made here: pictures and numbers come as those of any other dataset."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow
from small_runs import train

from engine.check import check
from engine.data.formats import huggingface
from engine.data.formats.opening import open_files
from engine.data.load import load
from engine.data.opened import opened
from engine.data.prepare import describe
from engine.data.samples import BadSample, Listed, Loaded, Samples
from engine.data.sources import find
from engine.errors import DataError, NotDownloaded, RecipeError
from engine.recipe import Data, Recipe, Split

hub = pytest.importorskip("datasets", reason="the extra huggingface is not installed")


def quiet(what: str, done: int, total: int) -> None:
    pass


def pictures(count: int, *, mode: str = "RGB", sizes: tuple[tuple[int, int], ...] = ((20, 30), (33, 17))) -> Any:
    """Pictures whose grey is ten times their number; every third is of one class."""
    made = [Pillow.new("L", sizes[n % len(sizes)], n * 10).convert(mode) for n in range(count)]
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["a", "b", "c"])})
    return hub.Dataset.from_dict({"image": made, "label": [n % 3 for n in range(count)]}, features=features)


def numbers(count: int = 12) -> Any:
    pairs, kinds = [[n, -n] for n in range(count)], list("ba" * (count // 2))
    rows = {"x": [float(n) for n in range(count)], "pair": pairs, "kind": kinds}
    return hub.Dataset.from_dict({**rows, "y": [2.5 * n for n in range(count)]})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "cache"))
    huggingface._last.clear()
    hub.disable_progress_bars()  # while the tests make data


def read(path: Path, task: str = "classification", **options: Any) -> Loaded:
    values: dict[str, Any] = {"path": str(path), "options": options}
    if not (path / "dataset_dict.json").exists() and not (path / "state.json").exists():
        values["format"] = "huggingface"
    return open_files(Data(**values), task, quiet)  # type: ignore[arg-type]


def refusal(path: Path, task: str = "classification", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, task, **options)
    return str(caught.value)


def greys(part: Any) -> list[int]:
    return [int(part[at][0][0, 4, 4]) for at in range(len(part))]


def test_what_was_saved_to_disk_is_found_by_itself_with_its_parts(tmp_path: Path) -> None:
    saved = hub.DatasetDict({"train": pictures(9), "validation": pictures(3), "test": pictures(6)})
    saved.save_to_disk(tmp_path / "saved")
    before = sorted(tmp_path.glob("saved/**/*"))
    loaded = read(tmp_path / "saved", size=8)
    assert {part: len(samples) for part, samples in loaded.parts.items()} == {"train": 9, "val": 3, "test": 6}
    assert (loaded.source.shape, loaded.source.classes, loaded.source.outputs) == ((3, 8, 8), ("a", "b", "c"), 3)
    train = loaded.parts["train"]
    assert isinstance(train, Listed)
    assert train.targets.tolist() == [0, 1, 2] * 3
    assert greys(train) == [10 * number for number in range(9)]
    assert sorted(tmp_path.glob("saved/**/*")) == before, "nothing is written there"


def test_a_folder_of_parquet_is_read_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for part, count in (("train", 6), ("test", 3)):
        pictures(count, mode="L", sizes=((28, 28),)).to_parquet(tmp_path / f"files/{part}-00000-of-00001.parquet")
    loaded = read(tmp_path / "files")
    assert {part: len(samples) for part, samples in loaded.parts.items()} == {"train": 6, "test": 3}
    assert loaded.source.shape == (1, 28, 28), "pictures of one size keep it, and grey ones have one channel"
    assert len(list((tmp_path / "files").iterdir())) == 2, "nothing is written there"


def test_one_part_alone_is_split_like_any_other(tmp_path: Path) -> None:
    pictures(6).save_to_disk(tmp_path / "one")
    assert set(read(tmp_path / "one").parts) == {"all"}
    assert read(tmp_path / "one").source.shape == (3, 224, 224), "pictures of many sizes are brought to the usual"


def test_a_worker_gets_its_pictures_pickled(tmp_path: Path) -> None:
    pictures(4).save_to_disk(tmp_path / "one")
    part = read(tmp_path / "one", size=8).parts["all"]
    assert greys(pickle.loads(pickle.dumps(part))) == greys(part) == [0, 10, 20, 30]


def test_a_damaged_picture_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    cells = [{"bytes": b"no picture", "path": None}, {"bytes": Path(__file__).read_bytes(), "path": None}]
    good = pictures(3).cast_column("image", hub.Image(decode=False))["image"]
    features = hub.Features({"image": hub.Image(decode=False), "label": hub.ClassLabel(names=["a", "b"])})
    mixed = hub.Dataset.from_dict({"image": [*good[:], *cells], "label": [0, 1, 0, 1, 0]}, features=features)
    mixed.cast_column("image", hub.Image()).save_to_disk(tmp_path / "bad")
    part = read(tmp_path / "bad", size=8).parts["all"]
    with pytest.raises(BadSample, match="all 3: can't be read: cannot identify image file"):
        part[3]  # type: ignore[index]
    assert int(part[2][0][0, 0, 0]) == 20  # type: ignore[index]


def test_columns_of_numbers_are_one_row_a_sample(tmp_path: Path) -> None:
    numbers().save_to_disk(tmp_path / "numbers")
    loaded = read(tmp_path / "numbers", label="kind", input=["x", "y"])
    part = loaded.parts["all"]
    assert isinstance(part, Samples)
    assert loaded.source.classes == ("a", "b")
    assert loaded.source.columns == ("x", "y")
    assert part.targets[:3].tolist() == [1, 0, 1]
    assert part.inputs[2].tolist() == [2.0, 5.0]
    assert read(tmp_path / "numbers", label="kind", input="pair").parts["all"].inputs[2].tolist() == [2.0, -2.0]  # type: ignore[union-attr]


def test_a_number_can_be_predicted(tmp_path: Path) -> None:
    numbers().save_to_disk(tmp_path / "numbers")
    loaded = read(tmp_path / "numbers", "regression", label="y", input="x")
    part = loaded.parts["all"]
    assert isinstance(part, Samples)
    assert (loaded.source.shape, loaded.source.outputs, loaded.source.classes) == ((1,), 1, ())
    assert torch.equal(part.targets, part.inputs * 2.5)


def test_a_part_whose_labels_are_kept_back_is_no_part(tmp_path: Path) -> None:
    hidden = pictures(3).remove_columns("label").add_column("label", [-1] * 3).cast_column(
        "label", hub.ClassLabel(names=["a", "b", "c"])
    )  # fmt: skip
    hub.DatasetDict({"train": pictures(6), "test": hidden}).save_to_disk(tmp_path / "kept")
    assert set(read(tmp_path / "kept").parts) == {"train"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "lable"}, "has no column 'lable'. Did you mean 'label'?"),
        ({"input": "picture"}, "has no column 'picture'. There are image, label."),
        ({"train": "trian"}, "has no part 'trian'. Did you mean 'train'?"),
        ({"input": "label", "label": "label", "channels": "grey"}, ""),
    ],
)
def test_a_wrong_option_is_named_with_what_there_is(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    hub.DatasetDict({"train": pictures(3), "test": pictures(3)}).save_to_disk(tmp_path / "saved")
    if said:
        assert refusal(tmp_path / "saved", **options).endswith(said)
    else:
        assert read(tmp_path / "saved", **options).source.shape == (1,)
    with pytest.raises(RecipeError, match=r"data\.options\.colour: is not a parameter of huggingface"):
        read(tmp_path / "saved", colour="red")


def test_cells_without_a_number_are_counted(tmp_path: Path) -> None:
    hub.Dataset.from_dict({"x": [1.0, None, 3.0, None], "label": [0, 1, 0, 1]}).save_to_disk(tmp_path / "gaps")
    assert "the column 'x' has 2 cells without a number. Leave the column out" in refusal(tmp_path / "gaps")


def test_words_of_texts_are_learned_as_those_in_files_are(tmp_path: Path) -> None:
    texts = {"text": ["good day", "bad night", None, "good good"], "label": [0, 1, 0, 0]}
    hub.DatasetDict(train=hub.Dataset.from_dict(texts)).save_to_disk(tmp_path / "text")
    data = Data(path=str(tmp_path / "text"), options={"vocabulary": 4}, split=Split(train=1.0, val=0.0, test=0.0))

    source, parts = opened(data, "classification", [])

    assert source.tokens == ("<padding>", "<unknown>", "good", "bad")
    tokens = parts["train"][0]
    assert isinstance(tokens, Samples)
    assert [row[row > 0].tolist() for row in tokens.inputs] == [[2, 1], [3, 1], [], [2, 2]]


def test_a_folder_that_is_no_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: can't be had: " in refusal(tmp_path / "empty")
    pictures(3).save_to_disk(tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).write_bytes(b"no")
    assert "saved: can't be" in refusal(tmp_path / "saved")


def test_without_the_package_the_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "files").mkdir()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal(tmp_path / "files").endswith("not installed. pip install 'torch-tui[huggingface]'")


def recipe(**options: Any) -> Recipe:
    return Recipe.from_values({"data": {"name": "hf:someone/pictures", "options": options}})


def test_a_dataset_of_the_hub_is_described_when_it_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(*arguments: Any) -> Any:
        asked.append(arguments)
        return hub.DatasetDict({"train": pictures(6), "test": pictures(3)})

    monkeypatch.setattr(hub, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="hf:someone/pictures: is not here yet, and nothing is known of it before"):
        describe(recipe())
    assert not find("hf:someone/pictures").ready
    _, facts = describe(recipe(config="small", size=8), quiet)
    assert asked == [("someone/pictures", "small")]
    assert (facts.shape, facts.classes) == ((3, 8, 8), ("a", "b", "c"))
    assert find("hf:someone/pictures").ready
    assert describe(recipe(config="small", size=8))[1].shape == (3, 8, 8)
    assert load(recipe(config="small", size=8).data, "classification").source.name == "hf:someone/pictures"
    assert len(asked) == 1, "it is kept"
    assert describe(recipe(size=16))[1].shape == (3, 16, 16)
    assert len(asked) == 2


def test_a_dataset_that_the_hub_does_not_have_or_cannot_give_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*arguments: Any) -> Any:
        raise ConnectionError("Couldn't reach 'someone/pictures' on the Hub\nand more")

    monkeypatch.setattr(hub, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        load(recipe().data, "classification", quiet)
    assert str(caught.value) == (
        "data.name: hf:someone/pictures: can't be had: Couldn't reach 'someone/pictures' on the Hub."
        " Check the name, the configuration and the connection."
    )
    with pytest.raises(RecipeError, match=r"names no dataset of Hugging Face\. Write hf:org/name"):
        find("hf:")


def test_its_progress_is_told_and_may_cancel(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    pictures(6).to_parquet(tmp_path / "files/train.parquet")
    told: list[tuple[str, int, int]] = []
    data = Data(path=str(tmp_path / "files"), format="huggingface")

    def cancel(*values: Any) -> None:
        told.append(values)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_files(data, "classification", cancel)
    assert told[0][0] == "Hugging Face"
    assert len(open_files(data, "classification", quiet).parts["train"]) == 6
    from datasets.utils import tqdm as bars

    assert "update" not in vars(bars), "its bars are left as they were"


def test_what_is_not_here_yet_hinders_no_training_which_downloads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    values = {
        "data": {"name": "hf:someone/pictures", "options": {"size": 8}, "batch_size": 8},
        "model": {"layers": [{"name": "Flatten"}, {"name": "Linear", "out_features": "classes"}]},
        "training": {"epochs": 1, "device": "cpu"},
    }
    wanted = Recipe.from_values(values)
    before = check(wanted)
    assert [type(problem) for problem in before.problems] == [NotDownloaded]
    assert not before.hindrances
    assert check(wanted.override({"optimizer.name": "Adamm"})).hindrances
    monkeypatch.setattr(hub, "load_dataset", lambda *arguments: pictures(24))
    job = train(wanted, root)
    assert job.history.error is None
    assert not check(wanted).problems


@pytest.mark.parametrize("labels", [["a", None, "b"], [0, None, 1]])
def test_a_sample_without_a_label_is_bad_and_of_no_class(tmp_path: Path, labels: list[Any]) -> None:
    import datasets

    rows = {"text": [f"word{number}" for number in range(6)], "label": labels * 2}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "saved"))
    loaded = read(tmp_path / "saved")
    assert loaded.source.classes == tuple(str(each) for each in labels if each is not None)
    assert [bad.place for bad in loaded.bad] == ["all 1", "all 4"]
    part: Any = loaded.parts["all"]
    assert part.targets.tolist() == [0, 1, 0, 1]
    assert list(part.texts) == ["word0", "word2", "word3", "word5"]
    assert list(part.places) == ["all 0", "all 2", "all 3", "all 5"]
