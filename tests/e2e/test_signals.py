"""What becomes of a training when its terminal goes, or the system wants it to end: real processes, signals, ptys.

Most are forked from a process that has loaded torch: what comes after that is what is tested.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import psutil
import pytest
from forked import COMMAND, Forked
from nursery import Nursery
from terminal_driver import Terminal

import presets
from engine.runs.directory import RunDirectory

pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason="torch-tui is not installed beside this Python")


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TORCH_TUI_")}
    return {**kept, "OMP_NUM_THREADS": "1"}


def line_fit(folder: Path, epochs: int) -> str:
    """A recipe file of the preset, with so many epochs."""
    recipe = presets.load("line-fit").recipe.override({"training.epochs": epochs, "training.health_every": 0})
    (folder / "line.toml").write_text(recipe.to_toml())
    return "line.toml"


def sleeper(folder: Path, seconds: float, workers: int = 0) -> str:
    """A recipe whose every step sleeps."""
    (folder / "model.py").write_text(
        "import time, torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, outputs):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(1, outputs)\n"
        "    def forward(self, x):\n"
        f"        time.sleep(0 if x.is_meta else {seconds})\n"
        "        return self.layer(x)\n"
    )
    (folder / "sleeper.toml").write_text(
        f'task = "regression"\n[data]\nname = "line"\nnum_workers = {workers}\nin_memory = {str(not workers).lower()}\n'
        '[model]\npython = "model.py:Net"\n[loss]\nname = "MSELoss"\n[training]\nepochs = 1\nlimit_batches = 40\n'
        "health_every = 0\n"
    )
    return "sleeper.toml"


def the_run(folder: Path) -> RunDirectory:
    """The only run in `folder`."""
    (path,) = (folder / "runs").iterdir()
    return RunDirectory(path)


def started(nursery: Nursery, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    """The command without a terminal, its output in pipes."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Forked(nursery, *arguments, cwd=str(folder), env=environment(), **pipes)


