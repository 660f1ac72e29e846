"""Looking at samples: each by its part, class and oddness, with its number and place, raw and as the model sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_format import made_format, pictures, recipe_of

from engine.data.prepare import prepare
from engine.data.preview import View, fitting, preview
from engine.data.serving.batches import TensorBatches
from engine.errors import RecipeError
from presets import load as preset


@pytest.fixture(autouse=True)
def _made() -> Iterator[None]:
    with made_format():
        yield


def view(folder: Path, kind: str = "pictures", **more: object) -> View:
    return View(recipe_of(folder, kind, **more))


def test_a_sample_says_its_number_and_its_file(tmp_path: Path) -> None:
    look = view(pictures(tmp_path / "p"))
    part, index = look.part("train")
    for position, sample in enumerate(look.page("train", [0, 1, 2])):
        assert sample.number == int(index[position])
        assert sample.place == part.places[sample.number]  # type: ignore[union-attr]
        assert sample.place.startswith(sample.label)
        assert sample.picture is not None
        assert sample.picture[0, 0].tolist() == ([250, 10, 10] if sample.label == "red" else [10, 10, 250])


def test_one_class_alone(tmp_path: Path) -> None:
    look = view(pictures(tmp_path / "p"))
    blue = look.order("train", 1, False)
    assert {sample.label for sample in look.page("train", blue)} == {"blue"}
    assert len(blue) == look.counts("train")[1]
    assert len(look.order("train", None, False)) == look.sizes["train"]


def test_a_picture_that_can_not_be_read_is_shown_as_such_and_spoils_no_other(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    (folder / "red-0000.png").write_bytes(b"no picture")
    look = view(folder, split={"train": 1.0, "val": 0.0, "test": 0.0})
    for seen in (False, True):
        samples = look.page("train", range(12), seen=seen)
        (torn,) = (sample for sample in samples if sample.trouble)
        assert (torn.place, torn.trouble) == ("red-0000.png", "is no picture")
        assert sum(sample.picture is not None for sample in samples) == 11
    torn_first = look.order("train", None, True)
    assert look.page("train", torn_first[:1])[0].trouble


def test_what_was_left_out_is_known(tmp_path: Path) -> None:
    look = preview(recipe_of(pictures(tmp_path / "p")))
    assert list(look.bad) == ["torn.png: is cut off"]
    assert look.holding is not None
    assert (look.holding.nbytes, look.holding.held) == (12 * 3 * 8 * 8, True)
    for change in ({"data.in_memory": False}, {"data.num_workers": 2}):
        unheld = preview(recipe_of(tmp_path / "p").override(change)).holding
        assert unheld is not None
        assert not unheld.held
        assert next(iter(change)) in unheld.why


def test_the_model_sees_what_normalize_makes_and_we_see_it_undone(tmp_path: Path) -> None:
    steps = [{"name": "Normalize", "mean": [0.2, 0.4, 0.6], "std": [0.1, 0.2, 0.3]}]
    look = view(pictures(tmp_path / "p"), transforms=steps)
    raw, seen = look.page("train", [0])[0], look.page("train", [0], seen=True)[0]
    assert raw.picture is not None
    assert seen.picture is not None
    assert np.abs(raw.picture.astype(int) - seen.picture.astype(int)).max() <= 1


def test_augmentation_draws_anew_and_only_for_training_samples() -> None:
    recipe = preset("digits-mlp").recipe.override({"data.augment": [{"name": "RandomRotation", "degrees": 40}]})
    before = torch.get_rng_state()
    look = View(recipe)
    once, again, other = (look.page("train", [0], seen=True, draw=draw)[0].picture for draw in (1, 1, 2))
    assert np.array_equal(once, again)  # type: ignore[arg-type]
    assert not np.array_equal(once, other)  # type: ignore[arg-type]
    held_out, plain = (look.page("val", [0], seen=seen)[0].picture for seen in (True, False))
    assert np.array_equal(held_out, plain)  # type: ignore[arg-type]
    assert torch.equal(before, torch.get_rng_state())


def test_a_transform_that_does_not_fit_is_said(tmp_path: Path) -> None:
    look = view(tmp_path / "t", "table", transforms=[{"name": "Normalize", "mean": [0.5], "std": [0.5]}])
    with pytest.raises(RecipeError, match=r"data\.transforms"):
        look.page("train", [0], seen=True)


def test_a_mask_has_its_classes_by_name(tmp_path: Path) -> None:
    sample = view(pictures(tmp_path / "p"), "masks").page("train", [0])[0]
    assert sample.mask is not None
    assert sample.areas == ((0, "red"), (1, "blue"))


def test_boxes_lie_in_their_picture(tmp_path: Path) -> None:
    sample = view(pictures(tmp_path / "p"), "boxes").page("train", [0])[0]
    (box,) = sample.boxes
    assert (box.left, box.top, box.right, box.bottom) == (1, 1, 6, 6)
    assert sample.place.startswith(box.label)


def test_tokens_stand_beside_the_text_without_their_padding(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "t", "text")
    for sample in View(recipe).page("train", [0, 1, 2]):
        assert " ".join(sample.tokens) == sample.text
    look = preview(recipe)
    assert {3: look.lengths[3], 6: look.lengths[6]} == {3: look.counts["short"], 6: look.counts["long"]}
    assert sum(look.lengths) == look.sizes["train"]


def test_sound_is_an_outline_and_a_spectrogram_with_low_tones_at_the_bottom(tmp_path: Path) -> None:
    samples = view(tmp_path / "s", "sound").page("train", range(6))
    for sample in samples:
        assert sample.wave is not None
        assert sample.spectrogram is not None
        assert sample.wave.min() >= -1
        assert sample.wave.max() <= 1
        loudest = int(sample.spectrogram.sum(1, dtype=np.int64).argmax()) / len(sample.spectrogram)
        assert loudest > 0.8 if sample.label == "low" else loudest < 0.7


def test_a_row_has_its_cells_as_they_were_read_and_numbers_as_the_model_sees_it(tmp_path: Path) -> None:
    look = view(tmp_path / "t", "table", transforms=[{"name": "Standardize"}])
    raw, seen = look.page("train", [0])[0], look.page("train", [0], seen=True)[0]
    assert raw.cells is not None
    assert list(raw.cells) == ["age", "pay", "rate"]
    assert seen.cells is None
    assert seen.row is not None
    assert np.abs(seen.row).max() < 5


class Enough(Exception):  # noqa: N818 - nothing goes wrong
    """What a person's cancelling raises."""


