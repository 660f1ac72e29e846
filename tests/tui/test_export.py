"""A recipe is taken away as a file: by a command, and by a key of the studio."""

from __future__ import annotations

from pathlib import Path

import pytest
from said import Run
from studio_driver import Studio, studio
from test_cli import unmade_run

from presets import load


def notices(opened: Studio) -> str:
    """The titles of what the studio has told."""
    return "\n".join(notification.title for notification in opened.app._notifications)


def test_a_preset_is_printed_or_written_to_a_file_that_nobody_has(run: Run, tmp_path: Path) -> None:
    printed = run("export", "line-fit", "--to", "python")
    assert printed.status == 0
    compile(printed.out, "line_fit.py", "exec")

    written = run("export", "line-fit", "-o", "mine.py")
    assert written.out.endswith("It trains by: python mine.py\n")
    assert (tmp_path / "mine.py").read_text() == printed.out.replace("line_fit.py ", "mine.py ")

    again = run("export", "line-fit", "-o", "mine.py", "--set", "training.seed=7")
    assert again.status == 2
    assert "mine.py: is there already" in again.err
    assert "SEED = 0" in (tmp_path / "mine.py").read_text()

    run("export", "line-fit", "-o", "mine.py", "--set", "training.seed=7", "--force")
    assert "SEED = 7" in (tmp_path / "mine.py").read_text()


def test_a_run_and_a_file_are_exported_like_a_preset(run: Run, tmp_path: Path) -> None:
    made = unmade_run(tmp_path / "runs")
    by_run = run("export", made.name)
    by_file = run("export", str(made.recipe_file))
    by_preset = run("export", "line-fit")
    assert by_run.status == by_file.status == 0
    assert by_run.out.partition("import ")[2] == by_preset.out.partition("import ")[2]
    assert by_file.out.partition("import ")[2] == by_run.out.partition("import ")[2]


async def test_a_key_writes_the_recipe_as_it_is_edited_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load("line-fit").recipe.override({"training.seed": 3})
    async with studio(tmp_path / "runs", recipe=recipe) as opened:
        await opened.press("E")
        await opened.until(lambda: list(tmp_path.glob("*.py")), "the export")
        first = next(tmp_path.glob("*.py"))
        await opened.until(lambda: f"Written to {first}" in notices(opened), "the news of it")
        assert "SEED = 3" in first.read_text()
        await opened.press("E")
        await opened.until(lambda: len(list(tmp_path.glob("*.py"))) == 2, "a second file beside the first")


async def test_what_cannot_be_exported_is_said_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load("line-fit").recipe.override({"loss.name": "CrossEntropyLoss"})
    async with studio(tmp_path / "runs", recipe=recipe) as opened:
        await opened.press("E")
        await opened.until(lambda: "Not exported" in notices(opened), "the refusal")
    assert not list(tmp_path.glob("*.py"))


async def test_your_own_code_is_not_run_beside_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "net.py"
    mine.write_text("from torch import nn\n\n\ndef make(outputs):\n    return nn.Linear(1, outputs)\n")
    own = {"model.layers": None, "model.python": f"{mine}:make", "training.epochs": 100_000}
    recipe = load("line-fit").recipe.override({**own, "training.device": "cpu"})
    async with studio(tmp_path / "runs", recipe=recipe) as opened:
        await opened.press("t")
        await opened.until_state("training")
        await opened.press("E")
        await opened.until(
            lambda: any("Stop it first" in each.message for each in opened.app._notifications), "the refusal"
        )
        assert list(tmp_path.glob("*.py")) == [mine]
