"""Which pictures lie in a folder: all of them, none twice, none from elsewhere, and nothing read again in vain."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.data.formats.opening import forget, open_files
from engine.data.pictures.names import Names
from engine.data.pictures.scanning import Scan, scan
from engine.data.samples import Listed
from engine.paths import cache_root
from engine.recipe import Data


def found(folder: Path) -> Scan:
    return scan(folder, lambda what, done, total: None)


def fill(folder: Path, *names: str, age: float = 60) -> None:
    """Empty files; the folders look as if nothing had changed in them for `age` seconds."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    settle(folder, age)


def settle(folder: Path, age: float = 60) -> None:
    for each in (folder, *folder.rglob("*")):
        if each.is_dir():
            os.utime(each, (time.time() - age, time.time() - age))


def test_pictures_are_told_from_other_files_and_come_in_order(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.PNG", "b/10.jpg", "a/deep/er/1.webp", "a/notes.txt", ".hidden.png", ".git/x.png", "top.jpeg")
    scanned = found(tmp_path)
    assert list(scanned.names) == ["top.jpeg", "a/deep/er/1.webp", "b/10.jpg", "b/2.PNG"]
    assert (scanned.others, scanned.hidden) == ({b"a": [b"notes.txt"]}, 2)
    assert scanned.names.path(1) == os.fsencode(tmp_path / "a/deep/er/1.webp")
    assert scanned.below(b"a") == [b"a/deep"]


def test_a_second_scan_reads_no_folder_that_did_not_change(tmp_path: Path) -> None:
    fill(tmp_path, *(f"class{number}/{each}.png" for number in range(5) for each in range(4)))
    first = found(tmp_path)
    assert (first.folders_read, len(first.names)) == (6, 20)
    second = found(tmp_path)
    assert second.folders_read == 0
    assert list(second.names) == list(first.names)
    (tmp_path / "class3/new.png").touch()
    (tmp_path / "class1/2.png").unlink()
    third = found(tmp_path)
    assert third.folders_read == 2
    assert set(third.names) ^ set(first.names) == {"class3/new.png", "class1/2.png"}


def test_two_hundred_thousand_pictures_are_found_once_with_progress_and_then_remembered(tmp_path: Path) -> None:
    photos, told = tmp_path / "photos", list[int]()
    for number in range(100):
        folder = photos / f"class{number:02}"
        folder.mkdir(parents=True)
        first = folder / "0.png"
        Image.new("L", (4, 4), number).save(first)
        for each in range(1, 2000):
            os.link(first, f"{folder}/{each}.png")
    settle(photos)
    data = Data(path=str(photos))

    loaded = open_files(data, "classification", lambda what, done, total: told.append(done))

    assert loaded.source.sizes == {"all": 200_000}
    assert len(loaded.source.classes) == 100
    assert len(told) > 40, "a person sees that it goes on"
    part = loaded.parts["all"]
    assert isinstance(part, Listed)
    assert torch.bincount(part.targets).tolist() == [2000] * 100
    assert int(part[150_001][0][0, 0, 0]) == int(part.targets[150_001]) == 75
    forget()
    assert found(photos).folders_read == 0
    shutil.rmtree(photos)  # pytest would keep it for three sessions


def test_a_folder_that_is_gone_is_forgotten_and_a_new_one_is_found(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    assert len(found(tmp_path).names) == 2
    (tmp_path / "b/1.png").unlink()
    (tmp_path / "b").rmdir()
    fill(tmp_path, "c/d/1.png")
    assert list(found(tmp_path).names) == ["a/1.png", "c/d/1.png"]


def test_a_folder_that_has_just_changed_is_read_again(tmp_path: Path) -> None:
    # Files made within one tick of the disk's clock leave the folder's time as it was.
    fill(tmp_path, "a/1.png", age=0)
    assert found(tmp_path).folders_read == 2
    assert found(tmp_path).folders_read == 2


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"not json", b'{"version": 1, "root": 3, "folders": []}\n'])
def test_a_damaged_cache_is_read_past(tmp_path: Path, damage: bytes) -> None:
    fill(tmp_path, "a/1.png", "b/2.png")
    expected = list(found(tmp_path).names)
    (file,) = (file for file in (cache_root() / "scans").iterdir() if os.fsencode(tmp_path) in file.read_bytes())
    whole = file.read_bytes()
    file.write_bytes(damage)
    assert list(found(tmp_path).names) == expected
    file.write_bytes(whole[:-3])  # cut short, as by a full disk
    again = found(tmp_path)
    assert (list(again.names), again.folders_read) == (expected, 3)


@pytest.mark.parametrize("room", [100, resource.RLIM_INFINITY])
def test_a_disk_that_is_full_costs_the_cache_alone_and_nothing_is_left_on_it(tmp_path: Path, room: int) -> None:
    fill(tmp_path, *(f"cats/{number:04}.jpg" for number in range(200)))
    there = len(list(cache_root().glob("scans/*")))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        count = len(found(tmp_path).names)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = len(list(cache_root().glob("scans/*"))) - there
    assert (count, kept) == (200, 0 if room == 100 else 1)


def test_links_that_lead_out_are_left_out_and_told(tmp_path: Path) -> None:
    fill(tmp_path, "photos/a/1.png", "elsewhere/secret.png")
    photos = tmp_path / "photos"
    (photos / "a/out.png").symlink_to(tmp_path / "elsewhere/secret.png")
    (photos / "a/up.png").symlink_to("../../elsewhere/secret.png")
    (photos / "away").symlink_to(tmp_path / "elsewhere")
    (photos / "round").symlink_to(photos)
    (photos / "a/gone.png").symlink_to(photos / "nothing.png")
    (photos / "a/same.png").symlink_to("1.png")
    scanned = found(photos)
    assert list(scanned.names) == ["a/1.png", "a/same.png"]
    told = {each.place: each.what for each in scanned.left_out}
    assert told == {
        "a/out.png": "is a link that leads out of the folder",
        "a/up.png": "is a link that leads out of the folder",
        "away": "is a link that leads out of the folder",
        "round": "is a link to a folder that is read where it lies",
        "a/gone.png": "is a link that leads nowhere",
    }


def test_names_that_are_no_utf8_are_found_read_and_shown(tmp_path: Path) -> None:
    name = b"caf\xe9.png"
    fill(tmp_path, "a/1.png")
    (tmp_path / "a" / os.fsdecode(name)).touch()
    settle(tmp_path)
    for scanned in (found(tmp_path), found(tmp_path)):  # read, and from the cache
        assert scanned.names.path(1) == os.path.join(os.fsencode(tmp_path), b"a", name)
        assert scanned.names[1] == r"a/caf\xe9.png"
        assert scanned.names[1].encode("utf-8")
    assert scanned.folders_read == 0


def test_progress_can_cancel_a_scan(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png")

    class CancelledError(Exception):
        pass

    def cancel(what: str, done: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        scan(tmp_path, cancel)
    assert len(found(tmp_path).names) == 1


def test_a_folder_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        found(tmp_path / "nothing")


def test_very_many_names_take_little_memory_and_pickle_small() -> None:
    count = 200_000
    text = b"".join(b"picture%06d.png\0" % number for number in range(count))
    names = Names.of(b"/photos", [(b"a", text, count)])
    assert names[count - 1] == "a/picture199999.png"
    assert len(pickle.dumps(names)) < 32 * count
    again = pickle.loads(pickle.dumps(names.take(names.folder_of[:3] + 5)))
    assert list(again) == ["a/picture000005.png"] * 3
