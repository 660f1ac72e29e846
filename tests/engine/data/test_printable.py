"""What strangers' files say can be shown without steering the terminal."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from engine.data.preview import preview
from engine.errors import DataError
from engine.printable import printable, printable_line
from engine.recipe import Recipe

_ATTACK = "red \x1b[31m title \x1b]0;mine\x07 gone\x9b2J back\x08 cr\rx bidi\u202eabc"


def _steers(text: str) -> bool:
    return any(unicodedata.category(each) == "Cc" and each not in "\n\t" for each in text) or "\u202e" in text


@pytest.mark.parametrize("text", ["plain", "你好 👩\u200d👩\u200d👧 שלום é\u0301", "two\nlines\tand a tab"])
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


def test_control_characters_become_signs_and_labels_stay_one_line() -> None:
    assert _steers(_ATTACK)
    assert not _steers(printable(_ATTACK))
    assert printable("\x1b[2J\r\n\x7f") == "␛[2J\n␡"
    assert printable_line("a\nb\tc") == "a␊b␉c"
    printable("photos/\udcff.png").encode()  # a file whose name is no Unicode


def test_no_text_of_a_dataset_steers_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    for label in ("good", "bad\x1b[31m"):
        (folder / label).mkdir(parents=True)
        for number in range(10):
            (folder / label / f"{number}\x1b[2J.txt").write_text(_ATTACK, encoding="utf-8")
    values = {"data": {"path": str(folder), "format": "text", "options": {"tokenizer": "character"}}}
    found = preview(Recipe.from_values({"task": "classification", **values}, "test"))
    shown = [each for sample in found.samples for each in (sample.label, sample.place, sample.text, *sample.tokens)]
    assert any("␛" in each for each in shown)
    assert not any(map(_steers, [*shown, *found.counts, *found.source.classes]))
    assert not _steers(str(DataError(str(folder / "bad\x1b[31m"), "is wrong", "Mend it.")))
