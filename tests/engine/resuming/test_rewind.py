"""A run rewound: a branch that begins at another run's checkpoint, with changed settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import digits, finish, line, rows, same, stop_at, train, weights

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.errors import RunError
from engine.job import Job
from engine.runs.directory import RunDirectory

EXACT = ("train/", "val/", "epoch/", "test/")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that nothing disturbed."""
    job: Job = train(digits(), tmp_path_factory.mktemp("whole"))
    return job.directory


class TestRewind:
    """A branch from the sixteenth step, at the end of the second epoch."""

    @pytest.fixture(scope="class")
    def origin(self, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
        """A run that was stopped there: then the checkpoint has been waited for."""
        job: Job = train(digits(), tmp_path_factory.mktemp("origin"), stop_at(24))
        return job.directory

    def branch(self, origin: RunDirectory, root: Path, changes: dict[str, Any]) -> Job:
        job = Job.branched(origin, "last", origin.recipe().override(changes), root, "branch")
        job.start()
        return finish(job)

    def test_with_nothing_changed_it_ends_with_the_same_bits(
        self, whole: RunDirectory, origin: RunDirectory, root: Path
    ) -> None:
        job = self.branch(origin, root, {})

        assert job.history.error is None
        assert same(weights(job.directory), weights(whole))
        assert rows(job.directory, *EXACT) == rows(whole, *EXACT)

    def test_its_origin_is_a_fact_and_the_origin_is_left_as_it_was(self, origin: RunDirectory, root: Path) -> None:
        before = rows(origin)

        job = self.branch(origin, root, {"optimizer.momentum": 0.5})

        assert job.directory.status().facts["origin"] == {
            "run": origin.name,
            "path": str(origin.path.resolve()),
            "checkpoint": "epoch-00002-step-000000016",
            "step": 16,        }  # fmt: skip
        assert rows(origin) == before
        assert "settings changed since the checkpoint: optimizer.momentum was 0.9" in "".join(job.history.log)

    def test_another_learning_rate_scales_the_schedule(
        self, whole: RunDirectory, origin: RunDirectory, root: Path
    ) -> None:
        job = self.branch(origin, root, {"optimizer.lr": 0.025})

        ours, theirs = rows(job.directory, "lr")["lr"], rows(whole, "lr")["lr"]
        common = [step for step in ours if step > 16 and step in theirs]
        assert common
        assert [ours[step] for step in common] == pytest.approx([theirs[step] / 2 for step in common], rel=1e-6)
        assert not same(weights(job.directory), weights(whole))

    def test_another_learning_rate_in_a_longer_run_is_that_rate(self, root: Path) -> None:
        recipe = line({"scheduler": {"name": "CosineAnnealingLR"}, "training.epochs": 4})
        cut = train(recipe, root, stop_at(13)).directory  # in the second epoch
        longer = {"training.epochs": 8}

        rates = [
            rows(self.branch(cut, root, {"optimizer.lr": lr, **longer}).directory, "lr")["lr"] for lr in (0.05, 0.005)
        ]

        assert rates[0][40] > 0
        assert all(rates[1][step] == pytest.approx(rates[0][step] / 10) for step in range(15, 41, 5))

    @pytest.mark.parametrize("epochs", [3, 4])
    def test_another_share_of_the_backbone_holds_from_there(self, epochs: int, root: Path) -> None:
        scheduler = {"name": "CosineAnnealingLR", "eta_min": 0.0}
        shared = {"optimizer.backbone_lr_factor": 0.1, "scheduler": scheduler, "training.epochs": 3}
        cut = train(line(shared), root, stop_at(10)).directory  # in the second epoch
        changes = {"optimizer.backbone_lr_factor": 0.4, "optimizer.lr": 0.01, "training.epochs": epochs}

        job = self.branch(cut, root, changes)

        groups = load(Checkpoints(job.directory.checkpoints).all()[0]).state["optim"]["optimizer"]["param_groups"]
        assert groups[1]["lr"] == pytest.approx(0.4 * groups[0]["lr"])
        assert [group["initial_lr"] for group in groups] == pytest.approx([0.01, 0.004])

    @pytest.mark.parametrize(
        ("name", "more", "afresh"),
        [
            ("AdamW", {"amsgrad": True}, True),
            ("RMSprop", {"centered": True}, True),
            ("SGD", {"momentum": 0.9}, True),
            ("AdamW", {"weight_decay": 0.3}, False),
        ],
    )
    def test_what_the_optimizer_never_kept_begins_afresh_and_is_said_to(
        self, name: str, more: dict[str, Any], afresh: bool, root: Path
    ) -> None:
        scheduler = {"name": "CosineAnnealingLR"}
        cut = train(
            line({"optimizer": {"name": name, "lr": 0.01}, "scheduler": scheduler}), root, stop_at(10)
        ).directory

        job = self.branch(cut, root, {f"optimizer.{key}": value for key, value in more.items()})

        assert job.history.error is None
        assert any("the optimizer's moments begin afresh" in text for text in job.history.log) == afresh
        assert rows(job.directory, "lr")["lr"][10] == pytest.approx(0.005)  # the schedule goes on

    def test_more_epochs_for_a_run_that_early_stopping_ended_are_trained(self, root: Path) -> None:
        rule = {"patience": 1, "min_delta": 10.0}
        ended = train(line({"training.early_stopping": rule, "training.epochs": 9}), root).directory
        assert rows(ended)["train/loss"].keys() == set(range(1, 11))

        job = self.branch(ended, root, {"training.epochs": 8})

        assert rows(job.directory)["train/loss"].keys() == set(range(1, 16))
        assert any("early stopping, which had ended the run, counts from 0 again" in text for text in job.history.log)

    def test_another_weight_decay_holds_from_there(self, whole: RunDirectory, origin: RunDirectory, root: Path) -> None:
        job = self.branch(origin, root, {"optimizer.weight_decay": 0.1})

        state = load(Checkpoints(job.directory.checkpoints).all()[-1]).state
        decays = {group["weight_decay"] for group in state["optim"]["optimizer"]["param_groups"]}
        assert 0.1 in decays
        assert not same(weights(job.directory), weights(whole))

    def test_more_epochs_go_on_from_there(self, whole: RunDirectory, origin: RunDirectory, root: Path) -> None:
        job = self.branch(origin, root, {"training.epochs": 5, "scheduler": None})

        losses, before = rows(job.directory)["train/loss"], rows(whole)["train/loss"]
        assert losses.keys() == set(range(1, 41))
        assert all(losses[step] == before[step] for step in range(1, 17))

    def test_another_schedule_begins_afresh_and_is_said_to(self, origin: RunDirectory, root: Path) -> None:
        job = self.branch(origin, root, {"scheduler": {"name": "StepLR", "step_size": 1, "gamma": 0.1}})

        assert job.history.error is None
        assert any("the learning rate schedule begins afresh" in text for text in job.history.log)

    def test_another_optimizer_begins_the_schedule_afresh_too_and_says_both(
        self, origin: RunDirectory, root: Path
    ) -> None:
        for changes in ({"optimizer.name": "RMSprop"}, {"optimizer.name": "RMSprop", "scheduler": None}):
            job = self.branch(origin, root, changes)

            assert job.history.error is None
            text = "\n".join(job.history.log)
            assert "the optimizer begins afresh" in text
            assert ("the learning rate schedule begins afresh" in text) == ("scheduler" not in changes)

    def test_another_batch_size_takes_the_next_epoch_in_other_steps(self, origin: RunDirectory, root: Path) -> None:
        job = self.branch(origin, root, {"data.batch_size": 128, "scheduler": None})

        assert job.history.error is None
        assert rows(job.directory)["train/loss"].keys() == set(range(1, 21))  # 8 + 8, then 4

    def test_within_an_epoch_another_batch_size_begins_it_anew_and_is_said_to(self, root: Path) -> None:
        cut = train(digits(), root, stop_at(12 + 5)).directory
        recipe = cut.recipe().override({"data.batch_size": 128, "scheduler": None})

        job = Job.branched(cut, "last", recipe, root, "branch")
        job.start()

        assert finish(job).history.error is None
        assert any("epoch begins anew, as the batches" in text for text in job.history.log)

    def test_another_model_is_one_clear_message(self, origin: RunDirectory, root: Path) -> None:
        job = self.branch(origin, root, {"model.layers.1.out_features": 33})

        assert isinstance(job.history.error, RunError)
        assert "does not fit the recipe: size mismatch for 1.weight" in str(job.history.error)
        assert "Keep the model" in str(job.history.error)
        assert job.directory.status().state == "failed"

    def test_a_damaged_checkpoint_is_refused_before_there_is_a_branch(self, root: Path) -> None:
        cut = train(line(), root, stop_at(3)).directory
        newest = Checkpoints(cut.checkpoints).all()[-1]
        (newest.path / "state.pt").write_bytes(b"")

        with pytest.raises(RunError, match=r"state\.pt does not match its hash"):
            Job.branched(cut, newest.name, line(), root / "branches", "branch")

        assert not (root / "branches").exists()
