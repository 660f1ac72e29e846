"""Every preset's exported file trains without torch-tui, and its losses are torch-tui's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import made_data
import pytest
import torchvision
from exported_runs import STEPS_ONLY, losses, real_losses, run_files

import presets
from engine.export.python import identifier, python_file
from engine.paths import bundled
from engine.recipe import Recipe

_HERE = Path(__file__).parent
_GOLDEN = json.loads((_HERE.parents[1] / "presets" / "golden_losses.json").read_text())
_STEPS = 4
_SEEDS = ("training.seed", "data.split.seed")
_WHOLE = "a whole run"
NAMES = [preset.name for preset in presets.presets()]


def preset(name: str) -> Recipe:
    """The preset as it is, but for large pictures in small batches: the test shall be short."""
    recipe = presets.load(name).recipe
    return recipe.override({"data.batch_size": 16}) if recipe.data.name == "CIFAR10" else recipe


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def prepare(tmp_path_factory: pytest.TempPathFactory, patched: pytest.MonkeyPatch) -> str:
    """Made data in the place of what is downloaded, for this process too; the code that says so to another."""
    root = tmp_path_factory.mktemp("data")
    patched.setenv("TORCH_TUI_DATA", str(root))
    code = made_data.make(root)
    kind = torchvision.datasets.CIFAR10
    for name in ("train_list", "test_list", "meta"):
        patched.setattr(kind, name, getattr(kind, name))  # as it was, afterwards
    exec(code)
    return code


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, prepare: str) -> dict[str, Path]:
    """The exported file of each preset, and of one with other seeds."""
    folder, found = tmp_path_factory.mktemp("exported"), {}
    # The twins of the first losses: those that don't depend on what is drawn would be alike with other seeds.
    others = {key: preset("digits-mlp").override({key: 1}) for key in _SEEDS}
    for name, recipe in {**{name: preset(name) for name in NAMES}, **others}.items():
        found[name] = folder / f"{identifier(name)}.py"
        found[name].write_text(python_file(recipe, name), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def said(files: dict[str, Path], prepare: str) -> dict[str, str]:
    """What each file prints of its first steps, and one of a whole run."""
    runs = {name: (file, (*STEPS_ONLY, str(_STEPS))) for name, file in files.items()}
    runs[_WHOLE] = files["line-fit"], ("--epochs", "3")
    return dict(zip(runs, run_files(list(runs.values()), prepare), strict=True))


@pytest.fixture(scope="module")
def first(said: dict[str, str]) -> dict[str, list[float]]:
    """The first losses of each file."""
    return {name: losses(text) for name, text in said.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_first_losses_of_an_exported_preset_are_those_of_its_training(
    name: str, first: dict[str, list[float]], prepare: str
) -> None:
    expected = real_losses(preset(name), _STEPS)
    assert first[name][0] == pytest.approx(expected[0], rel=1e-6)
    # What the optimizer makes of it: torch-tui takes a step in one kernel, which rounds otherwise.
    assert first[name] == pytest.approx(expected, rel=1e-4)
    if name in _GOLDEN:
        assert first[name] == pytest.approx(_GOLDEN[name][:_STEPS], rel=2e-4)


@pytest.mark.parametrize("key", _SEEDS)
def test_another_seed_has_another_first_loss(key: str, first: dict[str, list[float]]) -> None:
    assert first[key][0] != pytest.approx(first["digits-mlp"][0], rel=1e-4)


def test_exported_presets_are_clean_python(files: dict[str, Path]) -> None:
    config = ["--no-cache", "--config", str(_HERE.parents[2] / "pyproject.toml"), *map(str, files.values())]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *config], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_a_whole_run_measures_and_keeps_the_best_weights(files: dict[str, Path], said: dict[str, str]) -> None:
    file, lines = files["line-fit"], said[_WHOLE].splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/3", "2/3", "3/3"]
    assert lines[-2].startswith("test loss ")
    assert lines[-1] == f"The best weights are in {file.with_suffix('.pt')}."
    assert file.with_suffix(".pt").exists()


def test_the_text_of_an_export_is_as_it_was_reviewed() -> None:
    """After a change that is meant: `python tests/engine/export/test_exported_presets.py` writes it anew."""
    assert _reviewed() == (_HERE / "digits_cnn.txt").read_text(encoding="utf-8")


def _reviewed() -> str:
    text = python_file(presets.load("digits-cnn").recipe, "digits-cnn")
    return text.replace(str(bundled("mnist5k.npz").parent), "/somewhere")


if __name__ == "__main__":
    (_HERE / "digits_cnn.txt").write_text(_reviewed(), encoding="utf-8")
