from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kept import names, write
from nursery import Nursery, call

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.checkpoints.writer import CheckpointWriter
from engine.errors import DiskFull

BULK = torch.arange(100_000.0)  # 400 KB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("where", ["model", "state"])
def test_a_full_disk_is_told_leaves_nothing_half_and_is_written_when_there_is_space(
    where: str, small_disk: Path
) -> None:
    checkpoints = Checkpoints(small_disk / "checkpoints")
    before = write(checkpoints, 0, 1, {"step": 1})
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 800_000)
    writer = CheckpointWriter(checkpoints)

    files = {"model": {"w": BULK if where == "model" else BULK[:10]}}
    writer.save(0, 2, files, {"bulk": BULK if where == "state" else None})
    assert writer.wait(20)
    assert isinstance(writer.trouble, DiskFull)
    assert "the disk is full" in str(writer.trouble)
    assert names(checkpoints.folder) == {before.name}
    assert load(before).state == {"step": 1}

    ballast.unlink()
    writer.retry()
    assert writer.wait(20)

    assert writer.trouble is None
    assert writer.last is not None
    loaded = load(writer.last)
    assert torch.equal(loaded.weights["w"] if where == "model" else loaded.state["bulk"], BULK)
    assert writer.close()


def write_at_every_size(folder: str) -> None:
    checkpoints = Checkpoints(Path(folder), keep_last=1)
    write(checkpoints, 0, 0)
    full = written = 0
    for step, size in enumerate([0, 1, 100, 500, 1000, *range(4000, 60_000, 1500)], start=1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        state = {"many": [torch.ones(100) for _ in range(50)], "one": torch.ones(2000)}
        try:
            saved = write(checkpoints, 0, step, state, model={"w": torch.ones(3000)})
        except DiskFull:
            full += 1
        else:
            written += 1
            load(saved)
        assert len(names(checkpoints.folder)) == 1, names(checkpoints.folder)
        checkpoints.load_newest(pytest.fail)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps([full, written]))


def test_at_every_size_that_a_file_may_have_the_disk_is_full_or_the_checkpoint_whole(
    nursery: Nursery, tmp_path: Path
) -> None:
    # A process of its own: the limit is for all its files.
    full, written = json.loads(call(nursery, "test_full_disk", "write_at_every_size", tmp_path / "checkpoints"))
    assert full > 10
    assert written > 5
