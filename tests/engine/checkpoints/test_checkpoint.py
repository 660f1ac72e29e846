from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kept import damage, equal, names, same, weights, write
from nursery import Nursery
from torch import nn

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.checkpoints.keepable import Unkeepable
from engine.checkpoints.snapshot import Snapshots
from engine.errors import DiskFull, RunError, TrainingError


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestWrite:
    def test_weights_average_and_state_come_back(self, checkpoints: Checkpoints) -> None:
        state = {"position": {"step": 30}, "random": torch.arange(3)}

        saved = write(checkpoints, 2, 30, state, 0.5, average=weights(4.0))

        loaded = load(saved)
        assert same(loaded.weights, weights())
        assert loaded.average is not None
        assert loaded.average["weight"].unique().tolist() == [4.0]
        assert equal(loaded.state, state)
        assert checkpoints.all() == [saved]
        assert equal(checkpoints.load(saved).state, state)

    def test_without_an_average_there_is_none(self, checkpoints: Checkpoints) -> None:
        saved = write(checkpoints, 1, 1)

        assert load(saved).average is None
        assert names(saved.path) == {"manifest.json", "model.safetensors", "state.pt"}

    def test_the_last_ones_and_the_best_are_kept(self, checkpoints: Checkpoints) -> None:
        for epoch, score in enumerate([0.1, 0.9, 0.3, 0.2, 0.4], start=1):
            write(checkpoints, epoch, epoch * 10, score=score)

        assert [checkpoint.epoch for checkpoint in checkpoints.all()] == [2, 4, 5]
        best = checkpoints.best()
        assert best is not None
        assert best.epoch == 2

    @pytest.mark.parametrize("keep_last", [1, 3])
    def test_as_many_are_kept_as_are_asked_for(self, keep_last: int, tmp_path: Path) -> None:
        checkpoints = Checkpoints(tmp_path / "checkpoints", keep_last=keep_last)
        for step in range(1, 6):
            write(checkpoints, 0, step)

        assert [checkpoint.step for checkpoint in checkpoints.all()] == list(range(6 - keep_last, 6))

    def test_of_equal_scores_the_lower_loss_is_best_and_then_the_earlier(self, checkpoints: Checkpoints) -> None:
        for epoch, score, loss in ((1, 0.5, 0.7), (2, 0.5, 0.3), (3, 0.5, 0.3), (4, 0.5, math.nan), (5, 0.4, 0.1)):
            write(checkpoints, epoch, epoch, score=score, loss=loss)
        best = checkpoints.best()
        assert best is not None
        assert (best.epoch, best.loss) == (2, 0.3)

    def test_without_a_score_there_is_no_best(self, checkpoints: Checkpoints) -> None:
        for step in (1, 2, 3):
            write(checkpoints, 0, step)

        assert checkpoints.best() is None
        assert [checkpoint.step for checkpoint in checkpoints.all()] == [2, 3]

    @pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
    def test_a_score_that_is_no_number_ranks_nothing(self, score: float, checkpoints: Checkpoints) -> None:
        write(checkpoints, 1, 1, score=0.5)
        write(checkpoints, 2, 2, score=score)

        best = checkpoints.best()
        assert best is not None
        assert best.epoch == 1
        assert checkpoints.all()[1].score is None

    def test_a_whole_one_of_the_same_position_stays_and_a_damaged_one_is_written_anew(
        self, checkpoints: Checkpoints
    ) -> None:
        saved = write(checkpoints, 1, 10, {"first": True})
        write(checkpoints, 1, 10, {"first": False})
        assert load(saved).state == {"first": True}

        damage(saved)
        write(checkpoints, 1, 10, {"first": False})

        assert load(saved).state == {"first": False}

    def test_one_that_is_to_be_replaced_leaves_its_score(self, checkpoints: Checkpoints) -> None:
        write(checkpoints, 1, 10, {"rate": 1}, 0.5)

        saved = write(checkpoints, 1, 10, {"rate": 2}, replace=True)

        assert load(saved).state == {"rate": 2}
        assert checkpoints.all() == [saved]
        assert saved.score == 0.5
        assert names(checkpoints.folder) == {saved.name}

    def test_one_without_a_score_gets_one(self, checkpoints: Checkpoints) -> None:
        write(checkpoints, 1, 10)

        saved = write(checkpoints, 1, 10, score=0.5)

        assert checkpoints.best() == saved
        assert write(checkpoints, 1, 10) == saved

    def test_tied_and_transposed_weights_survive(self, checkpoints: Checkpoints) -> None:
        def tied(turned: torch.Tensor) -> nn.Sequential:
            model = nn.Sequential(OrderedDict(one=nn.Linear(3, 3), two=nn.Linear(3, 3)))
            model.two.weight = model.one.weight
            model.register_buffer("turned", turned)
            return model

        model, fresh = tied(torch.arange(6.0).view(2, 3).T), tied(torch.zeros(3, 2))

        fresh.load_state_dict(load(write(checkpoints, 1, 1, model=model.state_dict())).weights)

        assert fresh.two.weight is fresh.one.weight
        assert torch.equal(fresh.one.weight, model.one.weight)
        assert torch.equal(fresh.turned, model.turned)

    def test_a_compiled_model_and_a_compiled_part_are_kept_under_plain_names(self, checkpoints: Checkpoints) -> None:
        model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        plain = set(model.state_dict())
        model[1] = torch.compile(model[1])  # type: ignore[assignment]
        compiled = torch.compile(model)
        assert any("1._orig_mod." in name for name in compiled.state_dict())

        assert set(load(write(checkpoints, 1, 1, model=compiled.state_dict())).weights) == plain

    def test_ready_is_called_before_the_checkpoint_has_its_name(self, checkpoints: Checkpoints) -> None:
        seen: list[int] = []

        write(checkpoints, 1, 1, ready=lambda: seen.append(len(checkpoints.all())))

        assert seen == [0]
        assert len(checkpoints.all()) == 1