def test_what_is_read_one_by_one_is_standardised_as_in_training_measured_once_and_shown_in_its_own_colours(
    tmp_path: Path,
) -> None:
    recipe = recipe_of(pictures(tmp_path / "p"), transforms=[{"name": "Standardize"}])
    look, told = View(recipe), list[str]()

    def enough(what: str, done: int, total: int) -> None:
        if what == "measuring" and done == 2:
            raise Enough

    with pytest.raises(Enough):
        look.page("val", [0], seen=True, progress=enough)
    plain, seen = (
        look.page("val", [0])[0],
        look.page("val", [0], seen=True, progress=lambda *now: told.append(now[0]))[0],
    )
    assert told.count("measuring") == look.sizes["train"], "of what was called off nothing is kept"
    look.with_recipe(recipe).page("train", [1], seen=True, progress=lambda *now: told.append(now[0]))
    assert told.count("measuring") == look.sizes["train"]
    assert plain.picture is not None
    assert seen.picture is not None
    assert np.abs(plain.picture.astype(int) - seen.picture).max() <= 1
    (shown,) = look.prepared(recipe.data.transforms)
    trained = prepare(recipe, torch.device("cpu"), lambda what, done, total: None).train
    assert isinstance(trained, TensorBatches)
    (measured,) = trained._finish.transforms
    assert torch.equal(shown.mean, measured.mean)
    assert torch.equal(shown.std, measured.std)
    assert shown.mean.abs().max() > 0.01, "it was measured"


def test_wrong_labels_are_among_the_oddest() -> None:
    look = View(preset("digits-mlp").recipe)
    part, index = look.part("train")
    wrong = index[:40]
    part.targets[wrong] = (part.targets[wrong] + 1) % 10  # type: ignore[union-attr]
    first = look.order("train", None, True)[:80]
    found = sum(int(index[position]) in wrong.tolist() for position in first)
    assert found >= 16, "of 80 samples looked at, at least 16 of the 40 wrong ones"
    by_chance = sum(int(index[position]) in wrong.tolist() for position in range(1000, 1080))
    assert by_chance == 0


def test_the_oddest_of_tokens_is_the_one_of_the_other_class(tmp_path: Path) -> None:
    look = view(tmp_path / "t", "text", split={"train": 1.0, "val": 0.0, "test": 0.0})
    part, index = look.part("train")
    part.targets[5] = 0  # type: ignore[union-attr]
    assert int(index[look.order("train", None, True)[0]]) == 5


def test_what_reading_labels_takes_can_be_called_off(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "class D:\n    classes = ['a', 'b']\n    def __len__(self): return 2000\n"
        "    def __getitem__(self, i): return [float(i)], i % 2\n",
        encoding="utf-8",
    )
    from engine.recipe import Recipe

    look = View(Recipe.from_values({"data": {"python": f"{file}:D"}}))

    def off(what: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look.labels("train", off)
    assert look.labels("train") is not None


def test_the_model_sees_sound_as_the_recipe_transforms_it(tmp_path: Path) -> None:
    seen = view(tmp_path, "sound", transforms=[{"name": "LogMelSpectrogram", "n_mels": 8, "n_fft": 64}])
    picture = seen.page("train", [0], seen=True)[0].picture
    assert picture is not None
    assert picture.shape[0] == 8


def test_transforms_of_sound_fit_sound_and_nothing_else(tmp_path: Path) -> None:
    own = {"Standardize", "LogMelSpectrogram"}
    assert own <= {entry.name for entry, _ in fitting(view(tmp_path, "sound"))}
    assert not own & {entry.name for entry, _ in fitting(view(tmp_path, "pictures"))}


def test_samples_that_are_mixed_are_seen_so_with_the_share_of_each_class(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    plain, mixed = view(folder), view(folder, augment=[{"name": "MixUp", "alpha": 1.0}])
    positions = [*plain.order("train", 0, False)[:1], *plain.order("train", 1, False)[:1]]
    before, after = (look.page("train", positions, seen=True) for look in (plain, mixed))
    assert [sample.label for sample in before] == ["red", "blue"]
    for old, new in zip(before, after, strict=True):
        assert {"blue", "red"} == {word for word in new.label.replace(",", "").split() if "%" not in word}
        assert not np.array_equal(old.picture, new.picture)  # type: ignore[arg-type]
    held_out = mixed.page("val", [0], seen=True)[0]
    assert "%" not in held_out.label
