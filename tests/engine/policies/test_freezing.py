"""Parts of a model that are held: for good, for some epochs, resumed to the bit, with their running statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import AtLook, digits, finish, resume, rows, same, start, stop_at, train, weights, written
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.errors import RecipeError
from engine.job import Job
from engine.optim.optimizers import make_optimizer
from engine.policies.freezing import Freezing
from engine.recipe import Recipe

# Flatten, Linear, BatchNorm, ReLU, Dropout, Linear: one block and a head.
BODY = ("1.weight", "1.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var")


def recipe(changes: dict[str, Any] | None = None) -> Recipe:
    """Three epochs of digits; what is held must move neither by momentum nor by decay."""
    optimizer = {"optimizer.weight_decay": 0.1, "optimizer.weight_decay_on_norms": True}
    return digits({"training.keep_checkpoints": 20, **optimizer, **(changes or {})})


def by_epoch(job: Job) -> list[dict[str, Tensor]]:
    """The weights at the beginning and at the end of each epoch."""
    assert job.history.error is None
    return [load(each).weights for each in Checkpoints(job.directory.checkpoints).all()]


def unhurried(root: Path, changes: dict[str, Any] | None = None) -> AtLook:
    """Waits at each epoch's beginning for the checkpoint before it: a busy disk might leave one out for the next."""
    # Eight steps, three validation batches (twice where there are averaged weights) and the end of each epoch.
    looks = 15 if "training.average.kind" in (changes or {}) else 12
    return AtLook({1 + looks * epoch: written(root, epoch + 1) for epoch in range(3)})


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def body(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(("1.", "2."))}


@pytest.mark.parametrize("freeze", ["backbone", 1])
def test_what_is_frozen_does_not_move_and_the_head_does(root: Path, freeze: str | int) -> None:
    first, *_, last = by_epoch(train(recipe({"model.freeze": freeze}), root, unhurried(root)))
    assert body(moved(first, last)) == set()
    assert {"5.weight", "5.bias"} <= moved(first, last)


def test_without_freezing_all_of_it_moves(root: Path) -> None:
    first, *_, last = by_epoch(train(recipe(), root, unhurried(root)))
    assert set(BODY) <= moved(first, last)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"optimizer.name": "AdamW"},
        {"optimizer.backbone_lr_factor": 0.1},
        {"training.average.kind": "ema"},
        {"training.clip_grad_norm": 0.1},
    ],
    ids=str,
)
def test_it_learns_from_the_epoch_on_that_the_recipe_says(root: Path, optimizer: dict[str, Any]) -> None:
    changes = {"model.freeze": "backbone", "model.unfreeze_at": 2, **optimizer}
    if "optimizer.name" in optimizer:
        changes["optimizer.momentum"] = None
    begin, one, two, three = by_epoch(train(recipe(changes), root, unhurried(root, changes)))
    assert body(moved(begin, one)) == body(moved(one, two)) == set()
    assert set(BODY) <= moved(two, three)


def test_the_log_says_how_much_and_how_long(root: Path) -> None:
    job = train(recipe({"model.freeze": "backbone", "model.unfreeze_at": 2}), root)
    log = (job.directory.path / "log.txt").read_text(encoding="utf-8")
    assert "frozen: 25,184 of 25,514 parameters in the first 2 epochs" in log
    assert "epoch 3: all parameters learn from here on" in log


class TestResumed:
    CHANGES = {"model.freeze": "backbone", "model.unfreeze_at": 2, "training.keep_checkpoints": 2}

    # In the first epoch (held), in the second, at the moment of letting go, and after it.
    @pytest.mark.parametrize("look", [4, 16, 25, 30])
    def test_a_run_cut_anywhere_ends_with_the_same_bits_and_rows(self, root: Path, look: int) -> None:
        whole = train(recipe(self.CHANGES), root / "whole")
        cut = finish(start(recipe(self.CHANGES), root / "cut", stop_at(look)))
        again = resume(cut.directory)
        assert same(weights(again.directory), weights(whole.directory))
        kinds = ("train/", "val/", "epoch/", "test/")
        assert rows(again.directory, *kinds) == rows(whole.directory, *kinds)

    def test_one_that_lets_go_at_another_epoch_does_not(self, root: Path) -> None:
        whole = train(recipe(self.CHANGES), root / "whole")
        other = train(recipe({**self.CHANGES, "model.unfreeze_at": 1}), root / "other")
        assert not same(weights(other.directory), weights(whole.directory))


def test_swa_keeps_the_statistics_of_held_norms(root: Path) -> None:
    changes = {"training.average.kind": "swa", "training.average.start": 0}
    held = train(recipe({**changes, "model.freeze": "backbone"}), root / "held")
    free = train(recipe(changes), root / "free")
    for job, kept in ((held, True), (free, False)):
        last = load(Checkpoints(job.directory.checkpoints).all()[-1])
        assert last.average is not None
        assert torch.equal(last.average["2.running_var"], last.weights["2.running_var"]) is kept


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 2))


def freezing(model: nn.Module, **changes: Any) -> Freezing:
    return Freezing(recipe({key.replace("__", "."): value for key, value in changes.items()}), model)


def test_held_norms_evaluate_while_the_rest_trains_until_they_are_let_go() -> None:
    model = net()
    held = freezing(model, model__freeze=1, model__unfreeze_at=1)
    assert held.begin_epoch(0) is False
    assert (model.training, model[1].training) == (True, False)
    model.eval()
    held.train()
    assert (model[0].training, model[1].training, model[3].training) == (True, False, True)
    assert held.begin_epoch(1) is True
    assert model[1].training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert held.begin_epoch(0) is False  # a rollback
    assert not model[1].training
    assert [parameter.requires_grad for parameter in model.parameters()] == [False] * 4 + [True] * 4


def test_the_optimizer_takes_what_learns_later_and_leaves_out_what_never_does() -> None:
    counts = []
    for until in (0, 3):
        model = net()
        wanted = recipe({"model.freeze": 2, "model.unfreeze_at": until})
        Freezing(wanted, model)
        counts.append(sum(len(group["params"]) for group in make_optimizer(wanted, model).param_groups))
    assert counts == [2, 8]


def test_what_a_model_has_frozen_itself_stays_so() -> None:
    model = net()
    model[0].weight.requires_grad_(False)
    held = freezing(model, model__freeze="backbone", model__unfreeze_at=1)
    held.begin_epoch(0)
    held.begin_epoch(1)
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.freeze": 3}, "model.freeze: the model has 2 blocks before its head: 0, 2. Give fewer"),
        (
            {"model.freeze": "backbone", "optimizer.backbone_lr_factor": 0.1},
            "optimizer.backbone_lr_factor: has no effect, as all but the head is frozen for good.",
        ),
        ({"model.unfreeze_at": 2}, "model: has unfreeze_at, and nothing is frozen."),
        (
            {"model.freeze": "all"},
            "model.freeze: 'all' is no part of a model. Try 'none', 'backbone', or the number of its first blocks.",
        ),
        ({"model.freeze": 0}, "model.freeze: 0 is no part of a model."),
        ({"model.freeze": True}, "model.freeze: True is no part of a model."),
    ],
)
def test_what_does_not_fit_or_has_no_effect_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Freezing(recipe(changes), net())
    assert said in str(caught.value)


def test_a_slower_backbone_beside_frozen_blocks_is_fine() -> None:
    assert freezing(net(), model__freeze=1, optimizer__backbone_lr_factor=0.1).about == "frozen: 28 of 58 parameters"
