"""What is exported never takes the place of a file that is there, unless that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.export.saving import ExportError, free, save


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("mine")
    with pytest.raises(ExportError, match=r"is there already\. Choose another name, or write over it by --force\."):
        save("yours", path)
    assert path.read_text() == "mine"
    save("yours", path, force=True)
    assert path.read_text() == "yours"


def test_a_place_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="can't be written: No such file or directory"):
        save("text", tmp_path / "nowhere" / "x.py")


def test_a_free_name_is_found_beside_those_that_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    assert free(path) == path
    path.touch()
    (tmp_path / "x_2.py").symlink_to(tmp_path / "nowhere")
    assert free(path) == tmp_path / "x_3.py"