def read_until(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    assert any(wanted in line for line in process.stdout), process.communicate()


@contextmanager
def hung_up(spawned: pexpect.spawn) -> Iterator[psutil.Process]:
    """The process after its terminal was taken away, as sshd does when the connection drops."""
    process = psutil.Process(spawned.pid)
    spawned.ptyproc.fileobj.close()
    spawned.closed = spawned.ptyproc.closed = True
    spawned.terminated = spawned.ptyproc.terminated = True  # for pexpect: its end is waited for here
    try:
        yield process
    finally:
        if process.is_running():
            process.kill()


def busy(process: psutil.Process, seconds: float) -> float:
    """The share of one core that a process uses."""
    return float(process.cpu_percent(seconds)) / 100


def until(reached: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.05)


def training(folder: Path) -> bool:
    """Whether the only run has come to train, and has its first checkpoint."""
    if not (folder / "runs").exists():
        return False
    run = the_run(folder)
    return run.status().state == "training" and any(run.checkpoints.glob("epoch-*"))


# The terminal is gone


def test_a_training_outlives_its_terminal_and_ends_as_usual(nursery: Nursery, tmp_path: Path) -> None:
    with Terminal("train", "line-fit", "--epochs", "100", folder=tmp_path, nursery=nursery) as terminal:
        terminal.shows("samples/s")
        with hung_up(terminal.process) as process:
            assert process.wait(60) == 0
    status = the_run(tmp_path).status()
    assert (status.state, status.facts["epoch"]) == ("done", 100)
    assert status.summary is not None
    assert status.summary.test, "it was tested in the end"


def test_a_training_without_its_terminal_keeps_its_data_workers_and_still_obeys_sigterm(
    nursery: Nursery, tmp_path: Path
) -> None:
    with Terminal("train", sleeper(tmp_path, 0.2, workers=2), folder=tmp_path, nursery=nursery) as terminal:
        terminal.shows("samples/s")
        with hung_up(terminal.process) as process:
            time.sleep(0.5)
            assert busy(process, 1.0) < 0.5, "it spins"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 143
    assert the_run(tmp_path).status().state == "stopped", "a worker that dies of SIGHUP is a failure"
    assert list(the_run(tmp_path).checkpoints.glob("epoch-00000-step-*[1-9]*"))


@pytest.mark.parametrize("shell", ["", "nohup "])
def test_output_that_leads_elsewhere_is_written_to_the_end(tmp_path: Path, shell: str) -> None:
    said = tmp_path / "said.txt"
    spawned = pexpect.spawn(
        "/bin/sh",
        ["-c", f"exec {shell}{COMMAND} train line-fit --epochs 60 > {said} 2>&1"],
        cwd=str(tmp_path),
        env=environment(),
    )
    until(lambda: said.exists() and "epoch 2/" in said.read_text(), "the second epoch")
    with hung_up(spawned) as process:
        assert process.wait(60) == 0
    lines = said.read_text().splitlines()
    assert any("epoch 60/60" in line for line in lines)
    assert lines[-1].startswith("run ")


def test_a_reader_that_went_with_the_terminal_does_not_end_the_training(nursery: Nursery, tmp_path: Path) -> None:
    """`torch-tui train … | tee log` in a connection that drops: tee dies of SIGHUP, and the pipe breaks."""
    process = started(nursery, "train", "line-fit", "--epochs", "60", folder=tmp_path)
    read_until(process, "epoch 2/")
    process.send_signal(signal.SIGHUP)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert the_run(tmp_path).status().state == "done"


def test_a_studio_outlives_its_terminal_and_trains_to_the_end(nursery: Nursery, tmp_path: Path) -> None:
    with Terminal(line_fit(tmp_path, 400), folder=tmp_path, nursery=nursery) as terminal:
        terminal.shows("31 parameters")
        terminal.press("t")
        terminal.shows("● training")
        with hung_up(terminal.process) as process:
            assert process.wait(60) == 0
    status = the_run(tmp_path).status()
    assert (status.state, status.facts["epoch"]) == ("done", 400)


def test_a_studio_without_its_terminal_does_not_spin_and_still_obeys_sigterm(nursery: Nursery, tmp_path: Path) -> None:
    with Terminal(sleeper(tmp_path, 0.3), folder=tmp_path, nursery=nursery) as terminal:
        terminal.shows("2 parameters")
        terminal.press("t")
        terminal.shows("● training")
        with hung_up(terminal.process) as process:
            time.sleep(2)
            assert busy(process, 1.0) < 0.5, "it spins"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 143
    assert the_run(tmp_path).status().state == "stopped"


def test_a_paused_run_is_stopped_when_the_studio_loses_its_terminal(nursery: Nursery, tmp_path: Path) -> None:
    """Nobody is left who could let it go on; it can be resumed."""
    with Terminal(line_fit(tmp_path, 100_000), folder=tmp_path, nursery=nursery) as terminal:
        terminal.shows("31 parameters")
        terminal.press("t")
        terminal.shows("● training")
        terminal.press(" ")
        until(lambda: terminal.read(0.05) or the_run(tmp_path).status().state == "paused", "the pause")
        with hung_up(terminal.process) as process:
            assert process.wait(20) == 129
    assert the_run(tmp_path).status().state == "stopped"


# The system, or the person, wants it to end


@contextmanager
def told_to_end_with_all_its_processes(
    nursery: Nursery, folder: Path, *, at_work: bool
) -> Iterator[subprocess.Popen[str]]:
    """A training with two data workers after a SIGTERM to all its processes: these start, or are at work."""
    process = started(nursery, "train", sleeper(folder, 0.2, workers=2), "--json", folder=folder)
    try:
        until(lambda: training(folder), "the first checkpoint")
        assert process.stdout is not None
        assert not at_work or any(json.loads(line).get("step") for line in process.stdout), process.communicate()
        os.killpg(process.pid, signal.SIGTERM)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_sigterm_to_all_processes_at_once_stops_a_training_with_workers_as_usual(
    nursery: Nursery, tmp_path: Path
) -> None:
    """Slurm, systemd and `kill -- -GROUP` tell the data workers, and what starts them, as well."""
    with told_to_end_with_all_its_processes(nursery, tmp_path, at_work=True) as process:
        out, err = process.communicate(timeout=15)
    assert (process.returncode, err) == (143, "")
    end = json.loads(out.splitlines()[-1])
    assert (end["event"], end["state"], end["error"]) == ("end", "stopped", None)
    assert end["resume"] == f"torch-tui resume {end['run']}"
    assert '"stopped, with a checkpoint"' in out
    assert the_run(tmp_path).status().state == "stopped"


def test_a_sigterm_to_all_processes_while_workers_start_is_no_failure(nursery: Nursery, tmp_path: Path) -> None:
    """Each imports torch first; where that takes longer than ten seconds, the training is left as it began."""
    with told_to_end_with_all_its_processes(nursery, tmp_path, at_work=False) as process:
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert the_run(tmp_path).status().state in ("stopped", "interrupted")


def test_a_step_that_hangs_is_left_within_ten_seconds_and_what_is_lost_is_said(
    nursery: Nursery, tmp_path: Path
) -> None:
    """Without the studio and in it, all at once: most of the time is waiting."""
    folders = [tmp_path / name for name in ("int", "term", "studio")]
    for folder in folders:
        folder.mkdir()
        sleeper(folder, 60)
    by_int, by_term, in_studio = folders
    with Terminal("sleeper.toml", folder=in_studio, nursery=nursery) as terminal:
        headless = [started(nursery, "train", "sleeper.toml", folder=folder) for folder in (by_int, by_term)]
        terminal.shows("2 parameters")
        terminal.press("t")
        until(lambda: terminal.read(0.05) or all(map(training, folders)), "the first step of each")
        began = time.monotonic()
        headless[0].send_signal(signal.SIGINT)
        headless[1].send_signal(signal.SIGTERM)
        os.kill(terminal.process.pid, signal.SIGTERM)
        assert terminal.end() == 143
        said = [process.communicate(timeout=10)[1] for process in headless]
        assert 9 < time.monotonic() - began < 10, "there is time for a checkpoint, and no more"
        assert [process.returncode for process in headless] == [130, 143]
    loss = r"error: sleeper-\S+: no checkpoint could be written in time; the last one is epoch-0+-step-0+\.\n"
    assert all(re.fullmatch(loss, text) for text in said), said
    assert "no checkpoint could be written in time" in terminal.page
    assert [the_run(folder).status().state for folder in folders] == ["interrupted"] * 3
