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
from exported_runs import losses_of, real_losses, run_files

import presets
from engine.export.python import identifier, python_file
from engine.paths import bundled

_HERE = Path(__file__).parent
_GOLDEN = json.loads((_HERE.parents[1] / "presets" / "golden_losses.json").read_text())
_STEPS = 4
NAMES = [preset.name for preset in presets.presets()]


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
    """The exported file of each preset."""
    folder, found = tmp_path_factory.mktemp("exported"), {}
    for name in NAMES:
        found[name] = folder / f"{identifier(name)}.py"
        found[name].write_text(python_file(presets.load(name).recipe, name), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def first(files: dict[str, Path], prepare: str) -> dict[str, list[float]]:
    """The first losses of each file."""
    return losses_of(files, _STEPS, prepare)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_losses_of_an_exported_preset_are_those_of_its_training(
    name: str, first: dict[str, list[float]], prepare: str
) -> None:
    expected = real_losses(presets.load(name).recipe, _STEPS)
    assert first[name][0] == pytest.approx(expected[0], rel=1e-6)
    # What the optimizer makes of it: torch-tui takes a step in one kernel, which rounds otherwise.
    assert first[name] == pytest.approx(expected, rel=1e-4)
    if name in _GOLDEN:
        assert first[name] == pytest.approx(_GOLDEN[name][:_STEPS], rel=2e-4)


def test_another_seed_has_another_first_loss(first: dict[str, list[float]], tmp_path: Path) -> None:
    # The twin of the test above: losses that don't depend on what is drawn would be alike too.
    others = {"training.seed": tmp_path / "weights.py", "data.split.seed": tmp_path / "split.py"}
    for key, file in others.items():
        file.write_text(python_file(presets.load("digits-mlp").recipe.override({key: 1}), key), encoding="utf-8")
    for found in losses_of(others, 1).values():
        assert found[0] != pytest.approx(first["digits-mlp"][0], rel=1e-4)


def test_exported_presets_are_clean_python(files: dict[str, Path]) -> None:
    config = ["--no-cache", "--config", str(_HERE.parents[2] / "pyproject.toml"), *map(str, files.values())]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *config], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_a_whole_run_measures_and_keeps_the_best_weights(files: dict[str, Path], prepare: str) -> None:
    file = files["line-fit"]
    said = run_files([(file, ["--epochs", "3"])])[0].splitlines()
    assert [line.split()[1] for line in said if line.startswith("epoch")] == ["1/3", "2/3", "3/3"]
    assert said[-2].startswith("test loss ")
    assert said[-1] == f"The best weights are in {file.with_suffix('.pt')}."
    assert file.with_suffix(".pt").exists()


def test_the_text_of_an_export_is_as_it_was_reviewed() -> None:
    """After a change that is meant: `python tests/engine/export/test_exported_presets.py` writes it anew."""
    assert _reviewed() == (_HERE / "digits_cnn.txt").read_text(encoding="utf-8")


def _reviewed() -> str:
    text = python_file(presets.load("digits-cnn").recipe, "digits-cnn")
    return text.replace(str(bundled("mnist5k.npz").parent), "/somewhere")


if __name__ == "__main__":
    (_HERE / "digits_cnn.txt").write_text(_reviewed(), encoding="utf-8")
