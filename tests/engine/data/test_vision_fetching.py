"""torchvision's archives come through us: from any host, whole or not at all, and nothing in them leads out."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import Mirror, serving
from torchvision import datasets
from torchvision.datasets import utils
from vision_files import BUILDS

from engine.data.fetching.downloads import fetch
from engine.data.fetching.telling import Bytes, Fetched
from engine.data.load import load
from engine.data.samples import Loaded, Progress
from engine.data.sources import find
from engine.data.vision import fetching
from engine.data.vision.fetching import fetching as through_us
from engine.errors import DataError
from engine.recipe import Data


def quiet(what: str, done: int, total: int) -> None:
    pass


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def packed(folder: Path, extra: dict[str, bytes]) -> bytes:
    """A folder as .tar.gz, and what else is hidden in it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(folder, folder.name)
        for name, data in extra.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """torchvision's Food101, small, from a server on this machine."""
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    BUILDS["Food101"](tmp_path / "made", monkeypatch)
    archive = packed(tmp_path / "made/food-101", {"../../evil.txt": b"evil"})
    with serving({"food-101.tar.gz": archive}) as server:
        monkeypatch.setattr(datasets.Food101, "_URL", f"{server.url}food-101.tar.gz")
        monkeypatch.setattr(datasets.Food101, "_MD5", md5(archive))
        yield server


def food(progress: Progress = quiet) -> Loaded:
    return load(Data(name="Food101", options={"size": 8}), "classification", progress)


def test_an_archive_is_fetched_proved_and_unpacked_with_nothing_outside(mirror: Mirror, tmp_path: Path) -> None:
    told: set[tuple[str, type]] = set()
    loaded = food(lambda what, done, total: told.add((what, type(done))))
    assert {part: len(samples) for part, samples in loaded.parts.items()} == {"train": 24, "test": 24}
    assert told == {("food-101.tar.gz", Fetched), ("unpacking food-101.tar.gz", Bytes)}
    assert not list(tmp_path.rglob("evil.txt"))
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        ".Food101.lock", "Food101.complete", "food-101", "food-101.tar.gz", "food-101.tar.gz.sha256",
    ]  # fmt: skip
    mirror.asked.clear()
    food()
    assert mirror.asked == []


def test_an_archive_that_was_half_unpacked_is_not_trained_on(mirror: Mirror, tmp_path: Path) -> None:
    seen: list[int] = []

    def cancel(what: str, done: int, total: int) -> None:
        seen.append(done)
        if len(seen) > 20 and not total:  # a tar does not say how large it will be
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        food(cancel)
    assert not (tmp_path / "data/food-101").exists()
    assert not list((tmp_path / "data").glob(".*.unpacking"))
    assert not find("Food101").ready
    assert len(food().parts["train"]) == 24
    assert [asked for asked in mirror.asked if "GET" in asked] == ["GET food-101.tar.gz"], "what came is kept"


def test_an_archive_with_another_hash_is_removed_and_said(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["food-101.tar.gz"] = b"<html>please log in</html>"
    with pytest.raises(DataError, match=r"does not give what its hash says\)\. Connect and try again"):
        food()
    assert not list((tmp_path / "data").glob("food*"))


def test_a_damaged_archive_is_no_dataset(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = mirror.files["food-101.tar.gz"][:-2000]
    mirror.files["food-101.tar.gz"] = half
    monkeypatch.setattr(datasets.Food101, "_MD5", md5(half))
    with pytest.raises(DataError, match="is cut short or damaged"):
        food()
    assert not (tmp_path / "data/food-101").exists()


def test_what_no_hash_can_prove_is_begun_anew_after_it_broke_off(mirror: Mirror, tmp_path: Path) -> None:
    whole = mirror.files["food-101.tar.gz"]
    url, path = f"{mirror.url}food-101.tar.gz", tmp_path / "whole.tar.gz"
    mirror.cut = True
    with pytest.raises(ConnectionError, match=f"it ends after {len(whole) // 2:,} of {len(whole):,} bytes"):
        fetch(url, path, quiet)
    mirror.cut = False
    fetch(url, path, quiet)
    assert path.read_bytes() == whole
    assert mirror.asked == ["GET food-101.tar.gz"] * 2


def test_a_part_of_what_has_changed_since_is_not_put_before_the_rest(mirror: Mirror, tmp_path: Path) -> None:
    whole, path = mirror.files["food-101.tar.gz"], tmp_path / "whole.tar.gz"
    (tmp_path / "whole.tar.gz.part").write_bytes(b"old" * 50)
    fetch(f"{mirror.url}food-101.tar.gz", path, quiet, md5=md5(whole))
    assert path.read_bytes() == whole
    assert mirror.asked == ["GET food-101.tar.gz bytes=150-", "GET food-101.tar.gz"]


def test_a_file_that_is_there_is_fetched_again_only_if_its_hash_is_another(mirror: Mirror, tmp_path: Path) -> None:
    whole, path = mirror.files["food-101.tar.gz"], tmp_path / "whole.tar.gz"
    path.write_bytes(whole)
    fetch(f"{mirror.url}food-101.tar.gz", path, quiet, md5=md5(whole))
    assert mirror.asked == []
    path.write_bytes(b"damaged")
    fetch(f"{mirror.url}food-101.tar.gz", path, quiet, md5=md5(whole))
    assert path.read_bytes() == whole


def test_files_of_google_drive_need_no_other_program(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"labels" * 100
    mirror.files["abc123"] = content
    monkeypatch.setattr(fetching, "DRIVE", mirror.url)
    with through_us(quiet):
        # Imported by name into their modules, where they must be ours, too.
        for module in (datasets.pcam, datasets.celeba):
            module.download_file_from_google_drive("abc123", str(tmp_path), filename=module.__name__, md5=md5(content))
            assert (tmp_path / module.__name__).read_bytes() == content
    assert datasets.pcam.download_file_from_google_drive is utils.download_file_from_google_drive


def test_a_file_is_unpacked_whole_or_not_at_all(tmp_path: Path) -> None:
    whole = gzip.compress(bytes(100_000))
    (tmp_path / "whole.h5.gz").write_bytes(whole)
    (tmp_path / "half.h5.gz").write_bytes(whole[: len(whole) // 2])
    with through_us(quiet):
        assert Path(datasets.pcam._decompress(str(tmp_path / "whole.h5.gz"))).name == "whole.h5"
        with pytest.raises(EOFError):
            datasets.pcam._decompress(str(tmp_path / "half.h5.gz"))
    assert (tmp_path / "whole.h5").read_bytes() == bytes(100_000)
    assert not (tmp_path / "half.h5").exists()