class TestFind:
    @pytest.fixture(autouse=True)
    def three(self, checkpoints: Checkpoints) -> None:
        for epoch, score in ((1, 0.9), (2, 0.1), (13, 0.2)):
            write(checkpoints, epoch, epoch, score=score)

    @pytest.mark.parametrize(
        ("name", "epoch"), [("best", 1), ("last", 13), ("epoch-00002-step-000000002", 2), ("epoch-00002", 2)]
    )
    def test_by_name_by_beginning_and_by_rank(self, name: str, epoch: int, checkpoints: Checkpoints) -> None:
        assert checkpoints.find(name).epoch == epoch

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("epoch-000", "begins the names of 3 checkpoints"),
            ("lats", "has no checkpoint 'lats'. Did you mean 'last'?"),
            ("epoch-00002-step-000000003", "Did you mean 'epoch-00002-step-000000002'?"),
            ("", "has no checkpoint ''. There are: epoch-00001"),
            ("../checkpoints/epoch-00002-step-000000002", "has no checkpoint"),
        ],
    )
    def test_what_fits_none_or_several_is_said_with_what_there_is(
        self, name: str, said: str, checkpoints: Checkpoints
    ) -> None:
        with pytest.raises(RunError) as caught:
            checkpoints.find(name)
        assert said in str(caught.value)

    def test_best_without_a_score_is_not_there(self, tmp_path: Path) -> None:
        checkpoints = Checkpoints(tmp_path / "unranked")
        with pytest.raises(RunError, match="has no checkpoint that can be read"):
            checkpoints.find("best")
        write(checkpoints, 1, 1)

        with pytest.raises(RunError, match="has no checkpoint 'best'"):
            checkpoints.find("best")


def write_on_and_on(folder: str, moment: str) -> None:
    checkpoints = Checkpoints(Path(folder))
    for step in range(1, 10_000):
        hang = None
        if step == 4 and moment == "while it writes":
            print(3, flush=True)
            hang = lambda: time.sleep(60)  # noqa: E731
        write(checkpoints, 0, step, {"step": step, "bulk": torch.full((300_000,), float(step))}, ready=hang)
        print(step, flush=True)


