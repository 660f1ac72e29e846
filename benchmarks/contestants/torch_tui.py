"""torch-tui, headless: a job, as `torch-tui train` runs it.

Its speed is by the run's own clock, which leaves out nothing from before the first step to the last checkpoint: one or
two percent less than the others' stopwatch would say of it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.contestants.race import Race
from engine.checkpoints.checkpoint import Checkpoints
from engine.job import Job
from engine.recipe import Recipe


def finish(race: Race, checkpoints: Path) -> None:
    """Print the result of a run that is done."""
    loaded = Checkpoints(checkpoints).load_newest(print)[1]
    model = race.work.make()
    model.load_state_dict(loaded.weights)
    position = loaded.state["position"]
    if position["step"] != race.epochs * race.steps:
        raise RuntimeError(f"{position['step']} steps were taken, not {race.epochs * race.steps}")
    race.finish(position["step"] * race.work.batch / float(position["seconds"]), model, "torch-tui")


def main() -> None:
    race = Race.entered()
    os.environ["TORCH_TUI_DATA"] = str(race.root)
    with tempfile.TemporaryDirectory() as runs:
        recipe = Recipe.from_values(race.recipe())
        job = Job.create(recipe, Path(runs), "race")
        job.start()
        job.join()
        if job.history.error is not None:
            raise job.history.error
        finish(race, job.directory.checkpoints)


if __name__ == "__main__":
    main()
