"""The installed `torch-tui` in a real terminal, from its first frame to the shell's prompt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pexpect
import pytest
from nursery import Nursery
from terminal_driver import Terminal

import presets

BRAILLE = [chr(code) for code in range(0x2801, 0x2900)]
ENTER = "\r"
DOWN = "\x1b[B"


def in_short(folder: Path) -> str:
    """A recipe file of the default preset, with two epochs in place of thirty."""
    recipe = presets.load("digits-mlp").recipe.override({"training.epochs": 2})
    (folder / "digits-mlp.toml").write_text(recipe.to_toml())
    return "digits-mlp.toml"


def opened(terminal: Terminal) -> None:
    terminal.shows("101,770 parameters")


def test_the_main_job_end_to_end_twice(tmp_path: Path) -> None:
    with Terminal(folder=tmp_path) as terminal:
        opened(terminal)
        terminal.press(DOWN)
        terminal.shows("431,080 parameters")
        terminal.press("\x1b[A")
        terminal.shows("101,770 parameters")
        terminal.press("t")
        terminal.until(lambda page: any(character in BRAILLE for character in page), "the curve")
        terminal.shows("best val accuracy")
        terminal.shows("test accuracy")
        terminal.press("t")
        terminal.until(lambda page: len(list((tmp_path / "runs").iterdir())) == 2, "the second run")
        second = max((tmp_path / "runs").iterdir(), key=lambda run: run.stat().st_mtime).name
        terminal.until(lambda page: second in page and "best val accuracy" in page, "the end of the second run")
        terminal.press("q")
        assert terminal.end() == 0
    runs = sorted((tmp_path / "runs").iterdir())
    assert len(runs) == 2
    for run in runs:
        names = {path.name for path in run.iterdir()}
        assert {"recipe.toml", "metrics.sqlite", "log.txt", "checkpoints", "environment.json"} <= names


def test_the_first_frame_does_not_wait_for_the_settings(tmp_path: Path) -> None:
    with Terminal(folder=tmp_path) as terminal:
        terminal.process.expect("Presets", timeout=60)
        assert b"batch_size" not in terminal.process.before
        terminal.process.expect("mnist5k", timeout=60)
        assert b"batch_size" not in terminal.process.before  # what costs nothing to know is in the same frame
        terminal.process.expect("batch_size", timeout=60)


def test_the_terminal_is_left_as_it_was_found(tmp_path: Path) -> None:
    """A shell on the same pty sees the cooked mode, the cursor and the main screen again."""
    shell = pexpect.spawn("/bin/sh", ["-i"], cwd=str(tmp_path), dimensions=(40, 120), timeout=60, echo=True)
    try:
        before = termios.tcgetattr(shell.child_fd)
        environment = "env -u LINES -u COLUMNS TERM=xterm-256color"
        shell.sendline(f"{environment} {Path(sys.executable).with_name('torch-tui')}; echo left-with-$?")
        shell.expect("101,770")
        shell.send("q")
        shell.expect("left-with-0")
        written = shell.before
        assert b"\x1b[?1049l" in written, "the alternate screen is not left"
        assert b"\x1b[?25h" in written, "the cursor is not shown again"
        assert b"\x1b[?1000l" in written, "the mouse is still captured"
        assert termios.tcgetattr(shell.child_fd)[3] == before[3], "echo or line mode is not what it was"
    finally:
        shell.close(force=True)


def test_data_loader_workers_train_under_the_studio(nursery: Nursery, tmp_path: Path) -> None:
    recipe = tmp_path / "workers.toml"
    recipe.write_text(
        textwrap.dedent(
            """
            title = "workers"
            task = "regression"
            [data]
            name = "line"
            num_workers = 2
            [[model.layers]]
            name = "Linear"
            out_features = "targets"
            [loss]
            name = "MSELoss"
            [training]
            epochs = 2
            """
        )
    )
    with Terminal(str(recipe), folder=tmp_path, nursery=nursery) as terminal:
        terminal.shows("2 parameters")
        terminal.press("t")
        terminal.shows("best val r2", seconds=90)
        terminal.press("q")
        assert terminal.end() == 0
    children = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in children, "a worker outlived the studio"


def test_rubbish_on_the_terminal_lands_in_the_log(nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "import os\nfrom torch import nn\n\nclass Noisy(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(1, 1)\n"
        "        os.write(1, b'rubbish-from-C-one\\n')\n        os.write(2, b'rubbish-from-C-two\\n')\n"
        "    def forward(self, x):\n        return self.layer(x)\n"
    )
    recipe = tmp_path / "noisy.toml"
    recipe.write_text(
        'task = "regression"\n[data]\nname = "line"\n[model]\npython = "noisy.py:Noisy"\n'
        '[loss]\nname = "MSELoss"\n[training]\nepochs = 1\n'
    )
    with Terminal(str(recipe), folder=tmp_path, nursery=nursery) as terminal:
        terminal.shows("2 parameters")
        terminal.shows("rubbish-from-C-two")
        line = next(number for number, line in enumerate(terminal.lines) if "rubbish-from-C-two" in line)
        top = next(number for number, line in enumerate(terminal.lines) if "Log 7" in line)
        assert line > top, "it was written across the screen"
        assert terminal.lines[line].startswith("│"), "it tore the pane's border"
        terminal.press("q")
        assert terminal.end() == 0


def test_own_code_that_never_ends_does_not_keep_the_studio_from_ending(nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        "import pathlib, time\n\ndef darker(pictures):\n    pathlib.Path('began').touch()\n    time.sleep(1000)\n"
    )
    recipe = presets.load("digits-mlp").recipe
    steps = [{"name": "Lambda", "lambd": "stuck.py:darker"}]
    (tmp_path / "stuck.toml").write_text(recipe.override({"data.transforms": steps}).to_toml())
    with Terminal("stuck.toml", folder=tmp_path, nursery=nursery) as terminal:
        terminal.shows("stuck")
        while not (tmp_path / "began").exists():
            time.sleep(0.1)
        terminal.press("q")
        assert terminal.end() == 0


def test_sigterm_writes_a_checkpoint_and_gives_the_terminal_back(tmp_path: Path) -> None:
    with Terminal(folder=tmp_path) as terminal:
        opened(terminal)
        terminal.press(DOWN)
        terminal.shows("431,080 parameters")
        terminal.press("t")
        terminal.shows("● training")
        os.kill(terminal.process.pid, signal.SIGTERM)
        assert terminal.end() == 143
    run = next((tmp_path / "runs").iterdir())
    assert list((run / "checkpoints").glob("epoch-*"))


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_other_sizes_do_the_main_job_too(nursery: Nursery, tmp_path: Path, size: tuple[int, int]) -> None:
    columns, rows = size
    with Terminal(in_short(tmp_path), folder=tmp_path, nursery=nursery, columns=columns, rows=rows) as terminal:
        terminal.shows("digits-mlp")
        terminal.press("t")
        terminal.shows("best val accuracy", seconds=90)
        terminal.press("q")
        assert terminal.end() == 0


def test_without_colours_the_studio_still_works(nursery: Nursery, tmp_path: Path) -> None:
    colourless = {"NO_COLOR": "1", "TERM": "xterm", "COLORTERM": ""}
    with Terminal(in_short(tmp_path), folder=tmp_path, nursery=nursery, environment=colourless) as terminal:
        opened(terminal)
        terminal.press("t")
        terminal.shows("best val accuracy", seconds=90)
        terminal.press("q")
        assert terminal.end() == 0
