"""The first losses of every bundled preset, kept: a speed-up that changes the mathematics is seen here.

After a change that is meant to change them: `python tests/presets/test_golden.py` writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import presets
from engine.data.sources import sources
from engine.trials.trial import trial

_FILE = Path(__file__).with_name("golden_losses.json")
_STEPS = 20
_NAMES = [preset.name for preset in presets.presets() if sources()[preset.recipe.data.name].origin != "download"]
# Another build of torch sums in another order; what changes the mathematics changes far more.
_TOLERANCE = 2e-4


def first_losses(name: str, **changes: object) -> list[float]:
    """The losses of the first steps, in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        recipe = presets.load(name).recipe.override({"training.device": "cpu", "training.threads": 1, **changes})
        with trial(recipe, lambda what, done, total: None) as tried:
            return list(tried.steps(_STEPS))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", _NAMES)
def test_the_first_losses_are_those_that_were_kept(name: str) -> None:
    kept = json.loads(_FILE.read_text())

    assert first_losses(name) == pytest.approx(kept[name], rel=_TOLERANCE)


def test_another_seed_has_other_losses() -> None:
    kept = json.loads(_FILE.read_text())

    assert first_losses("digits-mlp", **{"training.seed": 1}) != pytest.approx(kept["digits-mlp"], rel=_TOLERANCE)


if __name__ == "__main__":
    losses = {name: [float(f"{loss:.7g}") for loss in first_losses(name)] for name in _NAMES}
    _FILE.write_text(json.dumps(losses, indent=1) + "\n")
