"""Mean and deviation are those of the training samples alone; what is wrong with data is found before training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_format import made_format, pictures, recipe_of

from engine.data.preview import View, before_after, findings, fitting, measure, with_moments
from engine.errors import DataError
from engine.recipe import Part, Recipe
from engine.recipe.parts import inside
from presets import load as preset


@pytest.fixture(autouse=True)
def _made() -> Iterator[None]:
    with made_format():
        yield


def quiet(what: str, done: int, total: int) -> None: ...


def part(name: str, **values: object) -> Part:
    return Part.model_validate({"name": name, **values})


def test_mean_and_deviation_are_those_that_torch_computes_over_the_training_part() -> None:
    look = View(preset("digits-mlp").recipe)
    samples, index = look.part("train")
    pixels = samples.inputs[index].double() / 255  # type: ignore[union-attr]
    found = measure(look, quiet)
    assert found.mean == pytest.approx((float(pixels.mean()),), rel=1e-5)
    assert found.std == pytest.approx((float(pixels.std(correction=0)),), rel=1e-5)
    assert found.count == 4000


def test_what_stands_before_normalize_is_counted_in() -> None:
    steps = [{"name": "Pad", "padding": 14}, {"name": "Normalize", "mean": [0.5], "std": [0.5]}]
    padded = View(preset("digits-mlp").recipe.override({"data.transforms": steps}))
    plain = View(preset("digits-mlp").recipe.override({"data.transforms": []}))
    assert measure(padded, quiet).mean[0] == pytest.approx(measure(plain, quiet).mean[0] / 4, rel=1e-4)


def test_numbers_far_from_zero_keep_their_deviation(tmp_path: Path) -> None:
    file = tmp_path / "far.py"
    file.write_text(
        "import numpy as np\nclass D:\n    classes = ['a', 'b']\n    def __len__(self): return 100\n"
        "    def __getitem__(self, i): return np.array([1e6 + i % 2], np.float32), i % 2\n",
        encoding="utf-8",
    )
    whole = {"train": 1.0, "val": 0.0, "test": 0.0}
    found = measure(View(Recipe.from_values({"data": {"python": f"{file}:D", "split": whole}})), quiet)
    assert found.std == pytest.approx((0.5,), rel=1e-3)
    assert found.step.name == "Standardize"


def test_pictures_that_can_not_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    (folder / "red-0000.png").write_bytes(b"")
    whole = {"train": 1.0, "val": 0.0, "test": 0.0}
    found = measure(View(recipe_of(folder, split=whole)), quiet)
    assert (found.count, found.skipped, found.names) == (11, 1, ("red", "green", "blue"))


def test_measuring_can_be_called_off() -> None:
    def off(what: str, done: int, total: int) -> None:
        if done > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(View(preset("digits-mlp").recipe), off)


def test_tokens_have_no_mean(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tokens"):
        measure(View(recipe_of(tmp_path, "text")), quiet)


def test_what_was_measured_takes_the_place_of_what_was_there() -> None:
    steps = [part("Resize", size=8), part("Normalize", mean=[0.5], std=[0.5]), part("RGB")]
    new = part("Normalize", mean=[0.1], std=[0.2])
    assert list(with_moments(steps, new)) == [steps[0], new, steps[2]]
    assert list(with_moments(steps[:1], new)) == [steps[0], new]


def test_a_normalize_inside_compose_is_found_and_replaced_where_it_stands() -> None:
    old, new, pad = (
        part("Normalize", mean=[0.5], std=[0.5]),
        part("Normalize", mean=[0.1], std=[0.3]),
        part("Pad", padding=14),
    )
    held = [pad.model_dump(), old.model_dump()]
    steps = (part("Compose", transforms=[part("Compose", transforms=held).model_dump()]),)
    recipe = preset("digits-mlp").recipe
    plain = View(recipe.override({"data.transforms": []}))
    nested = View(recipe.override({"data.transforms": [step.model_dump() for step in steps]}))
    assert measure(nested, quiet).mean[0] == pytest.approx(measure(plain, quiet).mean[0] / 4, rel=1e-4)
    (outer,) = with_moments(steps, new)
    assert [inner.name for inner in inside(inside(outer)[0])] == ["Pad", "Normalize"]
    assert inside(inside(outer)[0])[1] == new
    random = (part("RandomApply", transforms=[old.model_dump()]),)
    assert with_moments(random, new) == (*random, new), "what is applied at random standardises nothing"


def test_transforms_are_offered_that_take_the_samples_and_no_others(tmp_path: Path) -> None:
    names = {entry.name: random for entry, random in fitting(View(preset("digits-mlp").recipe))}
    assert names["RandomRotation"] is True
    assert names["Normalize"] is False
    assert not {"Standardize", "SanitizeBoundingBoxes", "ClampBoundingBoxes", "ToPILImage"} & set(names)
    table = [entry.name for entry, _ in fitting(View(recipe_of(tmp_path, "table")))]
    assert "Standardize" in table
    assert not {"RandomHorizontalFlip", "Normalize", "RandomRotation"} & set(table)


def test_trying_transforms_beside_a_training_draws_nothing() -> None:
    look = View(preset("digits-mlp").recipe)
    drawn = torch.default_generator.get_state()
    names = {entry.name for entry, _ in fitting(look, aside=True)}
    assert torch.equal(drawn, torch.default_generator.get_state())
    assert "RandomPerspective" in names


def test_before_and_after_are_the_same_samples() -> None:
    look = View(preset("digits-mlp").recipe)
    for before, after in before_after(look, [], [part("Pad", padding=4)], range(3), 0):
        assert before.number == after.number
        assert before.picture is not None
        assert after.picture is not None
        assert after.picture.shape == (36, 36)
        assert (after.picture[4:-4, 4:-4] == before.picture).all()


def test_sound_data_have_nothing_wrong() -> None:
    found = findings(View(preset("digits-mlp").recipe), quiet)
    assert found.findings == ()
    assert found.read == found.total == 5000


def test_a_torn_file_ends_a_training_unless_the_recipe_skips_it(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    (folder / "red-0000.png").write_bytes(b"")
    found = findings(View(recipe_of(folder, on_bad_sample="stop")), quiet).findings
    assert [(each.count, each.places, each.fatal) for each in found] == [
        (2, ("torn.png: is cut off", "red-0000.png: is no picture"), True)
    ]
    assert "on_bad_sample" in found[0].remedy
    skipping = findings(View(recipe_of(folder, on_bad_sample="skip")), quiet).findings
    assert [each.fatal for each in skipping] == [False]


def test_numbers_that_are_none_and_labels_that_are_no_class_are_found_with_their_lines(tmp_path: Path) -> None:
    look = View(recipe_of(tmp_path / "t", "table", split={"train": 1.0, "val": 0.0, "test": 0.0}))
    samples, _ = look.part("train")
    samples.inputs[3, 1] = float("nan")  # type: ignore[union-attr]
    samples.targets[7] = 2  # type: ignore[union-attr]
    found = {each.what: each for each in findings(look, quiet).findings}
    assert found["not all numbers are finite"].places == ("line 4",)
    assert found["1 label is no class from 0 to 1"].places == ("line 8",)


def test_a_class_without_a_sample_is_named_and_does_not_end_the_training(tmp_path: Path) -> None:
    look = View(recipe_of(tmp_path / "t", "table"))
    samples, _ = look.part("train")
    samples.targets[:] = 1  # type: ignore[union-attr]
    (found,) = findings(look, quiet).findings
    assert (found.what, found.places, found.fatal) == ("1 class has no training sample", ("no",), False)


def test_reading_ends_when_its_time_is_over(tmp_path: Path) -> None:
    look = View(recipe_of(pictures(tmp_path / "p", 40)))
    assert findings(look, quiet, seconds=0).read == 0
    assert findings(look, quiet).read == 40
