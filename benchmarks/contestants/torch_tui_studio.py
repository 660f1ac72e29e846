"""torch-tui under its studio, which is painted into a pty: started, `t` pressed, read from the run's directory.

Timed by the run's own clock, as the headless one is.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.contestants.race import Race
from benchmarks.contestants.torch_tui import finish
from benchmarks.studio import Studio
from engine.recipe import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.history import LIVE

_STARTS_S, _LOOK_S = 30.0, 0.5


def started(runs: Path) -> RunDirectory:
    """The run that the studio has begun. Raises TimeoutError where there is none after a while."""
    until = time.monotonic() + _STARTS_S
    while time.monotonic() < until:
        for recipe in runs.glob("*/recipe.toml"):
            return RunDirectory(recipe.parent)
        time.sleep(_LOOK_S)
    raise TimeoutError(f"the studio has begun no run within {_STARTS_S:.0f} s")


def main() -> None:
    race = Race.entered()
    if race.work.data == "CIFAR10":
        raise SystemExit("torchvision compares CIFAR10's files with the real ones' hashes, and so does the studio")
    os.environ["TORCH_TUI_DATA"] = str(race.root)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = Recipe.from_values(race.recipe())
        (folder / "work.toml").write_text(recipe.to_toml())
        studio = Studio(folder, "open", "work.toml", "--runs", str(folder / "runs"))
        try:
            studio.wait_for("[0-9,]+ parameters", studio.began)  # torch is loaded and the model is made
            studio.press("t")
            run = started(folder / "runs")
            # A run without facts yet looks like an interrupted one, so the process is asked too.
            while (status := run.status()).state in (*LIVE, "interrupted") and studio.process.poll() is None:
                time.sleep(_LOOK_S)  # seldom: looking takes from what is timed
        finally:
            studio.close()
        if status.state != "done":
            raise SystemExit(f"the run has {status.state}: {status.reason}")
        finish(race, run.checkpoints)


if __name__ == "__main__":
    main()
