"""What the studio costs the training it shows, how soon it answers a key, how soon it is there.

    python benchmarks/studio.py [cost] [keys] [start] [--rounds 5] [--epochs 48]

`cost` trains W1 headless and under the studio, which is painted into a pty of 200 × 60, with four charts, whose other
end is read and thrown away, as a terminal at the end of an SSH connection would be. Both are timed by the run's own
clock. `keys` types letters into a filter while W1 trains and waits for each to appear. `start` is timed from the start
of the process; its last figures are what torch alone takes to be imported, and to make the first optimizer.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.made_data import write_mnist

COMMAND = Path(sys.executable).with_name("torch-tui")
_ROWS, _COLUMNS = 60, 200
_TRAIN = 60_000
_SETTLES_S = 15.0

_RECIPE = """
title = "W1"
task = "classification"
[data]
name = "MNIST"
batch_size = 64
split = {{ train = 1.0, val = 0.0, test = 0.0 }}
transforms = [{{ name = "Normalize", mean = [0.13], std = [0.31] }}]
[[model.layers]]
name = "Flatten"
[[model.layers]]
name = "Linear"
out_features = 128
[[model.layers]]
name = "ReLU"
[[model.layers]]
name = "Linear"
out_features = "classes"
[optimizer]
name = "SGD"
lr = 0.01
momentum = 0.9
[training]
epochs = {epochs}
device = "cpu"
"""


class Studio:
    """A studio in a pty. All that it writes is kept with the time at which it came."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._end, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key not in ("LINES", "COLUMNS", "NO_COLOR", "PYTHONDONTWRITEBYTECODE")
        }
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [str(COMMAND), *arguments],
            cwd=folder,
            env={**inherited, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._news = threading.Condition()
        self._written: list[tuple[float, bytes]] = []
        threading.Thread(target=self._drain, daemon=True).start()

    def press(self, keys: str) -> float:
        """Type; the time at which it was typed."""
        moment = time.perf_counter()
        os.write(self._end, keys.encode())
        return moment

    def wait_for(self, pattern: str, since: float, seconds: float = 120.0) -> tuple[float, re.Match[bytes]]:
        """The moment at which what was written after `since` came to match, and what matched."""
        sought, end = re.compile(pattern.encode(), re.DOTALL), time.perf_counter() + seconds
        with self._news:
            while True:
                text = b""
                for moment, data in self._written:
                    if moment >= since:
                        text = text[-4096:] + data
                        if found := sought.search(text):
                            return moment, found
                left = end - time.perf_counter()
                if left <= 0 or self.process.poll() is not None:
                    raise TimeoutError(f"{pattern} did not come: {text[-2000:]!r}")
                self._news.wait(min(left, 0.5))

    def forget(self) -> None:
        """Drop what was written so far."""
        with self._news:
            self._written.clear()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _drain(self) -> None:
        with contextlib.suppress(OSError):  # the other end is gone
            while data := os.read(self._end, 1 << 16):
                with self._news:
                    self._written.append((time.perf_counter(), data))
                    del self._written[:-5000]
                    self._news.notify_all()


def _rate(runs: Path, samples: int) -> float:
    """Samples a second of the only run in a folder, by its own clock, as its last checkpoint has it."""
    from engine.checkpoints.checkpoint import Checkpoints

    (run,) = (path for path in runs.iterdir() if (path / "recipe.toml").is_file())
    return samples / float(Checkpoints(run / "checkpoints").load_newest(print)[1].state["position"]["seconds"])


def headless(folder: Path, epochs: int) -> float:
    """Samples a second without a studio."""
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        command = [str(COMMAND), "train", "work.toml", "--runs", runs]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return _rate(Path(runs), epochs * _TRAIN)


@contextlib.contextmanager
def training(folder: Path) -> Iterator[tuple[Studio, Path]]:
    """A studio that trains."""
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        studio = Studio(folder, "open", "work.toml", "--runs", runs)
        try:
            moment, _ = studio.wait_for("784", studio.began)  # the shapes are known: torch is loaded
            studio.press("t")
            studio.wait_for("step [1-9]", moment)
            yield studio, Path(runs)
        finally:
            studio.close()


def under_studio(folder: Path, epochs: int) -> tuple[float, str]:
    """Samples a second under the studio, and what the studio says of itself."""
    with training(folder) as (studio, runs):
        time.sleep(_SETTLES_S)
        said = studio.press("w")
        cost = studio.wait_for(r"studio [0-9.]+ frames/s · [0-9.]+% of a core", said)[1].group().decode()
        studio.wait_for("✓ done", said, 600)
        time.sleep(0.5)
        return _rate(runs, epochs * _TRAIN), cost


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["cost", "keys", "start"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=48)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TORCH_TUI_DATA"] = name
        write_mnist(folder)
        if "cost" in chosen.what:
            (folder / "work.toml").write_text(_RECIPE.format(epochs=chosen.epochs))
            compare(folder, chosen.rounds, chosen.epochs)
        (folder / "work.toml").write_text(_RECIPE.format(epochs=10_000))
        if "keys" in chosen.what:
            keys(folder)
        if "start" in chosen.what:
            start(folder, chosen.rounds)


def compare(folder: Path, rounds: int, epochs: int) -> None:
    """Print what training under the studio is of training without it."""
    pairs, costs = [], []
    for _ in range(rounds):
        alone = headless(folder, epochs)
        shown, cost = under_studio(folder, epochs)
        pairs.append((alone, shown))
        costs.append(cost)
        print(f"  headless {alone:8,.0f}/s   studio {shown:8,.0f}/s   {shown / alone:.3f}   {cost}", flush=True)
    ratio = statistics.median(shown / alone for alone, shown in pairs)
    print(f"studio / headless  {ratio:.3f}, median of {rounds}")


def keys(folder: Path, presses: int = 200) -> None:
    """Print how long a typed letter takes to appear while W1 trains."""
    with training(folder) as (studio, _):
        moment = studio.press("/")
        time.sleep(1.0)
        letters = "¶§¤±µ¬¢£¥«»"  # nothing else on the screen is written with them
        taken = []
        for number in range(presses):
            letter = letters[number % len(letters)]
            time.sleep(0.05 + 0.037 * (number % 7))
            studio.forget()
            moment = studio.press(letter)
            shown, _ = studio.wait_for(letter, moment, 10)
            taken.append((shown - moment) * 1000)
            if number % 10 == 9:
                studio.press("\x15")  # empty the filter
        taken.sort()
        at = [taken[int(share * (presses - 1))] for share in (0.5, 0.9, 0.99)]
        print(f"key to repaint     p50 {at[0]:.0f} ms, p90 {at[1]:.0f} ms, p99 {at[2]:.0f} ms of {presses} presses")


def start(folder: Path, rounds: int) -> None:
    """Print how soon the studio is there, answers, and trains; beside torch's own import."""
    frame, answer, step = [], [], []
    bare = {"import torch": list[float](), "and an optimizer": list[float]()}
    for _ in range(rounds):
        for label, code in zip(bare, ("", "; torch.optim.SGD([torch.zeros(1, requires_grad=True)])"), strict=True):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import torch{code}"], check=True)
            bare[label].append(time.perf_counter() - began)
        with tempfile.TemporaryDirectory(dir=folder) as runs:
            studio = Studio(folder, TORCH_TUI_RUNS=runs)
            try:
                shown, _ = studio.wait_for("Presets", studio.began)
                frame.append(shown - studio.began)
                pressed = studio.press("/")
                # Its first letter is the cursor's.
                answer.append(studio.wait_for("ilter presets", pressed)[0] - studio.began)
            finally:
                studio.close()
            studio = Studio(folder, TORCH_TUI_RUNS=runs)
            try:
                shown, _ = studio.wait_for("Presets", studio.began)
                studio.press("t")
                # The first number of steps other than 0, or the end of so short a run.
                step.append(studio.wait_for(r"step [1-9]|✓ done", shown)[0] - studio.began)
            finally:
                studio.close()
    measured = {"first frame": frame, "a key is answered": answer, "first step is seen": step, **bare}
    for label, values in measured.items():
        print(f"{label:18} {statistics.median(values):6.2f} s, worst {max(values):.2f} s")


if __name__ == "__main__":
    main()
