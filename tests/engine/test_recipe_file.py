"""A recipe's file is saved whole or not at all, and never over what somebody else wrote."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.recipe import Recipe
from engine.recipe.file import ChangedOnDisk, RecipeFile, write_whole

TEXT = '# mine\n[data]\nname = "line"  # made\n\n[[model.layers]]\nname = "ReLU"\n'


@pytest.fixture
def file(tmp_path: Path) -> RecipeFile:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return RecipeFile.open(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def faster(file: RecipeFile) -> Recipe:
    return file.recipe.override({"optimizer.lr": 0.5})


def refusal(file: RecipeFile) -> str:
    with pytest.raises(RecipeError) as caught:
        file.save(faster(file))
    return str(caught.value)


def test_saving_writes_the_changed_setting_and_keeps_the_comments(file: RecipeFile) -> None:
    changed = faster(file)
    assert not file.holds(changed)
    file.save(changed)
    assert file.holds(changed)
    assert file.path.read_text() == TEXT + '\n[optimizer]\nname = "AdamW"\nlr = 0.5\n'
    assert Recipe.load(file.path) == changed
    assert os.listdir(file.path.parent) == ["mine.toml"], "something was left beside it"


def test_saving_twice_is_no_conflict_with_oneself(file: RecipeFile) -> None:
    file.save(faster(file))
    file.save(file.recipe.override({"training.epochs": 3}))
    assert Recipe.load(file.path).training.epochs == 3


def test_what_somebody_else_wrote_is_not_overwritten_unless_it_may_be(file: RecipeFile) -> None:
    theirs = TEXT.replace("ReLU", "GELU")
    file.path.write_text(theirs)
    with pytest.raises(ChangedOnDisk, match=r"mine\.toml: has been changed by something else since it was opened"):
        file.save(faster(file))
    assert file.path.read_text() == theirs
    file.save(faster(file), overwrite=True)
    assert Recipe.load(file.path).model.layers[0].name == "ReLU"


def test_reloading_takes_what_somebody_else_wrote_and_what_is_broken_is_not_taken(file: RecipeFile) -> None:
    file.path.write_text(TEXT.replace("ReLU", "GELU"))
    assert file.reload().model.layers[0].name == "GELU"
    file.save(faster(file))
    file.path.write_text("no toml")
    with pytest.raises(RecipeError, match="is not TOML"):
        file.reload()
    assert file.recipe.model.layers[0].name == "GELU"


def test_a_file_that_was_removed_is_written_again_only_when_that_is_meant(file: RecipeFile) -> None:
    file.path.unlink()
    with pytest.raises(ChangedOnDisk, match="has been removed"):
        file.save(faster(file))
    file.save(faster(file), overwrite=True)
    assert Recipe.load(file.path) == file.recipe


def test_permissions_links_and_line_ends_stay(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "target.toml"
    target.parent.mkdir()
    target.write_bytes(TEXT.replace("\n", "\r\n").encode())
    target.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(target)
    file = RecipeFile.open(link)
    file.save(faster(file))
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    content = target.read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n") == TEXT.count("\n") + 4


def test_a_new_file_has_the_permissions_that_new_files_have(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "new.toml", TEXT)
    assert (tmp_path / "new.toml").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_that_is_gone_is_one_clear_message(file: RecipeFile) -> None:
    file.path.unlink()
    file.path.parent.rmdir()
    with pytest.raises(
        RecipeError, match=r"mine\.toml: can't be written: no such file or directory\. .*nothing is lost"
    ):
        file.save(faster(file), overwrite=True)
    assert not file.holds(faster(file))


def test_a_full_disk_leaves_the_file_as_it_was(small_disk: Path) -> None:
    path = small_disk / "mine.toml"
    path.write_text(TEXT)
    file = RecipeFile.open(path)
    (small_disk / "filler").write_bytes(bytes(4096))
    with (small_disk / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
        while True:
            rest.write(bytes(4096))
    assert "can't be written: no space left on device" in refusal(file)
    assert path.read_text() == TEXT
    assert sorted(os.listdir(small_disk)) == ["filler", "mine.toml", "rest"]
    (small_disk / "filler").unlink()  # the twin: with room it goes
    file.save(faster(file))


def test_a_read_only_disk_leaves_the_file_as_it_was(small_disk: Path) -> None:
    path = small_disk / "mine.toml"
    path.write_text(TEXT)
    file = RecipeFile.open(path)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "can't be written" in refusal(file)
    assert path.read_text() == TEXT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file_in_a_folder_that_is_not_is_not_replaced(file: RecipeFile) -> None:
    file.path.chmod(0o444)
    assert "the file is read-only" in refusal(file)


def test_a_relative_python_file_stays_the_same_file_wherever_the_recipe_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "mine.toml"
    path.write_text('[data]\npython = "data.py:make"  # beside me\n')
    file = RecipeFile.open(path)
    file.save(file.recipe.override({"training.epochs": 2, "model.python": "here/net.py:make"}))
    assert 'python = "data.py:make"  # beside me\n' in path.read_text()
    assert '[model]\npython = "net.py:make"\n' in path.read_text()
    other = RecipeFile.create(tmp_path / "there" / "copy.toml", file.recipe, file)
    assert Recipe.load(other.path) == Recipe.load(path)
    assert "# beside me" in other.text
