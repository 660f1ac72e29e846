"""Downloads against a real server on this machine: progress, cancelling, broken files, no network, no answer."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from file_server import Mirror, serving
from torchvision.datasets import utils as torchvision_utils

from engine.data.fetching import downloads
from engine.data.load import load
from engine.data.samples import Loaded, Samples
from engine.data.sources import find
from engine.errors import DataError
from engine.recipe import Data

RANDOM = np.random.default_rng(0)
# Incompressible, so that the training pictures take several reads.
TRAIN, TEST = (RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8) for count in (1000, 40))
LABELS = {1000: RANDOM.integers(0, 10, 1000, dtype=np.uint8), 40: RANDOM.integers(0, 10, 40, dtype=np.uint8)}


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the format of MNIST's files."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


FILES = {
    "train-images-idx3-ubyte.gz": idx(TRAIN),
    "train-labels-idx1-ubyte.gz": idx(LABELS[1000]),
    "t10k-images-idx3-ubyte.gz": idx(TEST),
    "t10k-labels-idx1-ubyte.gz": idx(LABELS[40]),
}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """torchvision's MNIST, small, from a server on this machine; files go below `tmp_path`."""
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", [(name, md5(file)) for name, file in FILES.items()])
    with serving(FILES) as mirror:
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [mirror.url])
        yield mirror


class CancelledError(Exception):
    """What a person's wish to stop raises."""


def mnist(progress: object = None) -> Loaded:
    return load(Data(name="MNIST"), "classification", progress or (lambda *values: None))  # type: ignore[arg-type]


def refusal() -> str:
    with pytest.raises(DataError) as caught:
        mnist()
    return str(caught.value)


def is_right(loaded: Loaded) -> bool:
    train, test = loaded.parts["train"], loaded.parts["test"]
    assert isinstance(train, Samples)
    assert isinstance(test, Samples)
    same = [np.array_equal(part.inputs[:, 0].numpy(), array) for part, array in ((train, TRAIN), (test, TEST))]
    return all(same) and np.array_equal(test.targets.numpy(), LABELS[40])


def test_a_download_gives_the_data_and_says_that_it_is_there(mirror: Mirror) -> None:
    assert not find("MNIST").ready
    loaded = mnist()
    assert is_right(loaded)
    assert loaded.source.classes[3] == "3 - three"
    assert find("MNIST").ready


def test_a_second_load_asks_the_network_for_nothing(mirror: Mirror) -> None:
    mnist()
    mirror.asked.clear()
    assert is_right(mnist())
    assert mirror.asked == []


def test_progress_is_reported_in_bytes_as_they_come(mirror: Mirror) -> None:
    told: list[tuple[str, int, int]] = []
    mnist(lambda what, done, total: told.append((what, done, total)))
    name = "train-images-idx3-ubyte.gz"
    steps = [done for what, done, total in told if what == name]
    assert len(steps) > 2
    assert steps == sorted(set(steps))
    assert steps[-1] == len(FILES[name])
    assert {what for what, _, _ in told} == set(FILES)
    assert all(total == len(FILES[what]) for what, _, total in told)


def test_cancelling_leaves_a_part_that_the_next_attempt_goes_on_with(mirror: Mirror, tmp_path: Path) -> None:
    def cancel(what: str, done: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        mnist(cancel)
    name = "train-images-idx3-ubyte.gz"
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    assert [path.name for path in left] == [f"{name}.part"]
    came = left[0].stat().st_size
    assert 0 < came < len(FILES[name])
    assert not find("MNIST").ready
    assert is_right(mnist())
    assert f"GET {name} bytes={came}-" in mirror.asked
    assert not list(tmp_path.rglob("*.part"))


def test_a_mirror_without_ranges_is_asked_for_all_again(mirror: Mirror) -> None:
    mirror.cut = True
    refusal()
    mirror.cut, mirror.ranges = False, False
    assert is_right(mnist())


def test_what_was_downloaded_has_its_sha256_beside_it(mirror: Mirror, tmp_path: Path) -> None:
    mnist()
    for name, content in FILES.items():
        recorded = (tmp_path / "MNIST" / "raw" / f"{name}.sha256").read_text(encoding="utf-8")
        assert recorded == f"{hashlib.sha256(content).hexdigest()}  {name}\n"


def test_a_download_that_does_not_fit_the_disk_is_refused_before_it_begins(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage._replace(free=(64 << 20) + 1000))
    assert "MNIST/raw has 0.1 GB free. Make room, or set TORCH_TUI_DATA to a larger disk." in refusal()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


def test_two_downloads_at_once_fetch_each_file_once(mirror: Mirror) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(mnist) for _ in range(2)]
        assert all(is_right(each.result()) for each in both)
    assert sorted(asked for asked in mirror.asked if asked.startswith("GET")) == sorted(f"GET {name}" for name in FILES)


