"""Which runs' best values can be compared, and what the folds of one recipe came to."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from small_runs import line, train

from engine.runs.directory import RunStatus
from engine.runs.history import Summary
from engine.runs.validation import NOT_HELD_OUT, Validation, Validations


def run(name: str, digest: str, best: float = 0.5, state: str = "done", fold: int = -1, **facts: object) -> RunStatus:
    folded = (fold, 5, "one recipe") if fold >= 0 else ()
    validation = Validation(1200, digest, "things", *folded)
    return RunStatus(name, state, "", 0.0, {**validation.facts(), **facts}, Summary("accuracy", best, 1))


def test_runs_measured_on_the_same_samples_carry_the_same_letter_and_others_are_named() -> None:
    seen = Validations([run("c", "2"), run("b", "1"), run("a", "1")])
    assert [seen.mark(name) for name in "abc"] == ["A", "A", "B"]
    assert seen.about("a").startswith("validated on the same 1,200 samples as b; on other samples than c:")
    assert seen.about("c") == (
        "validated on 1,200 samples; on other samples than b and 1 more: their best values can't be compared"
    )


def test_nothing_is_said_of_runs_that_do_not_tell_or_have_no_reason_to_be_compared() -> None:
    old = RunStatus("old", "done", "", 0.0, {}, Summary("accuracy", 0.5, 1))
    torn = RunStatus("torn", "done", "", 0.0, {"validation": {"samples": "3", "digest": "1", "data": "things"}}, None)
    trained = RunStatus("trained", "done", "", 0.0, dict(NOT_HELD_OUT), Summary("loss", 0.1, 1, part="train"))
    seen = Validations([run("a", "1"), old, torn, trained, run("fresh", "2", None)])  # type: ignore[arg-type]
    assert [seen.mark(name) + seen.about(name) for name in ("old", "torn")] == ["", ""]
    assert "nothing was held out" in seen.about("trained")
    assert seen.about("a") == "validated on 1,200 samples", "one without a best value is not compared"


def test_folds_that_are_done_give_a_mean_and_are_not_held_against_each_other() -> None:
    known = [run("0", "p", 0.90, fold=0), run("1", "q", 0.92, fold=1)]
    seen = Validations(
        [
            run("branch", "s", 0.1, fold=2, origin={"run": "0"}),
            run("stopped", "t", 0.2, "stopped", fold=3),
            *known,
            run("older", "p", 0.3, fold=0),
        ]
    )
    folds = seen.folds("stopped")
    assert folds is not None
    assert (folds.mean, folds.deviation) == pytest.approx((0.91, statistics.stdev([0.90, 0.92])))
    assert str(folds) == "folds 0–1 of 5: accuracy 0.91 ± 0.014"
    assert seen.mark("1").endswith(" fold 1")
    assert "can't be compared" not in seen.about("0")
    assert Validations(known[:1]).folds("0") is None


def test_a_training_notes_its_validation_samples_and_folds_of_one_recipe_belong_together(tmp_path: Path) -> None:
    short = {"training.epochs": 1, "data.split.folds": 5}
    changes = [{"data.split.fold": 0}, {"data.split.fold": 1}, {"data.split.fold": 0, "optimizer.lr": 0.02}]
    runs = [train(line({**short, **each}), tmp_path) for each in changes]
    first, second, other = (Validation.of(job.directory.status()) for job in runs)
    assert first is not None
    assert second is not None
    assert other is not None
    assert (first.samples, first.fold, second.fold, first.folds) == (36, 0, 1, 5)
    assert first.recipe == second.recipe != other.recipe
    assert first.digest == other.digest != second.digest
