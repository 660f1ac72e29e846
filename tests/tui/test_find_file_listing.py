"""The file picker lists what begins as it was typed, and says what is wrong with a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.content import Content

from engine.errors import DataError
from tui.dialogs.data.find_file import functions_of, listed
from tui.widgets.titles import plain


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("photos", "Plants", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "prices.csv").write_text("a,b\n", encoding="utf-8")
    return tmp_path


def names(text: str, *, hidden: bool = False) -> list[str]:
    return [entry.name for entry in listed(text, hidden=hidden).entries]


def test_folders_come_first_and_hidden_ones_only_when_asked_for(folder: Path) -> None:
    assert names(f"{folder}/") == ["photos/", "Plants/", "prices.csv"]
    assert names(f"{folder}/", hidden=True) == [".hidden/", "photos/", "Plants/", "prices.csv"]
    assert names(f"{folder}/.h") == [".hidden/"]


def test_upper_and_lower_case_are_alike(folder: Path) -> None:
    assert names(f"{folder}/p") == ["photos/", "Plants/", "prices.csv"]
    assert names(f"{folder}/PR") == ["prices.csv"]


def test_a_tilde_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert names("~") == names("~/") == ["photos/", "Plants/", "prices.csv"]
    assert "~/photos is empty" in listed("~/photos/", hidden=False).what


def test_what_is_wrong_is_said(folder: Path) -> None:
    assert listed(f"{folder}/none/x", hidden=False).what == f"There is no folder {folder}/none."
    assert "begins with q" in listed(f"{folder}/q", hidden=False).what
    assert "no folder" in listed(f"{folder}/prices.csv/x", hidden=False).what


def test_of_a_large_folder_some_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}.txt").touch()
    found = listed(f"{tmp_path}/", hidden=False)
    assert (len(found.entries), found.more) == (500, 100)


def test_what_a_python_file_offers_is_known_without_running_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text('raise SystemExit\ndef make():\n    "Makes."\ndef _not(): ...\nclass Data: ...\n', encoding="utf-8")
    assert functions_of(file) == {"make": "Makes.", "Data": ""}
    file.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(DataError, match="no function"):
        functions_of(file)
    file.write_text("def (:\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mine\.py:1"):
        functions_of(file)


@pytest.mark.parametrize("text", ["~nobody-is-called-so/", "/tmp/a\0b/"])
def test_what_can_be_no_path_is_said_to_be_none(text: str) -> None:
    found = listed(text, hidden=False)
    assert found.wrong
    assert found.what.endswith(".")
    assert not found.what.endswith("..")


def test_a_name_in_a_title_is_no_style_and_does_not_steer_the_terminal() -> None:
    assert Content.from_markup(plain("Reading [red]x[/] \x1b[31m")).plain == "Reading [red]x[/] ␛[31m"