class TestInterruptedWrite:
    @pytest.mark.parametrize("moment", ["while it writes", "at any time", "at any other time"])
    def test_a_process_that_is_killed_leaves_the_last_whole_one_readable(
        self, moment: str, nursery: Nursery, tmp_path: Path
    ) -> None:
        folder = tmp_path / "checkpoints"
        process = nursery.start("test_checkpoint", "write_on_and_on", folder, moment)
        wait_until(lambda: process.output.read_text().count("\n") >= 4)
        if moment == "while it writes":
            wait_until(lambda: list(folder.glob(".writing-*/manifest.json")))
        process.kill()
        written = max(map(int, process.output.read_text().split()))

        checkpoint, loaded = Checkpoints(folder).load_newest(pytest.fail)

        assert checkpoint.step in (written, written + 1)
        assert loaded.state["bulk"].unique().tolist() == [loaded.state["step"]] == [checkpoint.step]

    def test_what_a_killed_process_left_is_gone_after_the_next_write(self, checkpoints: Checkpoints) -> None:
        write(checkpoints, 2, 2)
        left = checkpoints.folder / ".writing-1"
        left.mkdir()
        (left / "model.safetensors").write_bytes(b"half")
        (checkpoints.folder / ".writing-old-epoch-00001-step-000000001").symlink_to(left)

        write(checkpoints, 3, 3)

        assert names(checkpoints.folder) == {"epoch-00002-step-000000002", "epoch-00003-step-000000003"}

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(5, "Input/output error"), ValueError("odd")])
    def test_an_error_before_the_end_leaves_nothing_half(self, error: Any, checkpoints: Checkpoints) -> None:
        before = write(checkpoints, 1, 1, {"rate": 1})

        def fail() -> None:
            raise error

        with pytest.raises((KeyboardInterrupt, TrainingError, ValueError)):
            write(checkpoints, 1, 1, {"rate": 2}, replace=True, ready=fail)

        assert names(checkpoints.folder) == {before.name}
        assert load(before).state == {"rate": 1}

    def test_state_that_says_the_disk_is_full_leaves_the_previous_one(self, checkpoints: Checkpoints) -> None:
        class Full:
            def __reduce__(self) -> Any:
                raise OSError(28, "No space left on device")

        write(checkpoints, 1, 1)

        with pytest.raises(DiskFull, match=r"the disk is full: no checkpoint was written\. Free some space"):
            write(checkpoints, 2, 2, {"full": Full()})

        assert names(checkpoints.folder) == {"epoch-00001-step-000000001"}
        assert checkpoints.load_newest(pytest.fail)[0].epoch == 1

    def test_a_run_directory_that_is_gone_is_not_made_again(self, tmp_path: Path) -> None:
        checkpoints = Checkpoints(tmp_path / "gone" / "checkpoints")

        with pytest.raises(TrainingError, match="a checkpoint can't be written") as caught:
            write(checkpoints, 1, 1)

        assert not isinstance(caught.value, DiskFull)
        assert not (tmp_path / "gone").exists()


class Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class TestUnkeepable:
    @pytest.mark.parametrize(
        ("state", "path"),
        [
            (
                {"extra": {"0._extra_state": print}},
                "state['extra']['0._extra_state'] can't be kept: it holds a builtin",
            ),
            ({"fine": 1, "list": [1, (2, lambda: 3)]}, "state['list'][1][1] can't be kept: it holds a function"),
            ({"model": nn.Linear(1, 1)}, "state['model'] can't be kept: it holds a Linear"),
            ({"code": Code(Path("/nonexistent"))}, "state['code'] can't be kept: it holds a Code"),
        ],
    )
    def test_state_that_would_not_come_back_is_named(self, state: Any, path: str, checkpoints: Checkpoints) -> None:
        with pytest.raises(Unkeepable) as caught:
            write(checkpoints, 1, 1, state, prove=True)

        assert path in str(caught.value)
        assert names(checkpoints.folder) == set()

    @pytest.mark.parametrize("tensor", [torch.zeros(2, dtype=torch.complex128), torch.eye(2).to_sparse()])
    def test_a_weight_that_safetensors_does_not_know_is_named(
        self, tensor: torch.Tensor, checkpoints: Checkpoints
    ) -> None:
        with pytest.raises(Unkeepable, match=r"weight 'odd' of model\.safetensors can't be kept"):
            write(checkpoints, 1, 1, model={"fine": torch.ones(1), "odd": tensor})

        assert names(checkpoints.folder) == set()

    def test_code_in_a_checkpoint_is_refused_and_not_run(self, checkpoints: Checkpoints, tmp_path: Path) -> None:
        saved = write(checkpoints, 1, 1, {"state": Code(tmp_path / "ran")})
        (tmp_path / "ran").unlink()  # copying an object runs its code, too

        with pytest.raises(RunError, match="holds something else than weights and plain state, and is not loaded"):
            load(saved)
        assert not (tmp_path / "ran").exists()

        torch.load(saved.path / "state.pt", weights_only=False)
        assert (tmp_path / "ran").exists()  # so it would have run


def test_the_manifest_is_readable_by_people_and_names_every_file(checkpoints: Checkpoints) -> None:
    snapshot = Snapshots().take({"model": weights(), "average": weights()}, {})
    saved = checkpoints.write(snapshot, 3, 70, 0.25)

    values = json.loads((saved.path / "manifest.json").read_text())

    assert {key: values[key] for key in ("format", "epoch", "step", "score")} == {
        "format": 2, "epoch": 3, "step": 70, "score": 0.25
    }  # fmt: skip
    assert names(saved.path) == {*values["files"], "manifest.json"}
