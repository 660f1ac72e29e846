from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kept import damage, equal, forge, forge_file, same, weights, write

from engine.checkpoints.checkpoint import Checkpoint, Checkpoints, Loaded, load
from engine.errors import RunError

ORDINARY = ("model.safetensors", "average.safetensors", "state.pt", "manifest.json")


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


@pytest.fixture
def two(checkpoints: Checkpoints) -> tuple[Checkpoint, Checkpoint]:
    """Two whole checkpoints, the second with an average and the better score."""
    first = write(checkpoints, 1, 10, {"step": 10, "rate": 0.5}, 0.25, model=weights(1.0), average=weights(2.0))
    second = write(checkpoints, 2, 20, {"step": 20, "rate": 0.5}, 0.75, model=weights(3.0), average=weights(4.0))
    return first, second


class TestFiles:
    @pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "average.safetensors"])
    def test_one_flipped_bit_is_refused(self, name: str, two: tuple[Checkpoint, Checkpoint]) -> None:
        damage(two[1], name)

        with pytest.raises(RunError, match=rf"{name} does not match its hash"):
            load(two[1])

    @pytest.mark.parametrize("name", ORDINARY)
    def test_a_missing_file_is_refused(self, name: str, two: tuple[Checkpoint, Checkpoint]) -> None:
        (two[1].path / name).unlink()

        with pytest.raises(RunError, match="can't be read"):
            load(two[1])

    @pytest.mark.parametrize("name", ORDINARY)
    def test_a_link_a_pipe_or_a_directory_in_place_of_a_file_is_refused(
        self, name: str, two: tuple[Checkpoint, Checkpoint], tmp_path: Path
    ) -> None:
        path = two[1].path / name
        elsewhere = tmp_path / "elsewhere"
        path.rename(elsewhere)
        for put in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(elsewhere)):
            put()
            with pytest.raises(RunError, match="can't be read"):
                load(two[1])
            path.rmdir() if path.is_dir() else path.unlink()
        elsewhere.rename(path)
        load(two[1])  # nothing else was wrong with it

    def test_a_link_in_place_of_the_directory_is_refused(
        self, two: tuple[Checkpoint, Checkpoint], checkpoints: Checkpoints, tmp_path: Path
    ) -> None:
        two[1].path.rename(tmp_path / "elsewhere")
        two[1].path.symlink_to(tmp_path / "elsewhere")
        said: list[str] = []

        assert checkpoints.all() == [two[0]]
        assert checkpoints.load_newest(said.append)[0] == two[0]
        assert len(said) == 1

    @pytest.mark.parametrize("content", [pickle.dumps(print, protocol=2), b"", b"PK\x03\x04", b"\x80\x02."])
    def test_a_forged_state_with_a_fitting_hash_is_refused(
        self, content: bytes, two: tuple[Checkpoint, Checkpoint]
    ) -> None:
        forge_file(two[1], "state.pt", content)

        with pytest.raises(RunError):
            load(two[1])

    @pytest.mark.parametrize(
        "content", [b"", b"\xff" * 8, (10**6).to_bytes(8, "little") + b"{}", b"\2" + b"\0" * 7 + b"[]"]
    )
    def test_forged_weights_with_a_fitting_hash_are_refused(
        self, content: bytes, two: tuple[Checkpoint, Checkpoint]
    ) -> None:
        forge_file(two[1], "model.safetensors", content)

        with pytest.raises(RunError):
            load(two[1])

    @pytest.mark.parametrize("state", [[1, 2], None, 5, torch.ones(2)])
    def test_a_state_that_is_no_table_is_refused(
        self, state: Any, two: tuple[Checkpoint, Checkpoint], tmp_path: Path
    ) -> None:
        torch.save(state, tmp_path / "state.pt")
        forge_file(two[1], "state.pt", (tmp_path / "state.pt").read_bytes())

        with pytest.raises(RunError, match="in place of a training's state"):
            load(two[1])

    def test_a_forged_state_that_is_right_is_taken(self, two: tuple[Checkpoint, Checkpoint], tmp_path: Path) -> None:
        torch.save({"right": 1}, tmp_path / "state.pt")
        forge_file(two[1], "state.pt", (tmp_path / "state.pt").read_bytes())

        assert load(two[1]).state == {"right": 1}


HASH = {"sha256": "0" * 64}
NONSENSE: list[dict[str, Any]] = [
    {"format": 9}, {"format": True}, {"format": "1"}, {"format": None},
    {"epoch": "2"}, {"epoch": -1}, {"epoch": True}, {"epoch": 2.0}, {"epoch": None}, {"epoch": 10**400}, {"epoch": 3},
    {"step": [20]}, {"step": 10**300}, {"step": {}}, {"step": 21},
    {"score": "best"}, {"score": True}, {"score": float("nan")}, {"score": float("inf")}, {"score": 10**400},
    {"files": None}, {"files": []}, {"files": {}}, {"files": "state.pt"},
    {"files": {"model.safetensors": HASH}}, {"files": {"state.pt": HASH}},
    {"files": {"model.safetensors": {}, "state.pt": {}}}, {"files": {"model.safetensors": None, "state.pt": 5}},
    {"files": {"model.safetensors": {"sha256": 5}, "state.pt": {"sha256": None}}},
    {"files": {"model.safetensors": {"sha256": ""}, "state.pt": {"sha256": ""}}},
    {"files": {"model.safetensors": HASH, "state.pt": HASH, "../state.pt": HASH}},
    {"files": {"model.safetensors": HASH, "state.pt": HASH, "/etc/passwd": HASH}},
]  # fmt: skip