def test_two_processes_at_once_fetch_a_file_once(mirror: Mirror, tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte.gz"
    code = f"""
import sys, time
from pathlib import Path
from engine.data.fetching.downloads import fetch
fetch("{mirror.url}{name}", Path("{tmp_path}/{name}"), lambda *told: time.sleep(0.05), md5="{md5(FILES[name])}")
"""
    each = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=60)[1] for process in each] == [b"", b""]
    assert mirror.asked == [f"GET {name}"]
    assert (tmp_path / name).read_bytes() == FILES[name]
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name}.sha256"]


def test_cancelling_at_the_second_file_keeps_the_first(mirror: Mirror, tmp_path: Path) -> None:
    def cancel(what: str, done: int, total: int) -> None:
        if what == "train-labels-idx1-ubyte.gz":
            raise CancelledError

    with pytest.raises(CancelledError):
        mnist(cancel)
    assert not list(tmp_path.rglob("*labels*.gz"))
    mirror.asked.clear()
    assert is_right(mnist())
    assert "GET train-images-idx3-ubyte.gz" not in mirror.asked


def test_a_file_with_another_hash_is_refused_and_fetched_again(mirror: Mirror) -> None:
    mirror.files["t10k-labels-idx1-ubyte.gz"] = idx(LABELS[40][::-1])
    assert "data.name: MNIST: can't be downloaded" in refusal()
    assert not find("MNIST").ready
    mirror.files.update(FILES)
    assert is_right(mnist())


def test_a_connection_that_breaks_off_is_no_dataset(mirror: Mirror) -> None:
    mirror.cut = True
    assert "can't be downloaded" in refusal()
    mirror.cut = False
    assert is_right(mnist())


def test_without_a_network_the_bundled_twin_is_named_at_once(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{closed}/"])
    started = time.monotonic()
    said = refusal()
    assert time.monotonic() - started < 5
    assert "Connection refused" in said
    assert said.endswith("Use 'mnist5k', which ships with torch-tui, or connect and try again.")


def test_a_server_that_never_answers_is_given_up(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.3)
    mirror.silent.set()
    started = time.monotonic()
    assert "can't be downloaded" in refusal()
    assert time.monotonic() - started < 3


def test_a_server_that_speaks_no_http_is_named(mirror: Mirror) -> None:
    mirror.garbage = True
    assert "can't be downloaded" in refusal()


def test_a_file_that_a_mirror_lacks_is_named(mirror: Mirror) -> None:
    mirror.files.clear()
    assert "404" in refusal()


@pytest.mark.parametrize("left", [0, 3, 20, 5000])
def test_a_file_cut_short_on_disk_is_named_with_a_remedy(mirror: Mirror, tmp_path: Path, left: int) -> None:
    mnist()
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:left])
    said = refusal()
    assert "data.name: MNIST: can't be read" in said
    assert f"Remove it from {tmp_path} and try again." in said


def test_data_in_a_folder_that_cannot_be_written_is_used(mirror: Mirror, tmp_path: Path) -> None:
    mnist()
    marker = find("MNIST").marker
    marker.unlink()
    marker.symlink_to(tmp_path / "nowhere" / "file")  # touch fails, also for root
    assert is_right(mnist())


@pytest.mark.parametrize("fails", [False, True])
def test_torchvision_is_left_as_it_was(mirror: Mirror, fails: bool) -> None:
    def state() -> list[object]:
        modules = (torchvision_utils, torchvision.datasets.mnist, torchvision.datasets.svhn, torchvision.datasets.pcam)
        names = ("download_url", "download_file_from_google_drive", "_decompress", "extract_archive", "check_integrity")
        held = [getattr(module, name, None) for module in modules for name in names]
        return [*held, dict(torchvision_utils._ARCHIVE_EXTRACTORS), socket.getdefaulttimeout()]

    before = state()
    if fails:
        mirror.files.clear()
        refusal()
    else:
        mnist()
    assert state() == before


def test_colour_pictures_come_channels_first(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = RANDOM.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)  # as the file has them
    members = {
        "data_batch_1": {"data": pictures[:4].reshape(4, -1), "labels": [1, 2, 3, 4]},
        "test_batch": {"data": pictures[4:].reshape(2, -1), "labels": [5, 6]},
        "batches.meta": {"label_names": [f"thing {number}" for number in range(10)]},
    }
    packed, hashes = io.BytesIO(), {}
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, value in members.items():
            content = pickle.dumps(value)
            hashes[name] = md5(content)
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    mirror.files["cifar.tar.gz"] = packed.getvalue()
    patched = {
        "url": f"{mirror.url}cifar.tar.gz",
        "filename": "cifar.tar.gz",
        "tgz_md5": md5(packed.getvalue()),
        "train_list": [["data_batch_1", hashes["data_batch_1"]]],
        "test_list": [["test_batch", hashes["test_batch"]]],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": hashes["batches.meta"]},
    }
    for name, value in patched.items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, name, value)
    loaded = load(Data(name="CIFAR10"), "classification")
    train, test = loaded.parts["train"], loaded.parts["test"]
    assert isinstance(train, Samples)
    assert isinstance(test, Samples)
    assert torch.equal(train.inputs, torch.from_numpy(pictures[:4]))
    assert test.targets.tolist() == [5, 6]
    assert loaded.source.classes[2] == "thing 2"
