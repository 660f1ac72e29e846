"""Exported files run as a person runs them who has torch and torchvision and nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from engine.recipe import Recipe
from engine.trials.trial import trial

STEPS_ONLY = ("--device", "cpu", "--steps")
# Runs each file with each list of arguments, in one process, so that torch is imported once.
_RUN = """
import contextlib, io, json, runpy, sys

AWAY = {"engine", "tui", "presets", "textual", "pydantic", "typer", "tomlkit", "safetensors"}

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in AWAY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
prepare, runs = json.loads(sys.argv[1])
exec(prepare)
for file, arguments in runs:
    sys.argv = [file, *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        runpy.run_path(file, run_name="__main__")
    print(json.dumps(said.getvalue()), flush=True)
assert not AWAY & set(sys.modules)
"""


def run_files(runs: Sequence[tuple[Path, Sequence[str]]], prepare: str = "") -> list[str]:
    """What each file prints. `prepare` is run before all of them."""
    orders = json.dumps([prepare, [(str(file), list(arguments)) for file, arguments in runs]])
    done = subprocess.run(
        [sys.executable, "-I", "-c", _RUN, orders],
        capture_output=True, text=True, timeout=170, cwd=runs[0][0].parent, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def losses(said: str) -> list[float]:
    """The losses that a file has printed of its steps."""
    return [float(line.split()[-1]) for line in said.splitlines() if line.startswith("step")]


def real_losses(recipe: Recipe, steps: int) -> list[float]:
    """The first losses of the recipe in torch-tui, in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        chosen = recipe.override({"training.device": "cpu", "training.threads": 1})
        with trial(chosen, lambda what, done, total: None) as tried:
            return list(tried.steps(steps))
    finally:
        torch.set_num_threads(threads)