class TestManifest:
    @pytest.mark.parametrize("changes", NONSENSE, ids=lambda changes: f"{changes!s:.50}")
    def test_nonsense_is_refused_though_its_hash_fits(
        self, changes: dict[str, Any], two: tuple[Checkpoint, Checkpoint], checkpoints: Checkpoints
    ) -> None:
        forge(two[1], changes)

        with pytest.raises(RunError):
            load(two[1])
        assert checkpoints.all() == [two[0]]
        assert checkpoints.best() == two[0]

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000, b" " * 2_000_000 + b"{}", b"{1}"],
        ids=lambda content: f"{content[:12]!r}",
    )  # fmt: skip
    def test_what_is_no_manifest_is_refused(
        self, content: bytes, two: tuple[Checkpoint, Checkpoint], checkpoints: Checkpoints
    ) -> None:
        (two[1].path / "manifest.json").write_bytes(content)
        said: list[str] = []

        with pytest.raises(RunError):
            load(two[1])
        assert checkpoints.all() == [two[0]]
        assert checkpoints.load_newest(said.append)[0] == two[0]
        assert len(said) == 1
        assert said[0].endswith("The one before is used.")

    def test_a_changed_score_is_noticed(self, two: tuple[Checkpoint, Checkpoint], checkpoints: Checkpoints) -> None:
        path = two[0].path / "manifest.json"
        path.write_text(path.read_text().replace("0.25", "0.95"))

        assert checkpoints.best() == two[1]
        with pytest.raises(RunError, match="does not match its own hash"):
            load(two[0])

    def test_one_without_a_hash_of_its_own_is_refused(self, two: tuple[Checkpoint, Checkpoint]) -> None:
        path = two[1].path / "manifest.json"
        values = json.loads(path.read_text())
        del values["sha256"]
        path.write_text(json.dumps(values))

        with pytest.raises(RunError, match="does not match its own hash"):
            load(two[1])

    def test_without_a_whole_one_it_says_so(
        self, two: tuple[Checkpoint, Checkpoint], checkpoints: Checkpoints, tmp_path: Path
    ) -> None:
        for checkpoint in two:
            damage(checkpoint)
        said: list[str] = []

        with pytest.raises(RunError, match="has no checkpoint that can be read"):
            checkpoints.load_newest(said.append)
        assert len(said) == 2
        with pytest.raises(RunError, match="has no checkpoint that can be read"):
            Checkpoints(tmp_path / "nowhere").load_newest(pytest.fail)


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 3])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(content))


def truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def extend(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.choice([b"\0", b" ", b"\n", chance.randbytes(20)]))


def remove(path: Path, chance: random.Random) -> None:
    path.unlink()


def swap(path: Path, chance: random.Random) -> None:
    """With another file of this checkpoint, or with the same of the one before."""
    (before,) = (folder for folder in path.parent.parent.iterdir() if folder != path.parent)
    other = chance.choice([path.parent / chance.choice(ORDINARY), before / path.name])
    content, others = path.read_bytes(), other.read_bytes()
    path.write_bytes(others)
    if other.parent == path.parent:
        other.write_bytes(content)


def edit(path: Path, chance: random.Random) -> None:
    """A value of the manifest becomes another, or goes, or the text is laid out anew."""
    path = path.parent / "manifest.json"
    values = json.loads(path.read_text())
    place: Any = values
    while True:
        key = chance.choice(list(place))
        if not isinstance(place[key], dict) or chance.random() < 0.3:
            break
        place = place[key]
    what = chance.randrange(3)
    if what == 0:
        del place[key]
    elif what == 1:
        place[key] = chance.choice([None, True, -1, 0.5, 1e308, "x", [], {}, 10**50, "../state.pt", "0" * 64])
    path.write_text(json.dumps(values, indent=chance.choice([None, 1, 4])))


MUTATIONS: list[Callable[[Path, random.Random], None]] = [flip, flip, truncate, extend, remove, swap, edit, edit]


def test_of_200_random_damages_each_is_refused_or_harmless(
    two: tuple[Checkpoint, Checkpoint], checkpoints: Checkpoints, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(checkpoints.folder, whole)
    before, original = load(two[0]), load(two[1])
    chance = random.Random(7)
    refused = harmless = 0
    for _ in range(200):
        mutate = chance.choice(MUTATIONS)
        mutate(two[1].path / chance.choice(ORDINARY), chance)
        said: list[str] = []
        newest, loaded = checkpoints.load_newest(said.append)
        try:
            found = load(two[1])
        except RunError:
            refused += 1
            assert newest == two[0], mutate
            assert unchanged(loaded, before), mutate
            assert len(said) == 1
        else:
            harmless += 1
            assert newest == two[1], mutate
            assert unchanged(found, original), mutate
            assert said == []
        shutil.rmtree(checkpoints.folder)
        shutil.copytree(whole, checkpoints.folder)
    assert refused > 150
    assert harmless > 5


def unchanged(ours: Loaded, theirs: Loaded) -> bool:
    both = ours.average is not None and theirs.average is not None and same(ours.average, theirs.average)
    return both and same(ours.weights, theirs.weights) and equal(ours.state, theirs.state)
