"""Training without the studio: the command in real processes, with real signals and a real terminal.

`installed` is it as a person starts it. Most are forked from one that has loaded torch, three seconds before.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pexpect  # type: ignore[import-untyped]
import pyte
import pytest
from forked import COMMAND
from nursery import Nursery

LONG = ("train", "line-fit", "--epochs", "100000")

pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason="torch-tui is not installed beside this Python")


def environment() -> dict[str, str]:
    # pytest-xdist sets COLUMNS and LINES, which would hide the real size of a terminal from Rich.
    dropped = ("NO_COLOR", "COLUMNS", "LINES")
    kept = {k: value for k, value in os.environ.items() if not k.startswith("TORCH_TUI_") and k not in dropped}
    return {**kept, "OMP_NUM_THREADS": "1"}


TorchTui = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def torch_tui(nursery: Nursery) -> TorchTui:
    """Runs the command to its end, without a terminal."""
    return partial(forked.run, nursery, environment=environment())


def installed(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Execute the installed command, and run it to its end without a terminal."""
    return subprocess.run(
        [str(COMMAND), *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def started(nursery: Nursery, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Start the command, its stdout in a pipe."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return forked.Forked(nursery, *arguments, cwd=str(folder), env=environment(), **pipes)


def read_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> str:
    """The first line of stdout that is wanted."""
    assert process.stdout is not None
    for line in process.stdout:
        if wanted(line):
            return line
    raise AssertionError(f"it ended with {process.wait()}: {process.stderr and process.stderr.read()}")


def the_run(folder: Path) -> Path:
    """The only run in `folder`."""
    (run,) = (folder / "runs").iterdir()
    return run


def events_of(text: str) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def write_custom_model(folder: Path, body: str) -> Path:
    """A recipe whose model is `body`, the forward method of a module with one Linear."""
    (folder / "model.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, outputs):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(1, outputs)\n"
        "    def forward(self, x):\n"
        f"        {body}\n"
    )
    recipe = folder / "custom.toml"
    recipe.write_text(
        'task = "regression"\n[data]\nname = "line"\n[model]\npython = "model.py:Net"\n'
        '[loss]\nname = "MSELoss"\n[training]\nepochs = 1\n'
    )
    return recipe


# To the end


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What `torch-tui` without arguments and without a terminal did, and the folder where it did it."""
    folder = tmp_path_factory.mktemp("default")
    return folder, installed(folder=folder)


def test_without_a_terminal_the_default_preset_is_trained(
    default: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = default
    assert done.returncode == 0, done.stderr
    run = the_run(folder)
    assert run.name.startswith("digits-mlp-")
    lines = done.stdout.splitlines()
    assert len([line for line in lines if re.search(r"epoch \d+/30 ", line)]) == 30
    assert len(lines) < 42, "a line an epoch and a few more"
    ending = dict(line.split(maxsplit=1) for line in lines[-4:])
    accuracy = re.match(r"accuracy (0\.\d+)", ending["test"])
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.9
    assert (folder / ending["run"]).samefile(run)
    assert "\x1b" not in done.stdout
    assert not done.stderr


def test_json_is_one_object_a_line_and_options_reach_the_recipe(torch_tui: TorchTui, tmp_path: Path) -> None:
    options = ("--epochs", "3", "--device", "cpu", "--name", "mine", "--set", "data.batch_size=64", "--runs", "kept")
    done = torch_tui("train", "line-fit", *options, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    events = events_of(done.stdout)
    first, *_, last = events
    assert (first["event"], first["device"], first["epochs"], first["resumed"]) == ("start", "cpu", 3, False)
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert [epoch["step"] for epoch in epochs] == [13, 26, 39]
    assert all({"loss", "r2"} <= epoch["train"].keys() and {"loss", "r2"} <= epoch["val"].keys() for epoch in epochs)
    assert (last["event"], last["state"], last["error"], last["resume"]) == ("end", "done", None, None)
    assert last["best"] == max(epoch["val"]["r2"] for epoch in epochs)
    (run,) = (tmp_path / "kept").iterdir()
    assert run.name.startswith("mine-")
    assert (tmp_path / last["directory"]).samefile(run)
    assert "batch_size = 64" in (run / "recipe.toml").read_text()


# Refused


def test_what_only_torch_can_refuse_is_refused_before_a_run_is_made(torch_tui: TorchTui, tmp_path: Path) -> None:
    done = torch_tui("train", "line-fit", "--device", "gpu7", "--set", "optimizer.lrr=1", folder=tmp_path)
    assert done.returncode == 2
    parameter, device = done.stderr.splitlines()
    assert parameter == "error: line-fit: optimizer.lrr: is not a parameter of SGD. Did you mean 'lr'?"
    assert device.startswith("error: line-fit: training.device: 'gpu7' is not a device. Use auto")
    assert not done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cant_hold_runs_is_refused(torch_tui: TorchTui, tmp_path: Path) -> None:
    done = torch_tui("train", "line-fit", "--runs", "/dev/null/runs", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: /dev/null/runs: a run can't be written there")
    assert done.stderr.count("\n") == 1


# Failed


def test_a_failing_model_is_status_1_with_one_line_and_the_traceback_in_the_log(
    torch_tui: TorchTui, tmp_path: Path
) -> None:
    write_custom_model(tmp_path, "return self.layer(x) if x.is_meta else self.lost")
    done = torch_tui("train", "custom.toml", "--json", folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*'Net' object has no attribute 'lost'.*\n", done.stderr)
    end = events_of(done.stdout)[-1]
    assert (end["event"], end["state"]) == ("end", "failed")
    assert end["error"].keys() == {"where", "what", "remedy"}
    assert "Traceback" in (the_run(tmp_path) / "log.txt").read_text()
    (listed,) = events_of(torch_tui("runs", "--json", folder=tmp_path).stdout)
    assert listed["state"] == "failed"
    assert "lost" in listed["reason"]


# Stopped


def test_ctrl_c_writes_a_checkpoint_and_the_run_can_be_resumed(
    torch_tui: TorchTui, nursery: Nursery, tmp_path: Path
) -> None:
    process = started(nursery, *LONG, "--set", 'training.checkpoint_every="1 h"', folder=tmp_path)
    read_until(process, lambda line: "epoch 2/" in line)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # passed on by a wrapper: the same one, not the second
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    name = the_run(tmp_path).name
    assert f"torch-tui resume {name}" in out
    assert any((the_run(tmp_path) / "checkpoints").iterdir())

    listed = torch_tui("runs", folder=tmp_path).stdout
    assert re.search(rf"{name} +stopped ", listed)
    shown = torch_tui("show", name[:9], folder=tmp_path).stdout
    assert "stopped" in shown
    assert "loss" in shown

    # Seven more epochs of the hundred thousand will do.
    recipe = the_run(tmp_path) / "recipe.toml"
    behind = events_of(torch_tui("runs", "--json", folder=tmp_path).stdout)[0]["epoch"]
    recipe.write_text(recipe.read_text().replace("100000", str(behind + 7)))
    resumed = torch_tui("resume", name, "--json", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    events = events_of(resumed.stdout)
    assert events[0]["resumed"]
    epochs = [event["epoch"] for event in events if event["event"] == "epoch"]
    assert epochs == list(range(epochs[0], behind + 8))
    assert epochs[0] - 1 in (behind, behind + 1)  # stopped within an epoch, or between two


def test_a_run_that_is_done_is_not_resumed(
    torch_tui: TorchTui, default: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    again = torch_tui("resume", "digits-mlp", folder=default[0])
    assert again.returncode == 2
    assert "is done" in again.stderr


def test_sigterm_stops_with_a_checkpoint_too(nursery: Nursery, tmp_path: Path) -> None:
    process = started(nursery, *LONG, "--json", folder=tmp_path)
    read_until(process, lambda line: '"event": "epoch"' in line)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    end = events_of(out)[-1]
    assert (end["event"], end["state"]) == ("end", "stopped")
    assert end["resume"] == f"torch-tui resume {end['run']}"
    assert any((the_run(tmp_path) / "checkpoints").iterdir())


def test_a_second_ctrl_c_leaves_a_step_that_never_ends(nursery: Nursery, tmp_path: Path) -> None:
    write_custom_model(tmp_path, "import time; time.sleep(0 if x.is_meta else 600); return self.layer(x)")
    process = started(nursery, "train", "custom.toml", folder=tmp_path)
    read_until(process, lambda line: "training samples" in line)
    process.send_signal(signal.SIGINT)
    read_until(process, lambda line: line.startswith("stopping"))
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130


def test_a_reader_that_leaves_is_a_quiet_stop(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {COMMAND} {' '.join(LONG)} | head -3"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130
    assert len(done.stdout.splitlines()) == 3
    assert not done.stderr
    assert any((the_run(tmp_path) / "checkpoints").iterdir())
    lists = subprocess.run(
        ["bash", "-c", f"{COMMAND} presets | head -1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (lists.returncode, lists.stderr) == (0, "")


# On a terminal


def on_terminal(nursery: Nursery, *arguments: str, folder: Path, columns: int = 80, **variables: str) -> pexpect.spawn:
    return forked.ForkedOnTerminal(
        nursery,
        *arguments,
        cwd=str(folder),
        env={**environment(), "TERM": "xterm-256color", **variables},
        dimensions=(24, columns),
        timeout=30,
        encoding="utf-8",
    )


def drawn(text: str, columns: int) -> list[str]:
    """The last screen that a terminal would have shown."""
    screen = pyte.Screen(columns, 24)
    pyte.Stream(screen).feed(text)
    return [line.rstrip() for line in screen.display]


def test_on_a_terminal_bars_are_live_and_gone_at_the_end(nursery: Nursery, tmp_path: Path) -> None:
    columns = 50
    terminal = on_terminal(nursery, *LONG, folder=tmp_path, columns=columns)
    terminal.expect("samples/s")
    seen = terminal.before + terminal.after
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    seen += terminal.before
    terminal.close()
    assert terminal.exitstatus == 130
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor is shown again"
    screen = "\n".join(drawn(seen, columns))
    assert "torch-tui resume line-fit-" in screen.replace("\n", "")
    assert "━" not in screen


def test_ctrl_c_on_a_terminal_spares_the_data_workers(nursery: Nursery, tmp_path: Path) -> None:
    terminal = on_terminal(nursery, *LONG, "--set", "data.num_workers=1", folder=tmp_path)
    terminal.expect("samples/s", timeout=60)
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130, terminal.before
    assert any((the_run(tmp_path) / "checkpoints").iterdir())


def test_a_terminal_that_can_do_nothing_gets_lines(nursery: Nursery, tmp_path: Path) -> None:
    terminal = on_terminal(nursery, folder=tmp_path, TERM="dumb")
    terminal.expect(r"epoch 2/30")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130
    assert "\x1b" not in terminal.before


# Looking back


def test_show_draws_the_curves_of_a_finished_run(
    torch_tui: TorchTui, default: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    folder, _ = default
    shown = torch_tui("show", "digits-mlp", folder=folder)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^state +done$", shown.stdout, re.MULTILINE)
    assert re.search(r"^test +accuracy 0\.\d+ · loss", shown.stdout, re.MULTILINE)
    assert re.search(r"^loss +━ train .* val ", shown.stdout, re.MULTILINE)
    assert re.search(r"^accuracy +━ train .* val ", shown.stdout, re.MULTILINE)
    assert re.search("[⠁-⣿]", shown.stdout)
    assert "\x1b" not in shown.stdout
    (values,) = events_of(torch_tui("show", the_run(folder).name, "--json", folder=folder).stdout)
    assert values["recipe"]["training"]["epochs"] == 30
    assert values["last"]["val/accuracy"]["step"] == 30 * 63
