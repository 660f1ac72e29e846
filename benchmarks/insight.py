"""What health hooks, phase timing and the monitor cost together: the same training with them and without, interleaved.

    python benchmarks/insight.py [ROUNDS]

Prints the median seconds of each and their ratio; the promise is at most 1.01. The model is small on purpose: on larger
ones a step takes longer and the share is less.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch

import presets
from engine.devices.monitor import Monitor
from engine.insight.phases import Phases
from engine.job import Job

_EPOCHS = 15
_WITHOUT = {name: lambda self, *given, **named: None for name in ("mark", "begin_step", "moved", "times", "restart")}


def seconds(root: Path, *, insight: bool) -> float:
    """Of work, for a run of the digits' perceptron."""
    changes = {"training.epochs": _EPOCHS, "training.device": "cpu", "training.checkpoint_every": "1000 epochs"}
    recipe = presets.load("digits-mlp").recipe
    looks = recipe.training.health_every if insight else 0
    recipe = recipe.override({**changes, "training.health_every": looks})
    monitor = Monitor()
    if insight:
        monitor.start()
    job = Job.create(recipe, root, "insight", monitor=monitor)
    if insight:
        job.start()
        job.join()
    else:
        with patch.multiple(Phases, **_WITHOUT):
            job.start()
            job.join()
    monitor.stop()
    assert job.history.summary is not None, job.history.error
    return job.history.summary.seconds


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    # Two threads on two cores stall when anything else wants a core; what is measured here is ours, not that.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        seconds(Path(folder), insight=True)  # the first loads and allocates
        pairs = [(seconds(Path(folder), insight=True), seconds(Path(folder), insight=False)) for _ in range(rounds)]
    steps = _EPOCHS * 63
    with_all, without = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(first / second for first, second in pairs)
    print(f"{rounds} rounds of {steps} steps, one thread")
    print(f"with     {with_all:6.3f} s  {with_all / steps * 1e6:6.0f} µs a step")
    print(f"without  {without:6.3f} s  {without / steps * 1e6:6.0f} µs a step")
    print(f"ratio    {ratio:6.3f}")


if __name__ == "__main__":
    main()
