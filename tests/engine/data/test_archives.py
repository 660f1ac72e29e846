"""Archives open as the folder in them, and nothing in them reaches anything outside it."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.fetching import archives
from engine.data.fetching.archives import opened
from engine.data.formats import catalog, opening
from engine.data.formats.opening import open_files
from engine.data.samples import BadSample, Loaded, Progress, Samples
from engine.data.sources import Source
from engine.errors import DataError
from engine.recipe import Data

FILES = {"photos/cats/1.jpg": b"meow" * 900, "photos/cats/2.jpg": b"purr" * 900, "photos/dogs/1.jpg": os.urandom(5000)}
Pack = Callable[[Path, Mapping[str, bytes]], None]


def quiet(what: str, done: int, total: int) -> None:
    pass


def pack_zip(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)


def pack_tar(path: Path, files: Mapping[str, bytes], *more: tarfile.TarInfo) -> None:
    mode = {".gz": "w:gz", "tgz": "w:gz", ".xz": "w:xz"}.get(path.name[-3:], "w")
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
        for entry in more:
            packed.addfile(entry)


def linked(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def within(names: Mapping[str, bytes], prefix: str = "photos/") -> dict[str, bytes]:
    return {name.removeprefix(prefix): content for name, content in names.items()}


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        opened(path, quiet)
    return str(caught.value)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archives"


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", "P.TGZ", "p.tar.xz"])
def test_an_archive_opens_as_the_folder_in_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (pack_zip if name.endswith("zip") else pack_tar)(path, FILES)
    told: list[int] = []
    folder, bad = opened(path, lambda what, done, total: told.append(done))
    assert contents(folder) == within(FILES)
    assert (folder.name, bad) == ("photos", [])
    assert told[-1] == sum(map(len, FILES.values()))
    assert {entry.name for entry in tmp_path.iterdir()} == {name, "cache"}, "nothing is written beside it"


def test_it_is_taken_out_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    pack_zip(path, FILES)
    folder, _ = opened(path, quiet)
    (folder / "cats/1.jpg").write_bytes(b"seen")
    assert opened(path, quiet)[0] == folder
    assert (folder / "cats/1.jpg").read_bytes() == b"seen"
    pack_zip(path, {**FILES, "photos/new.jpg": b"new"})
    assert (opened(path, quiet)[0] / "new.jpg").read_bytes() == b"new"


def test_a_single_file_in_it_is_that_file(tmp_path: Path) -> None:
    pack_zip(tmp_path / "t.zip", {"table.csv": b"a,b\n1,2\n", "__MACOSX/._table.csv": b"", ".DS_Store": b""})
    assert opened(tmp_path / "t.zip", quiet)[0].name == "table.csv"


def test_cancelling_leaves_nothing_to_train_on_and_the_next_attempt_succeeds(tmp_path: Path, cache: Path) -> None:
    pack_zip(tmp_path / "p.zip", FILES)

    def cancel(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path / "p.zip", cancel)
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == []
    assert contents(opened(tmp_path / "p.zip", quiet)[0]) == within(FILES)


@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
@pytest.mark.parametrize("name", ["../out.txt", "photos/../../out.txt", "/tmp/out.txt", "C:/out.txt", "\\../../../a"])
def test_a_name_that_leads_out_of_the_folder_is_left_out_and_listed(tmp_path: Path, pack: Pack, name: str) -> None:
    path = tmp_path / "bad.zip" if pack is pack_zip else tmp_path / "bad.tar"
    pack(path, {**FILES, name: b"evil"})
    folder, bad = opened(path, quiet)
    assert contents(folder) == within(FILES)
    assert [(each.place, each.what) for each in bad] == [(f"{path.name}: {name}", "lies outside the archive's folder")]
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.read_bytes() == b"evil"]
    assert opened(path, quiet)[1][0].what == bad[0].what, "what was left out is known the second time, too"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../../etc/passwd"])
def test_a_link_out_of_the_folder_is_left_out(tmp_path: Path, kind: bytes, target: str) -> None:
    # And what would be written through it lands in a folder of its own.
    pack_tar(tmp_path / "l.tar", FILES, linked("photos/secret.jpg", target, kind), linked("photos/dir", "/tmp"))
    folder, bad = opened(tmp_path / "l.tar", quiet)
    assert contents(folder) == within(FILES)
    assert [each.what for each in bad] == ["is a link out of the archive's folder"] * 2
    assert not [file for file in folder.rglob("*") if file.is_symlink()]


@pytest.mark.parametrize(
    ("kind", "target"), [(tarfile.SYMTYPE, "../cats/1.jpg"), (tarfile.LNKTYPE, "photos/cats/1.jpg")]
)
def test_a_link_to_a_file_of_the_archive_is_that_file(tmp_path: Path, kind: bytes, target: str) -> None:
    pack_tar(tmp_path / "l.tar", FILES, linked("photos/dogs/2.jpg", target, kind), linked("photos/x", "nothing"))
    folder, bad = opened(tmp_path / "l.tar", quiet)
    assert (folder / "dogs/2.jpg").read_bytes() == FILES["photos/cats/1.jpg"]
    assert [each.what for each in bad] == ["is a link to no file of the archive"]


def test_a_link_in_a_zip_is_followed_no_further_than_a_tars(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as packed:
        for name, content in {**FILES, "photos/2.jpg": b"cats/1.jpg", "photos/3.jpg": b"/etc/passwd"}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK if name[-5:-4] in "23" and "cats" not in name else stat.S_IFREG) << 16
            packed.writestr(info, content)
    folder, bad = opened(tmp_path / "l.zip", quiet)
    assert contents(folder) == {**within(FILES), "2.jpg": FILES["photos/cats/1.jpg"]}
    assert [each.place for each in bad] == ["l.zip: photos/3.jpg"]


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_left_out(tmp_path: Path, kind: bytes) -> None:
    pack_tar(tmp_path / "d.tar", FILES, linked("photos/device", "", kind))
    folder, bad = opened(tmp_path / "d.tar", quiet)
    assert contents(folder) == within(FILES)
    assert [each.what for each in bad] == ["is a device, not a file"]


def test_of_two_files_of_one_name_the_first_is_taken_and_the_other_listed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as packed:
        packed.writestr("a.txt", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("a.txt", b"second")
    file, bad = opened(tmp_path / "p.zip", quiet)
    assert file.read_bytes() == b"first"
    assert [each.what for each in bad] == ["is there twice: the first is taken"]


def test_a_file_where_a_folder_should_be_and_a_name_too_long_are_listed(tmp_path: Path) -> None:
    pack_tar(tmp_path / "p.tar", {"a": b"1", "a/b": b"2", "c" * 300: b"3", "d": b"4"})
    folder, bad = opened(tmp_path / "p.tar", quiet)
    assert contents(folder) == {"a": b"1", "d": b"4"}
    assert [each.what for each in bad] == ["can't be written: File exists", "can't be written: File name too long"]


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tar.gz", "bomb.tar.xz"])
def test_an_archive_that_grows_beyond_measure_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(archives, "_SMALL", 1 << 20)
    (pack_zip if name.endswith("zip") else pack_tar)(tmp_path / name, {"zeros": bytes(8 << 20)})
    assert "would grow from 0.0" in (said := refusal(tmp_path / name))
    assert "If you trust it, unpack it yourself, and give the folder." in said
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == []


def test_one_that_lies_about_its_size_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "lie.zip"
    pack_zip(path, {"zeros": bytes(1 << 20)})
    packed = path.read_bytes()
    path.write_bytes(packed.replace((1 << 20).to_bytes(4, "little"), (1 << 10).to_bytes(4, "little")))
    assert "is cut short or damaged" in refusal(path)


def test_one_that_does_not_fit_the_disk_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    pack_zip(tmp_path / "p.zip", FILES)
    opened(tmp_path / "p.zip", quiet)  # it can be had otherwise
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage._replace(free=(1 << 28) + 1000))
    os.utime(tmp_path / "p.zip", (0, 0))
    assert "Make room, or set TORCH_TUI_DATA to a larger disk." in refusal(tmp_path / "p.zip")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    pack_zip(path, FILES)
    packed = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := packed.find(signature, start + 1)) >= 0:
            packed[start + offset] |= 1
    path.write_bytes(packed)
    assert refusal(path) == f"{path}: is encrypted. Unpack it with its password, and give the folder."


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", "p.tar.xz"])
@pytest.mark.parametrize("left", [0.2, 0.6])
def test_a_truncated_archive_is_refused_and_nothing_of_it_trained_on(
    tmp_path: Path, name: str, left: float, cache: Path
) -> None:
    path = tmp_path / name
    (pack_zip if name.endswith("zip") else pack_tar)(path, FILES)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    assert "is cut short or damaged" in refusal(path)
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == []


def test_a_tar_that_ends_between_two_files_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "p.tar"
    pack_tar(path, {"a": bytes(512), "b": bytes(512)})
    path.write_bytes(path.read_bytes()[:1024])
    assert "is cut short or damaged: it has no end" in refusal(path)


@pytest.mark.parametrize("name", ["no.zip", "no.tar.gz", "no.tar"])
def test_what_is_no_archive_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>please log in</html>" * 40)
    assert "is cut short or damaged" in refusal(tmp_path / name)


def test_names_in_other_encodings_are_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tar", "w", encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("Kühe/größe.jpg"))
        tar.addfile(tarfile.TarInfo("Kühe/2.jpg"))
    assert set(contents(opened(tmp_path / "p.tar", quiet)[0])) == {"größe.jpg", "2.jpg"}
    path = tmp_path / "p.zip"
    pack_zip(path, {"Kühe/1": b"", "Kühe/2": b""})
    packed = bytearray(path.read_bytes())  # without the flag that says UTF-8, as many programs write it
    for signature, offset in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        start = -1
        while (start := packed.find(signature, start + 1)) >= 0:
            packed[start + offset] &= ~8
    path.write_bytes(packed)
    assert opened(path, quiet)[0].name == "Kühe"


def test_a_zip_with_the_separator_of_windows_has_folders(tmp_path: Path) -> None:
    pack_zip(tmp_path / "p.zip", {"cats\\1.jpg": b"1", "dogs\\1.jpg": b"2"})
    assert contents(opened(tmp_path / "p.zip", quiet)[0]) == {"cats/1.jpg": b"1", "dogs/1.jpg": b"2"}


def test_an_empty_archive_is_named(tmp_path: Path) -> None:
    pack_zip(tmp_path / "p.zip", {})
    assert refusal(tmp_path / "p.zip").endswith("holds no files. Pack it anew.")


def test_a_recipes_path_may_be_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_found(path: Path, task: str, progress: Progress) -> Loaded:
        """Count the files."""
        names = sorted(file.name for file in path.rglob("*.npy"))
        source = Source("x", "", "classification", (1,), 2, {"all": len(names)}, "yours")
        return Loaded(
            source, {"all": Samples(torch.zeros(len(names), 1), torch.zeros(len(names)))}, [BadSample("y", "z")]
        )

    entry = catalog.Entry("arrays", "own", open_found, "format", frozenset({"path", "task", "progress"}))
    monkeypatch.setattr(opening, "find_format", lambda name, path, where: entry if path.is_dir() else None)
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    pack_zip(tmp_path / "numbers.zip", {"a/1.npy": content.getvalue(), "a/2.npy": content.getvalue(), "../3.npy": b""})
    data: dict[str, Any] = {"path": str(tmp_path / "numbers.zip")}
    loaded = open_files(Data(**data), "classification", quiet)
    assert loaded.source.name == "numbers.zip"
    assert len(loaded.parts["all"]) == 2
    assert [each.place for each in loaded.bad] == ["numbers.zip: ../3.npy", "y"]
    assert open_files(Data(**data), "classification", quiet) is loaded
    (tmp_path / "numbers.zip").write_bytes(b"no")
    with pytest.raises(DataError, match="is cut short or damaged"):
        open_files(Data(**data), "classification", quiet)


def test_two_archives_of_one_name_are_unpacked_at_the_same_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "photos.zip", tmp_path / "b" / "photos.zip"
    for path in (first, second):
        path.parent.mkdir()
        pack_zip(path, {f"{path.parent.name}{number}.txt": b"x" for number in range(4)})
    inner: list[dict[str, bytes]] = []

    def meanwhile(what: str, done: int, total: int) -> None:
        if not inner:
            inner.append({})
            inner[0] = contents(opened(second, quiet)[0])

    assert sorted(contents(opened(first, meanwhile)[0])) == [f"a{number}.txt" for number in range(4)]
    assert sorted(inner[0]) == [f"b{number}.txt" for number in range(4)]


def test_one_that_holds_a_multitude_of_entries_can_be_called_off_and_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = tarfile.TarInfo("a.txt").tobuf()
    with gzip.open(tmp_path / "many.tar.gz", "wb") as packed:
        packed.write(entry * 3000 + bytes(tarfile.RECORDSIZE))
    told: list[str] = []
    assert len(opened(tmp_path / "many.tar.gz", lambda what, done, total: told.append(what))[1]) == 2999
    assert told.count("unpacking many.tar.gz") == 3  # twice for what it looks through, once for the file
    another = tmp_path / "many2.tar.gz"
    shutil.copy(tmp_path / "many.tar.gz", another)
    monkeypatch.setattr(archives, "_LEFT_OUT", 100)
    assert "holds more than 100 entries that can't be taken, such as many2.tar.gz: a.txt" in refusal(another)


@pytest.mark.parametrize(("name", "pack"), [("a.zip", pack_zip), ("a.tar.gz", pack_tar)])
def test_the_format_of_what_an_archive_holds_is_told_without_unpacking_it(
    name: str, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "data"))
    for files, kind in (
        (FILES, "images"),
        ({"a/images/1.png": b"", "a/masks/1.png": b""}, "masks"),
        ({"a/instances_train.json": b"", "a/1.png": b"", "a/2.png": b""}, "coco"),
        ({"a/notes.json": b"", "a/cat/1.png": b"", "a/dog/2.png": b""}, "images"),
        ({"words.csv": b""}, "table"),
    ):
        pack(tmp_path / name, files)
        assert catalog.guess(tmp_path / name) == kind
    for files in ({"a/readme": b""}, {}):
        pack(tmp_path / name, files)
        with pytest.raises(DataError, match="seems to hold no files of a format that is known"):
            catalog.guess(tmp_path / name)
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(DataError, match="seems to hold no files"):
        catalog.guess(tmp_path / name)
    assert not (tmp_path / "data").exists()
