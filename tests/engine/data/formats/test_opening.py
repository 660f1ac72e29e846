"""What was read last is kept, until the files or the person say otherwise; nobody waits for it without end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data.fetching.telling import Bytes, reading_text
from engine.data.fetching.turns import turn
from engine.data.formats import opening
from engine.data.formats.opening import open_files
from engine.data.opened import forget
from engine.data.prepare import describe
from engine.data.reading import watch
from engine.data.samples import Loaded, Samples
from engine.errors import DataError
from engine.recipe import Data, Recipe

ROWS = "a,b,target\n1.5,2,0\n3.5,4,1\n2.5,7,0\n"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    forget()
    yield
    forget()


def quiet(what: str, done: int, total: int) -> None:
    pass


def read(path: Path) -> Loaded:
    return open_files(Data(path=str(path)), "classification", quiet)


def table(path: Path, rows: str = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows)
    return path


def test_a_table_written_again_in_its_folder_is_read_again(tmp_path: Path) -> None:
    file = table(tmp_path / "data" / "train.csv")
    first = read(tmp_path / "data")
    assert read(tmp_path / "data") is first
    file.write_text(ROWS + "9.5,1,1\n")
    assert read(tmp_path / "data").source.sizes == {"all": 4}


def test_labels_and_targets_beside_the_data_are_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(8.0).reshape(4, 2))
    for targets in ([0, 1, 0, 1], [1, 1, 0, 0]):
        np.save(tmp_path / "y.npy", np.array(targets))
        part = read(tmp_path / "x.npy").parts["all"]
        assert isinstance(part, Samples)
        assert part.targets.tolist() == targets
    first = read(tmp_path / "x.npy")
    table(tmp_path / "another.csv")
    assert read(tmp_path / "x.npy") is first
    for number in range(2):
        Image.new("L", (4, 4)).save(table(tmp_path / "photos" / f"{number}.png"))
    for labels in ("cat", "cow"):
        table(tmp_path / "photos.csv", f"file,label\n0.png,{labels}\n1.png,dog\n")
        assert read(tmp_path / "photos").source.classes == (labels, "dog")


def test_what_is_neither_a_file_nor_a_folder_is_said_to_be_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv: is neither a file nor a folder"):
        read(tmp_path / "pipe.csv")


def test_a_folder_with_nothing_in_it_is_called_empty_and_another_is_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is an empty folder\. Put the files into it"):
        read(tmp_path)
    (tmp_path / "strange.xyz").touch()
    with pytest.raises(DataError, match="has no files of a format that is known"):
        read(tmp_path)


def test_a_file_that_comes_or_goes_far_down_is_seen(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            table(tmp_path / part / name / "1.txt", f"a {name}")
    first = read(tmp_path)
    assert read(tmp_path) is first
    table(tmp_path / "train" / "cat" / "2.txt", "another cat")
    assert read(tmp_path).source.sizes == {"train": 3, "test": 2}


def test_what_changes_deeper_than_a_look_goes_is_seen_by_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_LOOKED_AT", 1)
    for kind in ("texts/cat/a/b/1.txt", "texts/dog/1.txt"):
        table(tmp_path / kind, "a pet")
    for kind in ("photos/cat/a/b/1.png", "photos/dog/1.png"):
        Image.new("L", (4, 4)).save(table(tmp_path / kind))

    def write_again() -> None:
        table(tmp_path / "texts/cat/a/b/1.txt", "another pet, of other words")

    def add() -> None:
        table(tmp_path / "photos/cat/a/b/2.png", "")

    for name, change in (("texts", write_again), ("photos", add)):
        first = read(tmp_path / name)
        assert read(tmp_path / name) is first
        change()
        with monkeypatch.context() as unwatched:
            unwatched.setattr(watch.Seen, "unchanged", lambda seen: True)
            assert read(tmp_path / name) is first, "without what was noted nothing would be seen"
        assert read(tmp_path / name) is not first


def test_a_look_for_changes_costs_a_few_entries_of_a_large_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_LOOKED_AT", 10)
    for number in range(30):
        (tmp_path / f"{number}").mkdir()
    assert len(opening._signature(tmp_path)) == 11  # and the folder itself


def test_all_that_a_recipe_mixes_is_read_once(tmp_path: Path) -> None:
    files = [str(table(tmp_path / f"{number}.csv")) for number in range(5)]
    layers = [{"name": "Linear", "out_features": "classes"}]
    data = {"path": files[0], "mix": [{"path": file} for file in files[1:]]}
    recipe = Recipe.from_values({"data": data, "model": {"layers": layers}})
    describe(recipe)
    kept = {each.source.path for each, _ in opening._kept.values()}
    assert kept == set(files)
    alone = Recipe.from_values({"data": {"path": files[0]}, "model": {"layers": layers}})
    describe(alone)
    read(table(tmp_path / "other.csv"))
    assert len(opening._kept) == 2  # what nobody asks for any more is let go


def test_to_forget_waits_for_no_reading_and_is_not_undone_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = table(tmp_path / "1.csv")

    def tell(what: str, done: int, total: int) -> None:
        forget()

    first = open_files(Data(path=str(file)), "classification", tell)
    assert read(file) is not first


def test_who_waits_for_another_thread_can_be_called_off() -> None:
    lock = threading.Lock()
    lock.acquire()
    told: list[str] = []

    def off(what: str, done: int, total: int) -> None:
        told.append(reading_text(what, done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), turn(lock, "photos", off):
        raise AssertionError("it is another's")
    assert told == ["photos"]
    lock.release()
    with turn(lock, "photos", off):
        assert lock.locked()
    assert not lock.locked()


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [
        (Bytes(3_200_000), 11_600_000, "3.2 of 11.6 MB"),
        (Bytes(3_200_000), 0, "3.2 MB"),
        (3200, 60_000, "3,200 of 60,000"),
        (3200, 0, "3,200"),
    ],
)
def test_bytes_are_told_as_megabytes_and_samples_as_samples(done: int, total: int, said: str) -> None:
    assert reading_text("photos", done, total) == f"photos: {said}"


def test_names_in_what_is_told_do_not_steer_the_terminal() -> None:
    assert reading_text("reading p\udcffos\x1b[2J", 0, 0) == "reading p\ufffdos␛[2J"
